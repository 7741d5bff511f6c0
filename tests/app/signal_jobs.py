"""Starts jobs of mixserve on the sample model, for the tests of how jobs end; what they leave is checked here."""

import json
import os
import pathlib
import subprocess
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "inputs/models/shakespeare-moe"
PROGRAM = os.environ.get("MIXSERVE", str(ROOT / "build/mixserve"))
MPIRUN = os.environ.get("MPIRUN", "mpirun")
LIMIT_S = 240  # for a hang; on a loaded machine a start takes long

ENVIRONMENT = dict(
    os.environ,
    OMPI_ALLOW_RUN_AS_ROOT="1",
    OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
    OMPI_MCA_btl_vader_single_copy_mechanism="none",
    OMPI_MCA_mpi_yield_when_idle="1",
)


def wait_until(condition, what):
    """What `condition` gives once it is not false."""
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"waited in vain for {what}")


class Job:
    """A `mixserve run` in a folder of its own; with `n_ranks` 0 as one process without mpirun."""

    def __init__(self, folder, model, n_ranks, *options, n_prompts=200, max_tokens=100):
        self.n_ranks = n_ranks
        self.n_prompts = n_prompts
        self.output = folder / "out"
        self.errors = folder / "errors"
        prompts = folder / "prompts.jsonl"
        with prompts.open("w") as file:
            for i in range(n_prompts):
                # Short ones come first, so that there are rows early.
                n = 2 if i < 8 else max_tokens
                file.write(json.dumps({"id": str(i), "prompt": f"Act {i}.", "max_tokens": n, "ignore_eos": True}) + "\n")
        command = [PROGRAM, "run", "--model", str(model), "--input-file", str(prompts), "--output-dir", str(self.output)]
        command += ["--threads-per-rank", "1", "--kv-cache-memory", "64MiB", "--max-num-seqs", "8", *options]
        if n_ranks > 0:
            command = [MPIRUN, "--oversubscribe", "--bind-to", "none", "-n", str(n_ranks), *command]
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=errors)
        self.pids = [self.process.pid] if n_ranks == 0 else None

    def wait_for_ranks(self):
        """Process ids of the ranks, by rank."""

        def ranks():
            children = subprocess.run(["pgrep", "-P", str(self.process.pid)], stdout=subprocess.PIPE, text=True, check=False)
            found = {}
            for pid in children.stdout.split():
                try:
                    environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                except OSError:
                    continue
                for entry in environment:
                    if entry.startswith(b"OMPI_COMM_WORLD_RANK="):
                        found[int(entry.split(b"=")[1])] = int(pid)
            return found if len(found) == self.n_ranks else None

        if self.pids is None:
            found = wait_until(lambda: self.has_ended() or ranks(), "the ranks")
            assert isinstance(found, dict), f"the job has ended: {self.errors.read_text()}"
            self.pids = [found[rank] for rank in range(self.n_ranks)]
        return self.pids

    def wait_for_rows(self):
        rows = self.output / "generations.jsonl"
        wait_until(lambda: self.has_ended() or rows.exists() and rows.stat().st_size > 0, "the first rows")
        self.wait_for_ranks()

    def has_ended(self):
        return self.process.poll() is not None

    def signal(self, rank, number):
        os.kill(self.wait_for_ranks()[rank], number)

    def exit_code(self):
        try:
            return self.process.wait(timeout=LIMIT_S)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"the job hangs; it said: {self.errors.read_text()}") from error

    def end(self):
        """Kills what is still there. Only called where a test has failed or leaves ranks that it stopped."""
        for pid in (self.pids or []) + [self.process.pid]:
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass
        self.process.wait()


class JobTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.shared_folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.shared_folder.cleanup)
        cls.model = pathlib.Path(cls.shared_folder.name) / "sample.h5"
        subprocess.run([PROGRAM, "convert", "--hf-dir", str(SAMPLE), "--output", str(cls.model)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def start(self, n_ranks, *options, model=None, **prompts):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        job = Job(pathlib.Path(folder.name), model or self.model, n_ranks, *options, **prompts)
        self.addCleanup(job.end)
        return job

    def rows(self, job):
        """The rows by id; every line is whole, and no id comes twice."""
        rows = {}
        path = job.output / "generations.jsonl"
        text = path.read_text() if path.exists() else ""
        self.assertTrue(text == "" or text.endswith("\n"), "the last row is torn")
        for line in text.splitlines():
            row = json.loads(line)
            self.assertNotIn(row["id"], rows)
            rows[row["id"]] = row
        return rows

    def assert_stopped(self, job, code):
        self.assertEqual(job.exit_code(), code, job.errors.read_text())
        self.assert_gone(job)
        rows = self.rows(job)
        summary = json.loads((job.output / "summary.json").read_text())
        self.assertEqual(summary["status"], "stopped")
        self.assertEqual(summary["completed"], len(rows))
        self.assertTrue(0 < len(rows) < job.n_prompts)
        steps = (job.output / "steps.jsonl").read_text()
        self.assertTrue(steps.endswith("\n"))
        self.assertIn("with work left", job.errors.read_text())

    def assert_gone(self, job):
        """No rank has outlived its job."""
        for pid in job.wait_for_ranks():
            wait_until(lambda path=pathlib.Path(f"/proc/{pid}"): not path.exists(), f"the end of process {pid}")
