#!/usr/bin/env python3
"""SIGTERM, SIGUSR1 and SIGINT end a job as README says: whoever gets them, all ranks leave, rows are whole."""

import json
import pathlib
import signal
import subprocess
import tempfile
import time
import unittest

from signal_jobs import PROGRAM, ROOT, SAMPLE, JobTest, wait_until

NODES = ("--ranks-per-node", "2")


class StepLoop(JobTest):
    def stop_rank(self, rank, number, *options):
        job = self.start(4, *NODES, *options)
        job.wait_for_rows()
        job.signal(rank, number)
        self.assert_stopped(job, 75)

    def test_rank_0(self):
        self.stop_rank(0, signal.SIGTERM)

    def test_rank_that_leads_no_node(self):
        self.stop_rank(3, signal.SIGTERM)

    def test_leader_of_another_node_fused(self):
        self.stop_rank(2, signal.SIGUSR1, "--strategy", "fused")

    def test_pipeline(self):
        self.stop_rank(1, signal.SIGTERM, "--strategy", "tp-pp")

    def test_two_ranks_at_once_tp(self):
        job = self.start(4, *NODES, "--strategy", "tp")
        job.wait_for_rows()
        job.signal(1, signal.SIGTERM)
        job.signal(2, signal.SIGUSR1)
        self.assert_stopped(job, 75)

    def test_usr1_to_mpirun_reaches_all_ranks(self):
        job = self.start(4, *NODES)
        job.wait_for_rows()
        job.process.send_signal(signal.SIGUSR1)
        self.assert_stopped(job, 75)

    def test_term_to_mpirun(self):
        # mpirun ends its ranks its own way, with a code of its own; see README.
        job = self.start(4, *NODES)
        job.wait_for_rows()
        job.process.send_signal(signal.SIGTERM)
        self.assertNotEqual(job.exit_code(), 0)
        self.assert_gone(job)
        self.assertTrue(0 < len(self.rows(job)) < job.n_prompts)

    def test_second_signal_ends_at_once(self):
        job = self.start(2)
        job.wait_for_rows()
        job.signal(0, signal.SIGSTOP)  # so that the step does not end
        job.signal(1, signal.SIGTERM)
        time.sleep(1)
        self.assertFalse(job.has_ended())
        job.signal(1, signal.SIGTERM)
        self.assertEqual(job.exit_code(), 128 + signal.SIGTERM, job.errors.read_text())
        self.assert_gone(job)
        self.rows(job)

    def test_same_signal_by_two_ways_counts_once(self):
        job = self.start(2)
        job.wait_for_rows()
        job.signal(1, signal.SIGTERM)
        job.signal(1, signal.SIGTERM)
        self.assert_stopped(job, 75)

    def test_interrupt(self):
        job = self.start(0)
        job.wait_for_rows()
        job.signal(0, signal.SIGINT)
        self.assert_stopped(job, 130)

    def test_job_that_is_done_is_not_stopped(self):
        job = self.start(2, n_prompts=3)
        self.assertEqual(job.exit_code(), 0, job.errors.read_text())
        self.assertEqual(len(self.rows(job)), 3)
        self.assertEqual(json.loads((job.output / "summary.json").read_text())["status"], "finished")


class BeforeTheFirstStep(JobTest):
    def start_loading(self):
        job = self.start(2, "--load-format", "dummy", "--num-layers", "1", model=ROOT / "inputs/configs/OLMoE-1B-7B-0924")
        wait_until(lambda: (job.output / "run.json").exists() or job.has_ended(), "run.json")
        job.wait_for_ranks()
        return job

    def assert_nothing_written(self, job):
        self.assertEqual(job.exit_code(), 75, job.errors.read_text())
        self.assert_gone(job)
        self.assertEqual(self.rows(job), {})
        self.assertFalse((job.output / "summary.json").exists())
        self.assertIn("stopped by", job.errors.read_text())

    def test_all_ranks_while_loading(self):
        job = self.start_loading()
        job.process.send_signal(signal.SIGUSR1)
        self.assert_nothing_written(job)

    def test_one_rank_while_the_other_does_not_go_on(self):
        job = self.start_loading()
        job.signal(0, signal.SIGSTOP)
        job.signal(1, signal.SIGTERM)
        self.assert_nothing_written(job)

    def test_convert_leaves_all_or_nothing(self):
        with tempfile.TemporaryDirectory() as folder:
            output = pathlib.Path(folder) / "model.h5"
            command = [PROGRAM, "convert", "--hf-dir", str(SAMPLE), "--output", str(output), "--shard-size", "8MiB"]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
                wait_until(lambda: any(pathlib.Path(folder).iterdir()), "the first file")
                process.send_signal(signal.SIGTERM)
                errors = process.communicate()[1]
            left = sorted(path.name for path in pathlib.Path(folder).iterdir())
            if process.returncode == 0:  # it was quicker
                self.assertIn("model.h5", left)
            else:
                self.assertEqual((process.returncode, left), (75, []), errors)


if __name__ == "__main__":
    unittest.main(verbosity=2)
