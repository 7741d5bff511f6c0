"""A study: jobs (points) with a folder each, run once, whatever happens in between."""

import dataclasses
import hashlib
import json
import shutil
import sys
import time
from pathlib import Path

import launchers


@dataclasses.dataclass(frozen=True)
class Point:
    """One job. `name` is its folder within the study; `command` and `options` are those of mixserve, without the output
    folder; `labels` say what it stands for."""

    name: str
    nodes: int
    ranks_per_node: int
    command: str
    options: tuple
    labels: dict = dataclasses.field(default_factory=dict, compare=False, hash=False)


@dataclasses.dataclass
class Outcome:
    """What became of a point: finished, failed, missing, or waiting (for Slurm). `summary` is that of a finished one; `message` says why there is none."""

    point: Point
    state: str
    folder: Path
    summary: dict = dataclasses.field(default_factory=dict)
    message: str = ""


def digest(path):
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def last_words(log):
    """The line of a log that says what went wrong: the program's own, else the last."""
    try:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        return ""
    own = [line for line in lines if line.startswith("mixserve: ")]
    return (own or lines or [""])[-1][:300]


class Study:
    def __init__(self, folder, mixserve, timeout=None):
        self.folder = Path(folder).resolve()
        self.mixserve = str(Path(mixserve).resolve())
        self.timeout = timeout
        self.folder.mkdir(parents=True, exist_ok=True)
        self.digests = {}
        if not Path(self.mixserve).is_file():
            sys.exit(f"'{mixserve}' is not there; build it (make build), or name it with --mixserve")

    def point_folder(self, point):
        return self.folder / "points" / point.name

    def _identity(self, point):
        """What a finished point must have been made from to be taken as it is."""
        options = list(point.options)
        file = options[options.index("--input-file") + 1]
        if file not in self.digests:
            self.digests[file] = digest(file)
        return {"command": [point.command, *options], "input_sha256": self.digests[file],
                "nodes": point.nodes, "ranks_per_node": point.ranks_per_node}  # fmt: skip

    def outcome(self, point):
        folder = self.point_folder(point)
        try:
            job = json.loads((folder / "job.json").read_text())
        except (OSError, ValueError):
            return Outcome(point, "missing", folder, message="not run yet")
        if {key: job.get(key) for key in self._identity(point)} != self._identity(point):
            return Outcome(point, "missing", folder, message="was run with other options or prompts")
        code = job.get("exit_code")
        if code is None:
            try:
                code = int((folder / "exit_code").read_text())
            except (OSError, ValueError):
                return self._unfinished(point, folder)
        if code != 0:
            said = last_words(folder / "log")
            return Outcome(point, "failed", folder, message=f"exit code {code}" + (f": {said}" if said else ""))
        try:
            summary = json.loads((folder / "out" / "summary.json").read_text())
        except (OSError, ValueError):
            return Outcome(point, "failed", folder, message="exit code 0, but no whole summary.json")
        if summary.get("status", "finished") != "finished":
            return Outcome(point, "failed", folder, message=f"the job was {summary['status']}")
        if summary["completed"] == 0:
            return Outcome(point, "failed", folder, message=f"no row but {summary['failed']} with an error")
        return Outcome(point, "finished", folder, summary)

    def _unfinished(self, point, folder):
        try:
            slurm_job = (folder / "slurm_job").read_text()
        except OSError:
            return Outcome(point, "missing", folder, message="was ended while it ran")
        if launchers.is_queued(slurm_job):
            return Outcome(point, "waiting", folder, message=f"Slurm job {slurm_job} waits or runs")
        if (folder / "exit_code").exists():  # it ended in between
            return self.outcome(point)
        return Outcome(point, "failed", folder, message=f"Slurm job {slurm_job} ended by force; see {folder / 'log'}")

    def run(self, point, launcher):
        """Runs the point, unless it is finished or under way already. Returns what became of it."""
        before = self.outcome(point)
        if before.state in ("finished", "waiting"):
            print(f"{point.name}: {before.state} already", flush=True)
            return before
        folder = self.point_folder(point)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        job = self._identity(point)
        (folder / "job.json").write_text(json.dumps(job, indent=1) + "\n")
        print(f"{point.name}: ", end="", flush=True)
        begin = time.monotonic()
        command = [self.mixserve, point.command, *point.options, "--output-dir", str(folder / "out")]
        code = launcher.run(command, point.nodes, point.ranks_per_node, folder, self.timeout)
        if code is not None:
            (folder / "job.json").write_text(json.dumps({**job, "exit_code": code}, indent=1) + "\n")
        after = self.outcome(point)
        print(f"{after.state} after {time.monotonic() - begin:.1f} s" + (f" ({after.message})" if after.message else ""), flush=True)
        return after

    def wait(self, points):
        """Until Slurm has none of the points any more."""
        pause_s = 1
        while any(self.outcome(point).state == "waiting" for point in points):
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 30)
