"""Prompts for studies: made from a seed, or copies of given ones."""

import json
import random


def vocab_size(model, load_format, mixserve, run):
    """Of a config.json (dummy models) or an HDF5 model."""
    if load_format == "dummy":
        path = model / "config.json" if model.is_dir() else model
        return json.loads(path.read_text())["vocab_size"]
    shown = run([mixserve, "inspect", str(model), "--json"], capture_output=True, text=True, check=True)
    return json.loads(shown.stdout)["vocabulary"]


def write_random(path, n_prompts, n_tokens, n_output, vocabulary, seed=1):
    """Prompts of `n_tokens` random tokens, of which each is continued greedily by exactly `n_output`."""
    numbers = random.Random(seed)
    with open(path, "w", encoding="utf-8") as file:
        for i in range(n_prompts):
            tokens = [numbers.randrange(vocabulary) for _ in range(n_tokens)]
            file.write(json.dumps({"id": str(i), "prompt": tokens, "max_tokens": n_output, "ignore_eos": True, "temperature": 0}) + "\n")


def write_copies(path, source, n_copies):
    """`n_copies` of every line, with ids that differ."""
    with open(source, encoding="utf-8") as lines, open(path, "w", encoding="utf-8") as file:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            entry = json.loads(line) if not str(source).endswith(".txt") else {"prompt": line.rstrip("\n")}
            key = "custom_id" if "custom_id" in entry else "id"
            name = entry.get(key, number)
            for copy in range(n_copies):
                file.write(json.dumps({**entry, key: f"{name}-{copy}"}) + "\n")
