"""Faults of scripts/torture beside signals: what a job needs is taken away, while it runs or before its next start. Each
is played as play(settings, name, reference, duration_s, draw, counts) and must leave, in the end, the undisturbed rows."""

import os
import shutil
import signal
import subprocess

from torture_jobs import HANG_S, Job, compare, send, wait_for_a_moment, wrong_exit_code


class Round:
    def __init__(self, settings, name, counts):
        self.settings, self.counts = settings, counts
        self.folder = settings.folder / name
        self.log = settings.folder / f"{name}.log"
        self.where = f"round {name}, {self.log}"

    def start(self, *more, **how):
        return Job(self.settings, self.folder, self.log, *more, **how)

    def expect(self, job, code, *words):
        """The job's end, and one of `words` in what it said."""
        ended = job.wait(HANG_S)
        if ended is None:
            self.counts["HUNG"] += 1
            job.destroy()
        elif ended != code or (words and not any(word in job.said() for word in words)):
            wrong_exit_code(self.counts, self.where, ended, f"instead of {code} with '{' or '.join(words)}'")

    def leave_unfinished(self, reference, duration_s, draw):
        """A first start that is killed at a random moment."""
        job = self.start()
        if wait_for_a_moment(self.settings, job, self.folder, len(reference), duration_s, draw) is None:
            for pid in job.ranks():
                send(pid, signal.SIGKILL)
        if job.wait(HANG_S) is None:
            self.counts["HUNG"] += 1
            job.destroy()

    def finish(self, reference):
        self.expect(self.start(), 0)
        if compare(self.settings, self.folder, reference, self.counts, self.where) and not self.settings.keep:
            shutil.rmtree(self.folder)

    def rows_text(self):
        files = [self.folder / name for name in ("generations.jsonl", "scores.jsonl")]
        return [path.read_bytes() if path.exists() else b"" for path in files]

    def refuse(self, code, *words, more=(), **how):
        """A start that must not touch the rows."""
        before = self.rows_text()
        self.expect(self.start(*more, **how), code, *words)
        if self.rows_text() != before:
            self.counts["ROWS LOST"] += 1
            print(f"{self.where}: a refused start has changed the rows", flush=True)


def output_removed(settings, name, reference, duration_s, draw, counts):
    """The output folder goes away under the job."""
    play = Round(settings, name, counts)
    job = play.start()
    code = wait_for_a_moment(settings, job, play.folder, len(reference), duration_s, draw)
    if code is None and play.folder.exists():
        shutil.rmtree(play.folder, ignore_errors=True)
    # A job that is at its end or its beginning finds out by another call than the usual one.
    if job.wait(HANG_S) is None:
        counts["HUNG"] += 1
        job.destroy()
    elif job.process.poll() not in (0, 1, 2):
        wrong_exit_code(counts, play.where, job.process.poll(), "after the output folder was removed")
    elif job.process.poll() == 1:
        counts["ended with an error"] += 1
    shutil.rmtree(play.folder, ignore_errors=True)
    play.finish(reference)


def input_changed(settings, name, reference, duration_s, draw, counts):
    """The next start finds another input."""
    play = Round(settings, name, counts)
    play.leave_unfinished(reference, duration_s, draw)
    text = settings.input.read_bytes()
    at = draw.randrange(len(text))
    changed = settings.folder / f"{name}.jsonl"
    changed.write_bytes(draw.choice([text + b'{"prompt": "more"}\n', text[:at] + b" " + text[at:], text[: len(text) // 2]]))
    if (play.folder / "run.json").exists():
        play.refuse(2, "input-file is", source=changed)
    changed.unlink()
    play.finish(reference)


def model_truncated(settings, name, reference, duration_s, draw, counts):
    play = Round(settings, name, counts)
    play.leave_unfinished(reference, duration_s, draw)
    damaged = settings.folder / f"{name}.h5"
    shutil.copy(settings.model, damaged)
    os.truncate(damaged, draw.randrange(damaged.stat().st_size))
    play.refuse(2, "truncated", "is empty", "not an HDF5 file", "again", model=damaged)
    damaged.unlink()
    play.finish(reference)


def model_flipped(settings, name, reference, duration_s, draw, counts):
    """--verify finds it; in what no checksum covers, between tensors, it changes nothing."""
    play = Round(settings, name, counts)
    play.leave_unfinished(reference, duration_s, draw)
    damaged = settings.folder / f"{name}.h5"
    shutil.copy(settings.model, damaged)
    at = draw.randrange(damaged.stat().st_size)
    with damaged.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1 << draw.randrange(8)]))
    found = subprocess.run([settings.program, "inspect", damaged, "--verify"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    if found.returncode != 0:
        counts["found by --verify"] += 1
        play.refuse(2, "damaged", "again", more=("--verify",), model=damaged)
    damaged.unlink()
    play.finish(reference)


def full_disk(settings, name, reference, duration_s, draw, counts):
    play = Round(settings, name, counts)
    place = settings.folder / f"{name}-disk"
    place.mkdir()
    size = draw.choice([24, 32, 40, 48])
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "none", place], stderr=subprocess.DEVNULL, check=False)
    if mounted.returncode != 0:
        counts["skipped: no mount here"] += 1
        place.rmdir()
        return
    try:
        play.folder = place / "out"
        job = play.start()
        code = job.wait(HANG_S)
        if code is None:
            counts["HUNG"] += 1
            job.destroy()
        elif code != 0 and (code not in (1, 2) or "No space left" not in job.said()):
            wrong_exit_code(counts, play.where, code, "on a full disk")
        counts["ended with an error"] += code != 0
        subprocess.run(["mount", "-o", "remount,size=8m", place], check=True)
        play.finish(reference)
    finally:
        subprocess.run(["umount", place], check=True)
        place.rmdir()


FAULTS = {
    "output removed": output_removed,
    "input changed": input_changed,
    "model truncated": model_truncated,
    "model flipped": model_flipped,
    "full disk": full_disk,
}
