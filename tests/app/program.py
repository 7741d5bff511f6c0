"""Runs the built program as a user does. Shared by the end-to-end tests beside it, which ctest starts with
MIXSERVE_PROGRAM, MIXSERVE_MODEL (the sample model, converted), MIXSERVE_CHECKPOINT, MIXSERVE_MPIRUN and MIXSERVE_RANKS
(1: started as it is, 4: under mpirun as 2 virtual nodes of 2)."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path

PROGRAM = os.environ["MIXSERVE_PROGRAM"]
MODEL = os.environ["MIXSERVE_MODEL"]
CHECKPOINT = Path(os.environ["MIXSERVE_CHECKPOINT"])
MPIRUN = os.environ["MIXSERVE_MPIRUN"]
DAMAGE_MODEL = os.environ["MIXSERVE_DAMAGE_MODEL"]  # tests/app/damage_model.cpp
FAULT_SHIM = os.environ["MIXSERVE_FAULT_SHIM"]  # tests/app/fault_shim.cpp
N_RANKS = int(os.environ.get("MIXSERVE_RANKS", "1"))
HANG_S = 240  # a guard against a hang, far above what anything here takes

one_process = unittest.skipIf(N_RANKS != 1, "the command runs as one process")


class Ended:
    """How a run of the program ended."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err
        # What the program itself says is wrong; mpirun adds paragraphs of its own.
        self.messages = [line[len("mixserve: "):] for line in err.splitlines() if line.startswith("mixserve: ")]

    def __str__(self):
        return f"exit code {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


def launch_line(n_ranks):
    if n_ranks == 1:
        return []
    as_root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    return [MPIRUN, "--oversubscribe", "--bind-to", "none", *as_root, "--mca", "mpi_yield_when_idle", "1",
            "--mca", "btl_vader_single_copy_mechanism", "none", "-n", str(n_ranks)]


def start(command, **environment):
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            start_new_session=True, env={**os.environ, **environment})


def wait(process):
    try:
        out, err = process.communicate(timeout=HANG_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        try:
            out, err = process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            out = err = "(held by a process that is not of its group)"
        raise AssertionError(f"no end after {HANG_S} s: {process.args}\n{out}\n{err}") from None
    return Ended(process.returncode, out, err)


def mixserve(*arguments, n_ranks=1, before=(), environment=None):
    """`before`: a command that starts the rest as another user, say."""
    return wait(start([*before, *launch_line(n_ranks), PROGRAM, *map(str, arguments)], **(environment or {})))


def read_rows(path):
    """The rows by their ids; every line must be whole JSON, and no id there twice."""
    rows = {}
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        key = row.get("custom_id", row.get("id"))
        assert key not in rows, f"{key} has two rows"
        rows[key] = row
    return rows


class ProgramTest(unittest.TestCase):
    """Each test has a fresh folder, self.folder."""

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="mixserve-test-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def write(self, name, text):
        path = self.folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def write_lines(self, name, objects):
        return self.write(name, "".join(json.dumps(o) + "\n" for o in objects))

    def job(self, command, *options, model=MODEL, output="out", n_ranks=N_RANKS, **how):
        """run or score over self.folder/in.jsonl."""
        nodes = ["--ranks-per-node", "2"] if n_ranks == 4 and "--ranks-per-node" not in options else []
        return mixserve(command, "--model", model, "--input-file", self.folder / "in.jsonl", "--output-dir",
                        self.folder / output, *nodes, *options, n_ranks=n_ranks, **how)

    def check_refused(self, ended, *words, code=2):
        """One message in all, with all of `words` in it, and nothing of a result."""
        self.assertEqual(ended.code, code, ended)
        self.assertEqual(len(ended.messages), 1, ended)
        for word in words:
            self.assertIn(str(word), ended.messages[0], ended)
        self.assertEqual(ended.out, "", ended)
        if code == 2:
            made = self.folder / "out"
            self.assertFalse(made.is_dir() and any(made.iterdir()), f"left something in {made}: {ended}")

    def check_went(self, ended):
        self.assertEqual(ended.code, 0, ended)
        self.assertEqual(ended.messages, [], ended)
