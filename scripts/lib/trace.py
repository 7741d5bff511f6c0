"""Reads a Chrome trace of mixserve, and finds in it one layer's exchange to draw."""

import json


def read(path):
    """(phases, messages): dictionaries with rank, node, layer, begin_us, end_us, and phase, or (bytes, what)."""
    with open(path, encoding="utf-8") as file:
        events = json.load(file)
    phases = []
    messages = []
    for event in events:
        entry = {"rank": event["tid"], "node": event["pid"], "layer": event.get("args", {}).get("layer", -1)}
        if event["ph"] == "X":
            entry |= {"phase": event["name"], "begin_us": event["ts"], "end_us": event["ts"] + event["dur"]}
            phases.append(entry)
        elif event["ph"] == "i":
            messages.append(entry | {"what": event["name"], "bytes": event["args"]["bytes"], "end_us": event["ts"]})
    return phases, messages


def layer_passes(phases, layer):
    """[(begin_us, end_us)] of every time that the ranks passed through a layer's experts, from the first router to the last
    rank's end, all ranks together."""
    begins = {}
    for span in phases:
        if span["layer"] == layer and span["phase"] == "router":
            begins.setdefault(span["rank"], []).append(span["begin_us"])
    ends = {}
    for span in phases:
        if span["layer"] != layer or span["phase"] not in ("dispatch", "experts", "combine"):
            continue
        places = begins.get(span["rank"], [])
        place = sum(1 for begin in places if begin <= span["begin_us"]) - 1
        if place >= 0:
            key = (span["rank"], place)
            ends[key] = max(ends.get(key, 0), span["end_us"])
    n = min((len(places) for places in begins.values()), default=0)
    return [
        (min(places[i] for places in begins.values()), max(ends.get((rank, i), 0) for rank in begins)) for i in range(n)
    ]


def fullest_pass(phases, messages):
    """(layer, begin_us, end_us) of the middle layer's exchange in the step that moves most, a large prefill; of several such
    the shortest, which nothing held up. None where nothing crossed nodes."""
    layers = sorted({message["layer"] for message in messages})
    if not layers:
        return None
    layer = layers[len(layers) // 2]

    def moved(begin, end):
        return sum(m["bytes"] for m in messages if m["layer"] == layer and begin <= m["end_us"] <= end)

    passes = [(moved(begin, end), begin, end) for begin, end in layer_passes(phases, layer)]
    most = max(n for n, *_ in passes)
    return (layer, *min((p[1:] for p in passes if p[0] >= 0.9 * most), key=lambda p: p[1] - p[0]))


def wire_spans(messages, node, bytes_per_us, begin_us, end_us):
    """When the wire into `node` was busy with the messages that came: each takes its bytes at the wire's rate and has ended
    by its arrival, one after the other."""
    spans = []
    free_until = float("inf")
    arrived = [m for m in messages if m["node"] == node and begin_us <= m["end_us"] <= end_us]
    for message in sorted(arrived, key=lambda m: m["end_us"], reverse=True):
        end = min(message["end_us"], free_until)
        free_until = end - message["bytes"] / bytes_per_us
        spans.append((max(free_until, begin_us), end, message["what"]))
    return spans
