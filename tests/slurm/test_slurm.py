#!/usr/bin/env python3
"""The job scripts under a real Slurm on two emulated nodes: time limit and requeue, scancel, an array, a node that fails.

Exit code 77, with the reason, where Slurm is not installed or namespaces are refused."""

import contextlib
import csv
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PROGRAM = os.environ.get("MIXSERVE", str(ROOT / "build/mixserve"))
CLUSTER = HERE / "slurm-cluster"
NODES = "mxslurm"
# Few sequences at once, so that a job of few prompts takes a while.
RUN_OPTIONS = ("--kv-cache-memory", "64MiB", "--max-num-seqs", "2")
LIMIT_S = 1200  # for a hang; on a loaded machine jobs take long

os.environ["MINICLUSTER"] = NODES


def call(*command, **options):
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, **options).stdout


def ranks_on(output):
    """The processes of mixserve that write to a folder."""
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            arguments = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # gone
        if pathlib.Path(arguments[0]).name == "mixserve" and f"outputs/{output.name}" in arguments:
            yield int(folder.name)


def has_pending(process, signal_number):
    """Whether a signal waits for a process, or the process is gone."""
    try:
        status = pathlib.Path(f"/proc/{process}/status").read_text()
    except OSError:
        return True
    return int(re.search(r"ShdPnd:\s*(\w+)", status).group(1), 16) & 1 << (signal_number - 1) != 0


@contextlib.contextmanager
def stopped(processes):
    """Lets processes stand still for a while."""
    processes = list(processes)
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield processes
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


