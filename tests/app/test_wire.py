#!/usr/bin/env python3
"""A wire between two nodes that stops: for a while, and the job goes on; for good, and the watchdog ends it. The nodes are
network namespaces (scripts/minicluster)."""

import os
import random
import signal
import string
import subprocess
import time
import unittest
from pathlib import Path

from program import HANG_S, MODEL, PROGRAM, ProgramTest, read_rows, start, wait

MINICLUSTER = Path(__file__).resolve().parents[2] / "scripts/minicluster"
N_PROMPTS = 12
# Without them mpirun waits for ever for a node that it cannot reach; see README.
KEEPALIVE = {"OMPI_MCA_oob_tcp_keepalive_time": "6", "OMPI_MCA_oob_tcp_keepalive_intvl": "2", "OMPI_MCA_oob_tcp_keepalive_probes": "3"}


@unittest.skipIf(os.geteuid() != 0, "network namespaces need root")
class Wire(ProgramTest):
    def setUp(self):
        super().setUp()
        self.name = "w" + "".join(random.choices(string.ascii_lowercase, k=6))
        up = self.minicluster("up", "--nodes", "2", "--rate", "unlimited", "--while", str(os.getpid()))
        if up.returncode != 0:
            self.skipTest(f"no emulated cluster here: {up.stderr.strip()}")
        self.addCleanup(self.minicluster, "down")

    def minicluster(self, *arguments):
        return subprocess.run([MINICLUSTER, *arguments], env={**os.environ, "MINICLUSTER": self.name}, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)

    def start_job(self, watchdog_s, *options):
        self.write_lines("in.jsonl", [{"id": str(i), "prompt": "To be", "max_tokens": 2 if i < 4 else 30, "ignore_eos": True}
                                       for i in range(N_PROMPTS)])  # short ones first, so that there are rows early
        process = start([str(MINICLUSTER), "run", "-n", "2", "--", PROGRAM, "run", "--model", MODEL, "--input-file",
                         str(self.folder / "in.jsonl"), "--output-dir", str(self.folder / "out"), "--max-num-seqs", "4",
                         "--threads-per-rank", "1", "--watchdog-timeout", str(watchdog_s), *options],
                        MINICLUSTER=self.name, **KEEPALIVE)
        rows = self.folder / "out/generations.jsonl"
        end = time.monotonic() + HANG_S
        while process.poll() is None and time.monotonic() < end and not (rows.exists() and rows.stat().st_size > 0):
            time.sleep(0.05)
        self.assertTrue(rows.exists(), "the job has no rows")
        self.assertIsNone(process.poll(), "the job ended before the wire was cut")
        return process

    def has_ranks(self):
        """Whether a rank of the job is left, on any node."""
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                arguments = file.read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue  # gone
            if arguments[0] == PROGRAM and str(self.folder / "out") in arguments:
                return True
        return False

    def link(self, state):
        subprocess.run(["ip", "link", "set", f"{self.name}v1", state], check=True)

    def test_stops_for_five_seconds(self):
        process = self.start_job(120, "--strategy", "fused")
        self.link("down")
        time.sleep(5)
        self.link("up")
        ended = wait(process)
        self.assertEqual(ended.code, 0, ended)
        self.assertEqual(ended.messages, [], ended)
        self.assertEqual(len(read_rows(self.folder / "out/generations.jsonl")), N_PROMPTS)

    def test_stops_for_good(self):
        process = self.start_job(8, "--strategy", "fused")
        self.link("down")
        begin = time.monotonic()
        while self.has_ranks():
            self.assertLess(time.monotonic() - begin, HANG_S, "ranks are left")
            time.sleep(0.2)
        print(f"the ranks ended {time.monotonic() - begin:.0f} s after its wire was cut, --watchdog-timeout 8", flush=True)
        # mpirun, here on a host without ranks, waits as long as TCP does where it had bytes on their way to the other node.
        os.killpg(process.pid, signal.SIGKILL)
        self.minicluster("down")
        ended = wait(process)
        self.assertRegex(ended.err, r"watchdog: rank 0 of 2 on host .* has not got on for 8 s: step [0-9]+.*waiting in", ended)
        self.assertLess(len(read_rows(self.folder / "out/generations.jsonl")), N_PROMPTS)


if __name__ == "__main__":
    unittest.main(verbosity=2)
