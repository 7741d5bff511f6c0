#!/usr/bin/env python3
"""File systems that do not answer, and a wall clock that jumps. fault_shim.cpp makes both."""

import json
import subprocess
import time
import unittest

from program import FAULT_SHIM, MODEL, N_RANKS, PROGRAM, ProgramTest, launch_line, read_rows, start, wait

TIMEOUT_S = 6  # of the watchdog; a loaded machine must not come near it while all is well


class FileFaults(ProgramTest):
    def run_with(self, n_ranks, *options, n_lines=40, **faults):
        """Rank 0 has the faults."""
        self.write_lines("in.jsonl", [{"id": str(i), "prompt": "To be", "max_tokens": 8, "temperature": 1.0} for i in range(n_lines)])
        whole = launch_line(n_ranks)
        command = [PROGRAM, "run", "--model", MODEL, "--input-file", str(self.folder / "in.jsonl"), "--output-dir",
                   str(self.folder / "out"), "--threads-per-rank", "1", "--kv-cache-memory", "16MiB", *options]
        faulty = ["env", f"LD_PRELOAD={FAULT_SHIM}", *(f"{name}={value}" for name, value in faults.items()), *command]
        if n_ranks == 1:
            return wait(start(faulty))
        launch = whole[: whole.index("-n")]
        return wait(start([*launch, "-n", "1", *faulty, ":", "-n", str(n_ranks - 1), *command]))


class Watchdog(FileFaults):
    def check_named(self, fault, *words, n_ranks=N_RANKS, options=()):
        ended = self.run_with(n_ranks, "--watchdog-timeout", str(TIMEOUT_S), *options, FAULT_HANG=fault)
        self.assertEqual(ended.code, 1, ended)
        named = [m for m in ended.messages if m.startswith("watchdog: rank 0 of")]
        self.assertEqual(len(named), 1, ended)
        for word in words:
            self.assertIn(word, named[0], ended)
        self.assertTrue(any("A file system does not answer" in m for m in ended.messages), ended)

    def test_input_at_first(self):
        self.check_named("open:in.jsonl:1", "before the first step", f"opening '{self.folder}/in.jsonl'")

    def test_input_scanned(self):
        self.check_named("read:in.jsonl:2", "before the first step", f"reading '{self.folder}/in.jsonl'", n_ranks=1)

    def test_input_while_running(self):
        # 1: whether it can be read; 2, 3: its digest; 4: the lines; 5: its end, which a thread of its own waits for.
        self.check_named("read:in.jsonl:5", "step ", f"reading '{self.folder}/in.jsonl'")
        self.assertEqual(len(read_rows(self.folder / "out/generations.jsonl")), 40)

    def test_rows(self):
        self.check_named("write:generations.jsonl:3", "step ", f"writing '{self.folder}/out/generations.jsonl'")
        self.assertEqual(len(read_rows(self.folder / "out/generations.jsonl")), 2)

    def test_rows_to_disk(self):
        # A thread of its own brings them there, and the job ends when it has.
        rows = f"bringing to the disk '{self.folder}/out/generations.jsonl'"
        self.check_named("fdatasync:generations.jsonl:1", "step ", rows, options=("--sync-interval", "0.1"))
        self.assertEqual(len(read_rows(self.folder / "out/generations.jsonl")), 40)

    def test_rows_to_disk_at_the_end(self):
        rows = f"bringing to the disk '{self.folder}/out/generations.jsonl'"
        self.check_named("fdatasync:generations.jsonl:1", "step ", rows, options=("--sync-interval", "0"))
        self.assertEqual(len(read_rows(self.folder / "out/generations.jsonl")), 40)

    def test_record_of_the_run(self):
        self.check_named("fsync:run.json:1", "before the first step", f"writing '{self.folder}/out/run.json'")

    def test_summary(self):
        self.check_named("fsync:summary.json:1", "step ", f"writing '{self.folder}/out/summary.json'")

    def test_model(self):
        self.check_named(f"open:{MODEL}:1", "before the first step", f"opening '{MODEL}'")

    def test_model_being_read(self):
        self.check_named(f"pread:{MODEL}:3", "before the first step", f"opening '{MODEL}'")

    def test_weights(self):
        # Of some 700 reads; the first hundred find the tensors.
        self.check_named(f"pread:{MODEL}:300", "before the first step", f"reading '{MODEL}'")

    def test_slow_model(self):
        """Each call ends in time, all of them do not: the rank that waits for rank 0 knows that it gets on."""
        begin = time.monotonic()
        self.check_went(self.run_with(N_RANKS, "--watchdog-timeout", str(TIMEOUT_S), FAULT_SLOW=f"pread:{MODEL}:0.03"))
        self.assertGreater(time.monotonic() - begin, 2 * TIMEOUT_S, "the shim does not make it slow")


class Clock(FileFaults):
    def test_jumps(self):
        month_s = 30 * 86400
        begin = time.monotonic()
        self.check_went(self.run_with(N_RANKS, "--watchdog-timeout", "60", "--sync-interval", "0.2", n_lines=120, FAULT_CLOCK=month_s))
        longest_s = time.monotonic() - begin
        rows = read_rows(self.folder / "out/generations.jsonl")
        self.assertEqual(len(rows), 120)
        for row in rows.values():
            self.assertTrue(0 < row["metrics"]["ttft_ms"] <= row["metrics"]["e2e_ms"] < longest_s * 1e3, row)
        summary = json.loads((self.folder / "out/summary.json").read_text())
        self.assertTrue(0 < summary["duration"] < longest_s, summary)
        self.assertTrue(0 < summary["p99_itl_ms"] < longest_s * 1e3, summary)
        times = [json.loads(line)["time_s"] for line in (self.folder / "out/steps.jsonl").read_text().splitlines()]
        self.assertEqual(times, sorted(times))
        self.assertTrue(0 < times[-1] < longest_s)
        days = subprocess.run(["sh", "-c", "for i in 1 2 3 4 5 6 7 8; do date +%Y-%m; sleep 0.2; done"], check=True, stdout=subprocess.PIPE,
                              env={"LD_PRELOAD": FAULT_SHIM, "FAULT_CLOCK": str(2 * month_s)}).stdout.split()
        self.assertGreater(len(set(days)), 1, "the shim does not make the clock jump")


class Dates(FileFaults):
    """Templates may write the date. A later start writes that of the first, so that its prompts are the same."""

    def test_resumed_later(self):
        template = self.write("dated.jinja", "{{ strftime_now('%Y-%m-%d %H:%M:%S') }} {{ messages[0]['content'] }}")
        self.write_lines("in.jsonl", [{"id": str(i), "messages": [{"role": "user", "content": "Who?"}], "max_tokens": 3,
                                       "prompt_logprobs": 0, "temperature": 0} for i in range(6)])
        options = ["--chat-template", template]
        self.check_went(self.job("run", *options, n_ranks=1))
        rows = self.folder / "out/generations.jsonl"
        whole = rows.read_text()
        prompts = {json.dumps(json.loads(line)["prompt_logprobs"]) for line in whole.splitlines()}
        self.assertEqual(len(prompts), 1)
        rows.write_text("".join(whole.splitlines(keepends=True)[:2]))
        time.sleep(1.1)
        resumed = self.job("run", *options, "--resume", n_ranks=1)
        self.assertEqual(resumed.code, 0, resumed)
        self.assertEqual(len(rows.read_text().splitlines()), 6)
        again = {json.dumps(json.loads(line)["prompt_logprobs"]) for line in rows.read_text().splitlines()}
        self.assertEqual(again, prompts)


if __name__ == "__main__":
    unittest.main(verbosity=2)
