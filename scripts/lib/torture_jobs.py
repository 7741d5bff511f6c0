"""Jobs for scripts/torture: their prompts, one start of one under mpirun, and their rows compared."""

import collections
import json
import os
import pathlib
import random
import signal
import subprocess
import time

HANG_S = 300  # a job that is killed ends within seconds; on a loaded machine all takes longer
STOPPED = 75
COUNTS = ("ROWS LOST", "ROWS DOUBLED", "ROWS TORN", "ROWS THAT DIFFER", "ROWS OF NO PROMPT", "WRONG EXIT CODES", "HUNG")


def write_prompts(path, n):
    """The same lines for the same n."""
    draw = random.Random(1)
    texts = ["To be, or not to be", "ROMEO. But soft! what light", "Of Man's first disobedience", "class Queue:\n    def ",
             "Shall I compare thee to a summer's day?\n", "import os\nimport ", "O, my luve is like a", "FIRST WITCH. When shall we"]
    lines = []
    for i in range(n):
        body = {"prompt": draw.choice(texts), "max_tokens": draw.choice([1, 6, 14, 25])}
        body.update(draw.choice([{"temperature": 0}, {"temperature": 1.0, "top_p": 0.9}, {"temperature": 0.8, "seed": i},
                                 {"temperature": 1.0, "n": 3}]))
        kind = draw.random()
        if kind < 0.08:
            lines.append(json.dumps({"id": f"bad-{i}", "prompt": "x", "temperature": -1}))
        elif kind < 0.12 and lines:
            lines.append(lines[draw.randrange(len(lines))])  # a doubled id
        elif kind < 0.15:
            lines.append('{"id": ')
        elif kind < 0.30:
            lines.append(json.dumps({"custom_id": f"batch-{i}", "method": "POST", "url": "/v1/completions",
                                     "body": {"model": "m", **body}}))
        elif kind < 0.40:
            lines.append(json.dumps(body))  # its id is its line number
        else:
            lines.append(json.dumps({"id": f"p-{i}", **body}))
    path.write_text("\n".join(lines) + "\n")


class Job:
    """One start of a job under mpirun."""

    def __init__(self, settings, folder, log, *more, model=None, source=None):
        command = ["mpirun", "--oversubscribe", "--bind-to", "none", "--mca", "mpi_yield_when_idle", "1"]
        if os.geteuid() == 0:
            command.append("--allow-run-as-root")
        command += ["-n", str(settings.ranks), str(settings.program), settings.command, "--model", str(model or settings.model),
                    "--input-file", str(source or settings.input), "--output-dir", str(folder), "--ranks-per-node",
                    str(settings.ranks_per_node), "--threads-per-rank", "1", "--resume", *settings.extra, *more]
        environment = dict(os.environ, OMPI_MCA_btl_vader_single_copy_mechanism="none")
        self.log = open(log, "ab")
        self.log_begin = self.log.tell()
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, env=environment)

    def ranks(self):
        """Their process ids; those that mpirun has not started yet are missing."""
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
            except (OSError, IndexError, ValueError):
                continue
            if parent == self.process.pid and arguments[0].endswith(b"mixserve"):
                found.append(int(entry.name))
        return found

    def wait(self, timeout):
        """The exit code, or None when the job has not ended by then."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def said(self):
        """What this start has printed."""
        with open(self.log.name, "rb") as log:
            log.seek(self.log_begin)
            return log.read().decode(errors="replace")

    def destroy(self):
        for pid in self.ranks():
            send(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()


def send(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def rows_of(settings, folder):
    """(rows by what tells them apart, lines that are no rows)"""
    path = folder / ("scores.jsonl" if settings.command == "score" else "generations.jsonl")
    rows = collections.defaultdict(list)
    torn = 0
    if not path.exists():
        return rows, 0
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if row is None or not line.endswith(b"\n"):
            torn += 1
            continue
        row.pop("metrics", None)
        body = (row.get("response") or {}).get("body")
        if isinstance(body, dict):
            body.pop("created", None)
        error = row.get("error")
        rows[json.dumps([row.get("custom_id", row["id"]), error])].append(json.dumps(row))
    return rows, torn


def n_rows_in(settings, folder):
    path = folder / ("scores.jsonl" if settings.command == "score" else "generations.jsonl")
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for_a_moment(settings, job, folder, n_rows, duration_s, draw):
    """Mostly one between two random rows, whatever else the machine does; else any, such as while loading. Returns the exit
    code where the job has ended before."""
    if draw.random() < 0.25:
        return job.wait(draw.uniform(0.02, 1.1) * duration_s)
    wanted = draw.randrange(1, n_rows)
    end = time.monotonic() + HANG_S
    while n_rows_in(settings, folder) < wanted and time.monotonic() < end:
        code = job.wait(0.005)
        if code is not None:
            return code
    return job.wait(draw.uniform(0, 0.05))


def compare(settings, folder, reference, counts, where):
    """Counts what is wrong with the rows of a job that has ended; whether nothing is."""
    rows, torn = rows_of(settings, folder)
    wrong = {
        "ROWS LOST": [key for key in reference if key not in rows],
        "ROWS DOUBLED": [key for key, found in rows.items() if len(found) > 1],
        "ROWS THAT DIFFER": [key for key, found in rows.items() if key in reference and found[0] != reference[key][0]],
        "ROWS OF NO PROMPT": [key for key in rows if key not in reference],
    }
    for name, found in wrong.items():
        counts[name] += len(found)
        if found:
            print(f"{where}: {name.lower()}: {', '.join(found[:3])}", flush=True)
    counts["ROWS TORN"] += torn
    counts["rows compared"] += len(rows)
    return not torn and not any(wrong.values())


def wrong_exit_code(counts, where, code, when):
    counts["WRONG EXIT CODES"] += 1
    print(f"{where}: exit code {code} {when}", flush=True)
