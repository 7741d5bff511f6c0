"""What a job's output folder tells a study."""

import json
import statistics

phases = ("attention", "router", "dispatch", "experts", "combine", "logits", "sampling", "schedule", "output", "idle")


def steps(folder):
    """The lines of steps.jsonl, one at a time; a torn last line is left out."""
    try:
        with open(folder / "steps.jsonl", encoding="utf-8") as file:
            for line in file:
                if line.endswith("\n"):
                    yield json.loads(line)
    except FileNotFoundError:
        return


def step_figures(folder):
    """Of all steps: how many, the median of those that only decode, and how much longer than the mean the slowest rank of
    each was busy."""
    n = 0
    decode_ms = []
    busy_mean = busy_max = 0.0
    for step in steps(folder):
        n += 1
        if step["prefill_tokens"] == 0 and step["decode_tokens"] > 0:
            decode_ms.append(step["duration_ms"])
        busy = step.get("busy")
        if busy:
            busy_mean += busy["mean_ms"]
            busy_max += busy["max_ms"]
    return {
        "steps": n,
        "median_decode_step_ms": statistics.median(decode_ms) if decode_ms else None,
        "busy_max_over_mean": busy_max / busy_mean if busy_mean > 0 else None,
    }


def phase_seconds(summary):
    """Seconds of each phase, mean over the ranks."""
    ranks = summary.get("ranks")
    if ranks:
        return {phase: statistics.fmean(rank["phase_seconds"].get(phase, 0) for rank in ranks) for phase in phases}
    return {phase: summary["phase_shares"].get(phase, 0) * summary["duration"] for phase in phases}


def busy_seconds(rank):
    return sum(seconds for phase, seconds in rank["phase_seconds"].items() if phase != "idle")


def slowest_rank(summary):
    """(the rank's entry of the summary, how much longer than the mean it was busy), or None for one rank alone."""
    ranks = summary.get("ranks", [])
    if len(ranks) < 2:
        return None
    slowest = max(ranks, key=busy_seconds)
    mean = statistics.fmean(busy_seconds(rank) for rank in ranks)
    return (slowest, busy_seconds(slowest) / mean) if mean > 0 else None


def answers(folder):
    """What was generated for each id: a list of token ids for each sample, or of texts for rows of an OpenAI batch."""
    found = {}
    with open(folder / "generations.jsonl", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            if "custom_id" in row:
                choices = row["response"]["body"].get("choices", [])
                found[row["custom_id"]] = [choice.get("text") or choice.get("message") for choice in choices]
            elif row.get("error") is None:
                found[row["id"]] = [choice["token_ids"] for choice in row.get("choices", [row])]
    return found
