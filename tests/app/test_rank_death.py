#!/usr/bin/env python3
"""When a rank dies or fails, all ranks end, with an exit code that is not 0 and the cause named."""

import os
import signal
import time
import unittest
from pathlib import Path

from program import HANG_S, MODEL, PROGRAM, ProgramTest, launch_line, read_rows, start, wait


def ranks_of(launcher):
    """Process ids of the program's ranks under this mpirun."""
    ids = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            program = os.readlink(entry / "exe")
        except OSError:
            continue
        if parent == launcher and os.path.samefile(program, PROGRAM):
            ids.append(int(entry.name))
    return sorted(ids)


def is_running(process_id):
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class RankDeath(ProgramTest):
    def command(self, *before, n_lines=2000):
        self.write_lines("in.jsonl", [{"prompt": "To be", "max_tokens": 200, "ignore_eos": True}] * n_lines)
        return [*before, PROGRAM, "run", "--model", MODEL, "--input-file", str(self.folder / "in.jsonl"), "--output-dir",
                str(self.folder / "out"), "--ranks-per-node", "2"]

    def check_all_gone(self, ids):
        deadline = time.monotonic() + HANG_S
        while any(is_running(i) for i in ids) and time.monotonic() < deadline:
            time.sleep(0.1)
        self.assertEqual([i for i in ids if is_running(i)], [])

    def kill_one(self, which):
        process = start([*launch_line(4), *self.command()])
        steps = self.folder / "out/steps.jsonl"
        deadline = time.monotonic() + HANG_S
        while process.poll() is None and time.monotonic() < deadline:
            if steps.exists() and len(ranks_of(process.pid)) == 4:
                break
            time.sleep(0.1)
        ids = ranks_of(process.pid)
        self.assertEqual(len(ids), 4)
        os.kill(ids[which], signal.SIGKILL)
        ended = wait(process)
        self.assertNotEqual(ended.code, 0, ended)
        self.assertIn("signal 9", ended.err, ended)  # mpirun names the rank and the signal
        self.check_all_gone(ids)
        read_rows(self.folder / "out/generations.jsonl")  # what was written is whole

    def test_killed(self):
        self.kill_one(2)

    def test_first_rank_killed(self):
        self.kill_one(0)

    def fail_one(self, *options):
        """Two ranks, of which rank 1 has little address space."""
        whole = launch_line(2)
        launch, command = whole[: whole.index("-n")], [*self.command(n_lines=1), *options]
        ended = wait(start([*launch, "-n", "1", *command, ":", "-n", "1", "prlimit", "--as=1000000000", *command]))
        self.assertEqual(ended.code, 1, ended)
        self.assertEqual(len(ended.messages), 1, ended)
        self.assertIn("rank 1 of 2 on host", ended.messages[0], ended)
        return ended.messages[0]

    def test_exception(self):
        self.assertIn("cannot start 300 threads", self.fail_one("--threads-per-rank", "300"))

    def test_exception_amid_shared_memory(self):
        # 1 GiB for the KV cache, when the windows that the ranks of a node share are there.
        message = self.fail_one("--threads-per-rank", "1", "--kv-cache-memory", "1GiB", "--max-num-seqs", "1000")
        self.assertIn("no memory for", message)


if __name__ == "__main__":
    unittest.main(verbosity=2)
