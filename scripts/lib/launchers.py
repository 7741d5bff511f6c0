"""Ways to start a job on N nodes of P ranks: here as virtual nodes, on the emulated cluster, in a Slurm allocation, or
as a Slurm batch job. Each has `run(command, nodes, ranks_per_node, folder, seconds)`, which returns the exit code, or None
where the job goes on by itself (its exit code then comes to the file `exit_code` in `folder`)."""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

timed_out = 124  # the exit code that timeout(1) gives too
minicluster = Path(__file__).resolve().parent.parent / "minicluster"


def run_to_log(command, folder, seconds, environment=None):
    """Exit code of a command whose output goes to folder/log. What it started ends with it, also past `seconds`."""
    with open(folder / "log", "ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            log.write(f"\nended after {seconds} s (--timeout)\n".encode())
            return timed_out
        finally:
            # mpirun passes SIGTERM on to its ranks, wherever they are.
            for number, patience_s in ((signal.SIGTERM, 10), (signal.SIGKILL, 5)):
                if process.poll() is not None:
                    break
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(patience_s)


class Launcher:
    def close(self):
        """After the last job."""


class Local(Launcher):
    """mpirun on this machine, with virtual nodes."""

    def run(self, command, nodes, ranks_per_node, folder, seconds):
        ranks = nodes * ranks_per_node
        mpirun = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks)]
        if ranks > (os.cpu_count() or 1):
            mpirun += ["--mca", "mpi_yield_when_idle", "1"]
        environment = {
            # Containers commonly forbid one process to read another's memory, which Open MPI then fails on.
            "OMPI_MCA_btl_vader_single_copy_mechanism": os.environ.get("OMPI_MCA_btl_vader_single_copy_mechanism", "none"),
        }
        if os.getuid() == 0:
            environment |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        return run_to_log([*mpirun, *command, "--ranks-per-node", str(ranks_per_node)], folder, seconds, environment)


class MiniCluster(Launcher):
    """scripts/minicluster: real node borders and a wire of the stated rate. It is up for as long as jobs want the same
    number of nodes, and goes with this process. MINICLUSTER names another cluster, for two studies at once."""

    def __init__(self, rate, delay, name):
        self.rate = rate
        self.delay = delay
        self.environment = {"MINICLUSTER": os.environ.get("MINICLUSTER", name)}
        self.nodes = 0

    def run(self, command, nodes, ranks_per_node, folder, seconds):
        self._have(nodes)
        ranks = str(nodes * ranks_per_node)
        return run_to_log([minicluster, "run", "-n", ranks, "--", *command], folder, seconds, self.environment)

    def close(self):
        if self.nodes:
            self._call("down")
            self.nodes = 0

    def _have(self, nodes):
        if nodes == self.nodes:
            return
        self.close()
        self._call("up", "--nodes", str(nodes), "--rate", self.rate, "--delay", self.delay, "--while", str(os.getpid()))
        self.nodes = nodes

    def _call(self, *arguments):
        done = subprocess.run([minicluster, *arguments], env={**os.environ, **self.environment}, stdout=subprocess.DEVNULL)
        if done.returncode != 0:
            sys.exit(f"the emulated cluster failed: scripts/minicluster {shlex.join(arguments)}")


class Srun(Launcher):
    """Within an allocation that this script already runs in (salloc, or a batch job)."""

    def __init__(self, options):
        self.options = options

    def run(self, command, nodes, ranks_per_node, folder, seconds):
        size = [f"--nodes={nodes}", f"--ntasks-per-node={ranks_per_node}"]
        return run_to_log(["srun", *size, *self.options, *command], folder, seconds)


class Sbatch(Launcher):
    """A batch job of its own, which goes on when this script ends."""

    def __init__(self, sbatch_options, srun_options):
        self.sbatch_options = sbatch_options
        self.srun_options = srun_options

    def run(self, command, nodes, ranks_per_node, folder, seconds):
        code = folder.resolve() / "exit_code"
        output = Path(command[command.index("--output-dir") + 1]).resolve()
        srun = shlex.join(["srun", *self.srun_options, *command])
        script = folder / "job.sh"
        # Times of half a job tell nothing: a job that Slurm starts again begins anew.
        script.write_text(
            f"#!/bin/bash\nrm -rf {shlex.quote(str(output))}\n{srun}\n"
            f"echo $? >{shlex.quote(f'{code}.part')}\nmv {shlex.quote(f'{code}.part')} {shlex.quote(str(code))}\n"
        )
        limit = [f"--time={max(1, -(-seconds // 60))}"] if seconds else []
        submitted = subprocess.run(
            ["sbatch", "--parsable", f"--job-name=mixserve-{folder.name}", f"--output={folder.resolve() / 'log'}",
             f"--nodes={nodes}", f"--ntasks-per-node={ranks_per_node}", *limit, *self.sbatch_options, str(script)],
            capture_output=True, text=True,
        )  # fmt: skip
        if submitted.returncode != 0:
            (folder / "log").write_text(submitted.stderr)
            return submitted.returncode
        (folder / "slurm_job").write_text(submitted.stdout.strip().split(";")[0])
        return None


def is_queued(slurm_job):
    """Whether Slurm still has the job, waiting or running."""
    if shutil.which("squeue") is None:
        return False
    seen = subprocess.run(["squeue", "--noheader", "--jobs", slurm_job, "--format=%T"], capture_output=True, text=True)
    return seen.returncode == 0 and seen.stdout.strip() != ""
