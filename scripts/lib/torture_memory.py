"""scripts/torture --memory: the resident memory of all ranks over a long input of short prompts."""

import json
import pathlib
import random
import time

from torture_jobs import Job

MAX_GROWTH_MB = 16  # between a quarter of the rows and all of them; ids take some 40 bytes each on rank 0


def write_short_prompts(path, n):
    draw = random.Random(1)
    words = ["To", "be", "or", "not", "thou", "art", "class", "def", "import", "light", "paradise", "lost"]
    with path.open("w") as file:
        for i in range(n):
            text = " ".join(draw.choices(words, k=draw.randint(1, 4)))
            file.write(json.dumps({"id": f"prompt-{i}", "prompt": text, "max_tokens": draw.randint(1, 2)}) + "\n")


def resident_mb(pid):
    try:
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def count_lines(path, state):
    """Lines so far; reads what is new only."""
    if path.exists():
        with path.open("rb") as file:
            file.seek(state["at"])
            while block := file.read(1 << 20):
                state["lines"] += block.count(b"\n")
                state["at"] += len(block)
    return state["lines"]


def watch(settings):
    """The exit code: 1 where the job fails or the memory of a rank grows."""
    write_short_prompts(settings.input, settings.memory)
    folder, log = settings.folder / "memory", settings.folder / "memory.log"
    begin = time.monotonic()
    job = Job(settings, folder, log)
    rows = folder / ("scores.jsonl" if settings.command == "score" else "generations.jsonl")
    state = {"at": 0, "lines": 0}
    samples = []  # (rows, [MB of each rank])
    while job.wait(0.5) is None:
        ranks = sorted(job.ranks())
        if len(ranks) == settings.ranks:
            samples.append((count_lines(rows, state), [resident_mb(pid) for pid in ranks]))
    n_rows = count_lines(rows, state)
    print(f"{n_rows} rows of {settings.memory} prompts in {time.monotonic() - begin:.0f} s; exit code {job.process.returncode}")
    print("  rows done   resident MB of each rank")
    for share in (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99):
        there = [sample for sample in samples if sample[0] >= share * settings.memory]
        if there:
            print(f"  {there[0][0]:>9}   " + " ".join(f"{mb:8.1f}" for mb in there[0][1]), flush=True)
    late = [mb for done, mb in samples if settings.memory > done >= settings.memory / 4 and all(mb)]
    if not late:
        print("too few samples: give more prompts")
        return 1
    growth = [max(mb[rank] for mb in late) - late[0][rank] for rank in range(settings.ranks)]
    print("  growth after a quarter of the rows: " + " ".join(f"{mb:.1f}" for mb in growth) + f" MB (at most {MAX_GROWTH_MB})")
    return 0 if job.process.returncode == 0 and n_rows == settings.memory and max(growth) <= MAX_GROWTH_MB else 1
