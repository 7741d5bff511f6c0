#!/usr/bin/env python3
"""Nothing hangs: a rank that does not go on, or is gone, ends the job, and the message names it."""

import signal
import unittest

from signal_jobs import JobTest

NODES = ("--ranks-per-node", "2")


class Watchdog(JobTest):
    def stop_one(self, rank, *options):
        job = self.start(4, *NODES, "--watchdog-timeout", "8", *options)
        job.wait_for_rows()
        job.signal(rank, signal.SIGSTOP)
        self.assertEqual(job.exit_code(), 1, job.errors.read_text())
        self.assert_gone(job)
        self.rows(job)
        text = job.errors.read_text()
        for other in set(range(4)) - {rank}:
            self.assertRegex(text, f"watchdog: rank {other} of 4 on host .* has not got on for 8 s: step [0-9]+.*waiting in")
        self.assertNotIn(f"watchdog: rank {rank} of 4", text)
        self.assertIn("is one that printed no line", text)

    def test_rank_that_stops(self):
        self.stop_one(1)

    def test_rank_0_stops_fused(self):
        self.stop_one(0, "--strategy", "fused")

    def test_no_watchdog_while_all_is_well(self):
        job = self.start(2, "--watchdog-timeout", "8", n_prompts=20)
        self.assertEqual(job.exit_code(), 0, job.errors.read_text())
        self.assertNotIn("watchdog", job.errors.read_text())

    def test_killed_rank(self):
        job = self.start(4, *NODES)
        job.wait_for_rows()
        job.signal(3, signal.SIGKILL)
        self.assertNotEqual(job.exit_code(), 0)
        self.assert_gone(job)
        self.rows(job)


if __name__ == "__main__":
    unittest.main(verbosity=2)