class Slurm(unittest.TestCase):
    """Jobs are submitted from a folder that has what the project's folder has."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        (self.folder / "build").mkdir()
        (self.folder / "outputs").mkdir()
        (self.folder / "build/mixserve").symlink_to(PROGRAM)
        (self.folder / "jobscripts").symlink_to(ROOT / "jobscripts")
        self.jobs = []
        self.addCleanup(self.cancel_all)

    def cancel_all(self):
        for job in self.jobs:
            subprocess.run(["scancel", job], check=False)
            self.wait_until(lambda job=job: not self.in_queue(job), "the end of cancelled jobs")

    def write_prompts(self, n, max_tokens):
        self.n_prompts = n
        path = self.folder / "prompts.jsonl"
        with path.open("w") as file:
            for i in range(n):
                length = 2 if i < 4 else max_tokens
                file.write(json.dumps({"id": str(i), "prompt": f"Act {i}.", "max_tokens": length, "ignore_eos": True}) + "\n")
        return path

    def submit(self, script, *arguments, sbatch=(), n=120, max_tokens=40):
        environment = dict(os.environ, MODEL=os.environ["SAMPLE_MODEL"], PROMPTS=str(self.write_prompts(n, max_tokens)))
        environment.update(OMPI_MCA_btl_tcp_if_include="eth0", OMPI_MCA_mpi_yield_when_idle="1", OMPI_MCA_btl_vader_single_copy_mechanism="none")
        options = ["--account=test", "--partition=test", "--cpus-per-task=1", "--ntasks-per-node=2", "--time=20", *sbatch]
        command = ["sbatch", "--parsable", *options, f"jobscripts/{script}", *arguments]
        job = call(*command, cwd=self.folder, env=environment).strip()
        self.jobs.append(job)
        return job

    def field(self, job, name):
        text = call("scontrol", "--oneliner", "show", "job", job)
        return re.search(rf"\b{name}=(\S*)", text).group(1)

    def in_queue(self, job):
        return call("squeue", "--noheader", "--jobs", job, "--format=%i").strip() != ""

    def wait_until(self, condition, what):
        end = time.monotonic() + LIMIT_S
        while time.monotonic() < end:
            if condition():
                return
            time.sleep(0.2)
        raise AssertionError(f"waited in vain for {what}\n{self.logs()}")

    def wait_for_rows(self, job, output, n=1):
        def there():
            self.assertTrue(self.in_queue(job), f"job {job} ended\n{self.logs()}")
            return len(self.row_ids(output)) >= n

        self.wait_until(there, "rows")

    def wait_for_restart(self, job):
        def restarted():
            self.assertTrue(self.in_queue(job), f"job {job} ended\n{self.logs()}")
            return int(self.field(job, "Restarts")) > 0

        self.wait_until(restarted, "the job to come back to the queue")

    def wait_for_end(self, job):
        self.wait_until(lambda: not self.in_queue(job), f"the end of job {job}")
        return self.field(job, "JobState")

    def logs(self):
        return "\n".join(path.read_text() for path in (self.folder / "outputs").glob("*.log"))

    def output(self, name, job):
        return self.folder / "outputs" / f"{name}-{job}"

    def row_ids(self, output):
        path = output / "generations.jsonl"
        text = path.read_text() if path.exists() else ""
        return [json.loads(line)["id"] for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def assert_all_rows(self, output):
        self.assertEqual(sorted(self.row_ids(output), key=int), [str(i) for i in range(self.n_prompts)], self.logs())

    def test_run_on_two_nodes(self):
        job = self.submit("many-nodes.sh", *RUN_OPTIONS, n=20)
        self.assertEqual(self.wait_for_end(job), "COMPLETED", self.logs())
        output = self.output("mixserve-many-nodes", job)
        self.assert_all_rows(output)
        topology = json.loads((output / "run.json").read_text())["topology"]
        self.assertEqual((topology["nodes"], topology["world_size"]), (2, 4))
        self.assertEqual(sorted(set(topology["hosts"])), [f"{NODES}0", f"{NODES}1"])

    def test_time_limit_requeues_until_done(self):
        # Slurm looks twice a minute whether it is time for the signal, and sends it early rather than late. Until then
        # the ranks stand still: a fast machine would finish before.
        job = self.submit("many-nodes.sh", *RUN_OPTIONS, sbatch=["--time=1", "--signal=USR1@25"], n=60, max_tokens=120)
        output = self.output("mixserve-many-nodes", job)
        self.wait_for_rows(job, output)
        with stopped(ranks_on(output)) as ranks:
            self.wait_until(lambda: all(has_pending(rank, signal.SIGUSR1) for rank in ranks), "Slurm's signal")
        self.wait_for_restart(job)
        self.assertIn("stopped with work left", self.logs())
        rows_before = self.row_ids(output)
        call("scontrol", "update", f"JobId={job}", "TimeLimit=20")
        self.assertEqual(self.wait_for_end(job), "COMPLETED", self.logs())
        self.assert_all_rows(output)
        self.assertEqual(self.row_ids(output)[: len(rows_before)], rows_before)
        self.assertEqual(json.loads((output / "summary.json").read_text())["status"], "finished")

    def test_scancel_ends_the_job_for_good(self):
        job = self.submit("one-node.sh", *RUN_OPTIONS, n=400, max_tokens=150)
        output = self.output("mixserve-one-node", job)
        self.wait_for_rows(job, output)
        call("scancel", job)
        self.assertEqual(self.wait_for_end(job), "CANCELLED", self.logs())
        self.assertEqual(self.field(job, "Restarts"), "0")
        self.assertTrue((output / "generations.jsonl").read_text().endswith("\n"))
        self.assertEqual(json.loads((output / "summary.json").read_text())["status"], "stopped")

    def test_signal_to_the_batch_script_requeues(self):
        job = self.submit("one-node.sh", *RUN_OPTIONS, n=400, max_tokens=150)
        self.wait_for_rows(job, self.output("mixserve-one-node", job))
        call("scancel", "--batch", "--signal=USR1", job)
        self.wait_for_restart(job)

    @unittest.skipIf(pathlib.Path("/dev/nvidia0").exists(), "for a machine without a GPU")
    def test_scripts_for_gpus(self):
        """Slurm counts GPUs here that are not there: it takes the scripts, and mixserve says what is missing."""
        for name, nodes in (("gpu-one-node", "1"), ("gpu-many-nodes", "2")):
            with self.subTest(name):
                job = self.submit(f"{name}.sh", sbatch=("--ntasks-per-node=4",))
                self.assertEqual(self.wait_for_end(job), "FAILED", self.logs())
                self.assertEqual(self.field(job, "ExitCode"), "2:0", self.logs())
                self.assertEqual(self.field(job, "Restarts"), "0")
                self.assertEqual(self.field(job, "TresPerNode"), "gres:gpu:4")
                self.assertEqual(self.field(job, "NumNodes"), nodes)
                said = (self.folder / f"outputs/mixserve-{name}-{job}.log").read_text()
                self.assertRegex(said, "(?m)^mixserve: --backend cuda: ")

    def test_array_and_merge(self):
        array = self.submit("array.sh", *RUN_OPTIONS, sbatch=["--array=0-1"], n=30)
        folder = self.output("mixserve-array", array)
        merge = self.submit("merge.sh", str(folder), sbatch=[f"--dependency=afterok:{array}", "--ntasks-per-node=1"], n=30)
        self.assertEqual(self.wait_for_end(merge), "COMPLETED", self.logs())
        self.assert_all_rows(folder / "merged")
        for task in ("0", "1"):
            self.assertTrue(0 < len(self.row_ids(folder / task)) < 30)

    def test_scaling_study(self):
        """A batch job a point, on one node and on two."""
        prompts = self.write_prompts(8, 4)
        study = self.folder / "study"
        call(ROOT / "scripts/scaling-study", "--launcher", "sbatch", "--sbatch=--account=test --partition=test --cpus-per-task=1",
             "--srun=--mpi=pmix", "--model", os.environ["SAMPLE_MODEL"], "--input-file", prompts, "--nodes", "1,2", "--ranks-per-node", "2",
             "--strategies", "tp-ep", "--timeout", "1200", "--mixserve", PROGRAM, "--output-dir", study, cwd=self.folder,
             env=dict(os.environ, OMPI_MCA_btl_tcp_if_include="eth0", OMPI_MCA_mpi_yield_when_idle="1"))
        with (study / "points.csv").open() as file:
            points = [(row["nodes"], row["copies"], row["state"]) for row in csv.DictReader(file)]
        self.assertEqual(points, [("1", "1", "finished"), ("2", "1", "finished"), ("2", "2", "finished")])
        self.assertTrue((study / "report.html").exists())

    def test_node_that_fails(self):
        job = self.submit("many-nodes.sh", *RUN_OPTIONS, n=60, max_tokens=60)
        output = self.output("mixserve-many-nodes", job)
        self.wait_for_rows(job, output)
        with stopped(ranks_on(output)):
            call(CLUSTER, "stop-node", CLUSTER_FOLDER, "1")
        self.wait_for_restart(job)
        call(CLUSTER, "start-node", CLUSTER_FOLDER, "1")
        self.assertEqual(self.wait_for_end(job), "COMPLETED", self.logs())
        self.assert_all_rows(output)


def main():
    global CLUSTER_FOLDER
    with tempfile.TemporaryDirectory(prefix="mixserve-slurm-") as folder:
        CLUSTER_FOLDER = folder
        up = subprocess.run([CLUSTER, "up", folder, "2"], check=False)
        if up.returncode != 0:
            return up.returncode
        try:
            os.environ["SLURM_CONF"] = f"{folder}/slurm.conf"
            os.environ["SAMPLE_MODEL"] = f"{folder}/sample.h5"
            call(PROGRAM, "convert", "--hf-dir", str(ROOT / "inputs/models/shakespeare-moe"), "--output", os.environ["SAMPLE_MODEL"], stderr=subprocess.DEVNULL)
            program = unittest.main(exit=False, verbosity=2)
            return 0 if program.result.wasSuccessful() else 1
        finally:
            subprocess.run([CLUSTER, "down", folder], check=False)


if __name__ == "__main__":
    sys.exit(main())
