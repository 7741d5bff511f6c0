#!/usr/bin/env python3
"""What keeps a job from beginning is named with its remedy, and leaves nothing that keeps the same command from being
run again once it is mended."""

import os
import shutil
import subprocess
import unittest

from program import MODEL, N_RANKS, PROGRAM, ProgramTest, read_rows

NOBODY = 65534
WORDS = {"id": "a", "prompt": "To be", "max_tokens": 2}


class EarlyFailure(ProgramTest):
    def setUp(self):
        super().setUp()
        self.write_lines("in.jsonl", [WORDS])
        self.out = self.folder / "out"

    def check_goes_now(self, *options, **how):
        self.check_went(self.job("run", *options, **how))
        self.assertEqual(list(read_rows(self.out / "generations.jsonl")), ["a"])


class SameCommandAgain(EarlyFailure):
    def test_no_room_for_the_cache(self):
        ended = self.job("run", "--kv-cache-memory", "1KiB")
        self.assertEqual((ended.code, len(ended.messages)), (2, 1), ended)
        self.assertIn("raise --kv-cache-memory", ended.messages[0])
        self.check_goes_now("--kv-cache-memory", "16MiB")

    def test_resumed_with_another_sampling(self):
        self.assertEqual(self.job("run", "--resume", "--kv-cache-memory", "1KiB").code, 2)
        ended = self.job("run", "--resume", "--temperature", "0.5")
        self.assertEqual(ended.code, 0, ended)
        self.assertEqual(list(read_rows(self.out / "generations.jsonl")), ["a"])

    @unittest.skipIf(N_RANKS > 1, "mpirun would be limited too")
    def test_no_memory_for_the_cache(self):
        ended = self.job("run", "--kv-cache-memory", "2GiB", "--max-num-seqs", "2000", before=["prlimit", "--as=2000000000"])
        self.assertEqual(ended.code, 1, ended)
        self.check_goes_now()

    def test_model_that_is_not_there(self):
        self.check_refused(self.job("run", model=self.folder / "m.h5"), "m.h5", "no such file")
        shutil.copy(MODEL, self.folder / "m.h5")
        self.check_goes_now(model=self.folder / "m.h5")

    def test_bad_options_and_degrees(self):
        self.check_refused(self.job("run", "--max-model-len", "4096"), "2048")
        self.check_refused(self.job("run", "--temperature", "-1"), "temperature")
        self.check_refused(self.job("run", "--ranks-per-node", "3"), "nodes of 3")
        self.check_refused(self.job("run", n_ranks=3), "num_attention_heads")
        self.assertFalse(self.out.exists())
        self.check_goes_now()

    def test_strict(self):
        self.write("in.jsonl", '{"id": ')
        self.check_refused(self.job("run", "--strict"), "line 1")
        self.write_lines("in.jsonl", [WORDS])
        self.check_goes_now("--strict")

    def test_rows_are_not_overwritten(self):
        self.check_goes_now()
        before = (self.out / "generations.jsonl").read_bytes()
        ended = self.job("run")
        self.assertEqual((ended.code, len(ended.messages)), (2, 1), ended)
        self.assertIn("is not empty", ended.messages[0])
        self.assertEqual((self.out / "generations.jsonl").read_bytes(), before)

    def test_input_that_is_a_pipe(self):
        (self.folder / "in.jsonl").unlink()
        os.mkfifo(self.folder / "in.jsonl")
        self.check_refused(self.job("run"), "in.jsonl", "is a pipe", "write it to a file first")


class OutputFolders(EarlyFailure):
    def test_folders_above_are_made(self):
        self.check_went(self.job("run", output="a/b/out"))

    def test_files_in_the_way(self):
        mine = self.write("mine", "text")
        self.check_refused(self.job("run", output="mine"), mine, "is a file", "give another --output-dir")
        self.check_refused(self.job("run", output="mine/a/out"), "mine/a/out", f"'{mine}' is a file", "give another --output-dir")
        self.assertEqual(mine.read_text(), "text")

    @unittest.skipIf(os.geteuid() != 0, "only root may mount")
    def test_read_only_mount(self):
        place = self.folder / "mounted"
        place.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=1m", "none", place], check=False, stderr=subprocess.DEVNULL).returncode:
            self.skipTest("a file system cannot be mounted here")
        self.addCleanup(subprocess.run, ["umount", place], check=True)
        self.check_refused(self.job("run", output="mounted/out"), "mounted/out", f"'{place}' is mounted read-only", "--output-dir")
        self.check_refused(self.job("run", output="mounted"), f"'{place}' is mounted read-only", "--output-dir")

    def test_no_permission(self):
        place = self.folder / "theirs"
        place.mkdir(mode=0o755)
        before = self.as_nobody() if os.geteuid() == 0 else ()
        if os.geteuid() != 0:
            place.chmod(0o555)
        user = NOBODY if os.geteuid() == 0 else os.geteuid()
        how = {"n_ranks": 1, "before": before, "model": self.readable_model()}
        self.check_refused(self.job("run", output="theirs/out", **how), "theirs/out", f"user {user} may not write in '{place}'", "--output-dir")
        self.check_refused(self.job("run", output="theirs", **how), f"user {user} may not write in '{place}'", "--output-dir")

    def as_nobody(self):
        self.folder.chmod(0o755)
        before = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        for path in (PROGRAM, self.folder / "in.jsonl"):
            if subprocess.run([*before, "test", "-r", path], check=False).returncode:
                self.skipTest(f"another user cannot read {path}")
        return before

    def readable_model(self):
        return shutil.copy(MODEL, self.folder / "m.h5")


class Temporaries(EarlyFailure):
    """Where TMPDIR and HOME cannot be written. The program has no use of its own for them; Open MPI has a session there."""

    def test_read_only_home(self):
        home = self.folder / "home"
        home.mkdir(mode=0o555)
        self.check_goes_now(environment={"HOME": str(home)})
        self.assertEqual(list(home.iterdir()), [])

    def test_no_home(self):
        self.check_goes_now(environment={"HOME": "/nowhere"})

    def test_tmpdir_that_is_not_there(self):
        ended = self.job("run", environment={"TMPDIR": "/proc/nowhere"})
        # Open MPI gives up before the program begins, with words of its own; where it does not need the place, all is well.
        if ended.code != 0:
            self.assertIn("/proc/nowhere", ended.err, ended)
            self.assertFalse(self.out.exists())
        self.check_rerun()

    @unittest.skipIf(os.geteuid() != 0, "only root may mount")
    def test_full_tmpdir(self):
        place = self.folder / "full"
        place.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", place], check=False, stderr=subprocess.DEVNULL).returncode:
            self.skipTest("a file system cannot be mounted here")
        self.addCleanup(subprocess.run, ["umount", place], check=True)
        try:
            (place / "fill").write_bytes(b"x" * (1 << 20))
        except OSError:
            pass
        ended = self.job("run", environment={"TMPDIR": str(place)})
        if ended.code != 0:
            self.assertTrue(ended.err.strip(), ended)
        self.check_rerun()

    def check_rerun(self):
        if (self.out / "generations.jsonl").exists():
            self.assertEqual(list(read_rows(self.out / "generations.jsonl")), ["a"])
        else:
            self.check_goes_now()


if __name__ == "__main__":
    unittest.main(verbosity=2)
