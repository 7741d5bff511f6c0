"""The page and the CSV of a scaling study."""

import html

import logs
import plots
import tables

style = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1100px; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0; font-size: 13px } th, td { padding: 3px 8px; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child, td:last-child, th:last-child { text-align: left } tr.bad td { color: #b00020; background: #fdecee }
figure { display: inline-block; margin: 0 .5em 1em 0; vertical-align: top } svg { max-width: 100%; height: auto }
"""


def series_of(outcomes, kind):
    """{(model, strategy, batch): [outcome]} of the finished points of strong or weak scaling, by rising number of nodes."""
    series = {}
    for outcome in outcomes:
        labels = outcome.point.labels
        if labels["copies"] != (1 if kind == "strong" else outcome.point.nodes):
            continue
        key = (labels["model"], labels["strategy"], labels["batch"])
        if outcome.state == "finished":
            series.setdefault(key, []).append(outcome)
    return {key: sorted(found, key=lambda o: o.point.nodes) for key, found in series.items()}


def kinds_of(outcomes):
    """Which scalings the points show: strong with several sizes of one load, weak with a copy a node."""
    return [kind for kind in ("strong", "weak") if any(len(found) > 1 for found in series_of(outcomes, kind).values())]


def throughput(outcome):
    return outcome.summary["total_token_throughput"]


def efficiency(outcome, first):
    """Throughput a node, against that of the smallest number of nodes."""
    return throughput(outcome) / throughput(first) * first.point.nodes / outcome.point.nodes


def rows_of(outcomes, figures):
    header = ["point", "model", "strategy", "nodes", "ranks", "max-num-seqs", "copies", "state", "time_s", "output_tokens_per_s", "tokens_per_s",
              "strong_efficiency", "weak_efficiency", "ttft_median_ms", "ttft_p99_ms", "itl_median_ms", "itl_p99_ms", "steps",
              "decode_step_median_ms", "busy_max_over_mean", "slowest_rank", "experts_max_over_mean", "parts_max_over_mean", "failed_rows",
              *[f"share_{phase}" for phase in logs.phases], "message"]  # fmt: skip
    efficiencies = {}
    for kind in ("strong", "weak"):
        for found in series_of(outcomes, kind).values():
            for outcome in found:
                efficiencies[kind, outcome.point.name] = efficiency(outcome, found[0])
    rows = []
    for outcome in outcomes:
        point, s = outcome.point, outcome.summary
        steps = figures.get(point.name, {})
        slowest = logs.slowest_rank(s) if s else None
        load = s.get("expert_load", {})
        rows.append([
            point.name, point.labels["model"], point.labels["strategy"], point.nodes, point.nodes * point.ranks_per_node,
            point.labels["batch"], point.labels["copies"], outcome.state, s.get("duration"), s.get("output_throughput"),
            s.get("total_token_throughput"), efficiencies.get(("strong", point.name)), efficiencies.get(("weak", point.name)),
            s.get("median_ttft_ms"), s.get("p99_ttft_ms"), s.get("median_itl_ms"), s.get("p99_itl_ms"), steps.get("steps"),
            steps.get("median_decode_step_ms"), steps.get("busy_max_over_mean"), slowest[0]["rank"] if slowest else None,
            load.get("experts_max_over_mean"), load.get("parts_max_over_mean"), s.get("failed"),
            *[s["phase_shares"].get(phase) if s else None for phase in logs.phases], outcome.message,
        ])  # fmt: skip
    return header, rows


def growing_phases(kind, first, last):
    """[(phase, seconds a rank, seconds that perfect scaling would leave it)] of the phases that take longer than that, the
    largest difference first."""
    before, after = logs.phase_seconds(first.summary), logs.phase_seconds(last.summary)
    ideal = first.point.nodes / last.point.nodes if kind == "strong" else 1
    grown = [(phase, after[phase], before[phase] * ideal) for phase in logs.phases if after[phase] > before[phase] * ideal]
    return sorted(grown, key=lambda g: g[1] - g[2], reverse=True)


def growth_in_words(kind, first, last):
    grown = growing_phases(kind, first, last)
    if not grown:
        return "No phase takes longer than perfect scaling would leave it."

    def told(phase, seconds, ideal):
        share = 100 * (seconds - ideal) / last.summary["duration"]
        return (f"{phase}: {tables.number(seconds)} s a rank at {last.point.nodes} nodes, where perfect scaling would leave "
                f"{tables.number(ideal)} s; the difference is {share:.0f} % of the time")  # fmt: skip

    sentence = f"The phase that grows most is {told(*grown[0])}."
    work = [g for g in grown if g[0] != "idle"]
    if grown[0][0] == "idle" and work:
        sentence += f" Beside this waiting for other ranks it is {told(*work[0])}."
    return sentence


def in_words(kind, key, found):
    """What holds a series back, a sentence each."""
    first, last = found[0], found[-1]
    sentences = []
    if len(found) > 1:
        sentences.append(
            f"From {first.point.nodes} to {last.point.nodes} nodes the throughput goes from {tables.number(throughput(first))} to "
            f"{tables.number(throughput(last))} tokens/s: an efficiency of {100 * efficiency(last, first):.0f} %."
        )
        sentences.append(growth_in_words(kind, first, last))
    slowest = logs.slowest_rank(last.summary)
    if slowest:
        rank, ratio = slowest
        sentences.append(
            f"At {last.point.nodes} nodes the slowest rank is {rank['rank']} (node {rank['node']}, {rank['host']}), busy "
            f"{100 * (ratio - 1):.1f} % longer than the mean."
        )
    load = last.summary.get("expert_load")
    if load:
        sentences.append(
            f"Experts: the fullest of a layer gets {load['experts_max_over_mean']:.2f} times the mean (layers' average; at worst "
            f"{load['worst_max_over_mean']:.2f}, expert {load['worst_expert']} of layer {load['worst_layer']}); of what is held in one "
            f"place, max/mean is {load['parts_max_over_mean']:.2f}."
        )
    if last.summary["failed"]:
        sentences.append(f"{last.summary['failed']} rows have an error.")
    return f"{name_of(key)}, {kind} scaling", sentences


def name_of(key):
    model, strategy, batch = key
    return f"{model}, {strategy}, max-num-seqs {batch}"


def short_name(key, several_batches):
    return f"{key[1]}, {key[2]}" if several_batches else key[1]


def plots_of_model(pyplot, model, outcomes):
    several = len({outcome.point.labels["batch"] for outcome in outcomes}) > 1
    drawn = []
    for kind in kinds_of(outcomes):
        series = series_of(outcomes, kind)
        of_throughput, ideal, of_efficiency, latencies = {}, {}, {}, {"ttft": {}, "itl": {}}
        for key, found in series.items():
            name = short_name(key, several)
            first = found[0]
            of_throughput[name] = [(o.point.nodes, throughput(o)) for o in found]
            ideal[name] = [(o.point.nodes, throughput(first) * o.point.nodes / first.point.nodes) for o in found]
            of_efficiency[name] = [(o.point.nodes, 100 * efficiency(o, first)) for o in found]
            for what, lines in latencies.items():
                lines[name] = [(o.point.nodes, o.summary[f"median_{what}_ms"]) for o in found]
                lines[f"{name} p99"] = [(o.point.nodes, o.summary[f"p99_{what}_ms"]) for o in found]
        title = f"{model}: {kind} scaling"
        drawn += [
            plots.over_nodes(pyplot, f"{title}, throughput (dotted: perfect)", "tokens/s", of_throughput, ideal),
            plots.over_nodes(pyplot, f"{title}, efficiency", "%", of_efficiency, log=False, from_zero=True),
            plots.over_nodes(pyplot, f"{title}, TTFT, median and p99", "ms", latencies["ttft"], log=False, from_zero=True),
            plots.over_nodes(pyplot, f"{title}, ITL, median and p99", "ms", latencies["itl"], log=False, from_zero=True),
        ]
    bars = []
    for outcome in outcomes:
        if outcome.state == "finished":
            labels = outcome.point.labels
            name = f"{labels['strategy']}, {outcome.point.nodes} node{'s' if outcome.point.nodes > 1 else ''}" + (f", batch {labels['batch']}" if several else "")
            bars.append((name + (f", x{labels['copies']}" if labels["copies"] > 1 else ""), logs.phase_seconds(outcome.summary)))
    if bars:
        drawn.append(plots.phase_shares(pyplot, f"{model}: where the time goes", bars))
    return drawn


def visible(header, rows):
    """The table of the page: the figures without those that the plots show, rounded."""
    keep = [i for i, name in enumerate(header) if not name.startswith("share_") and name not in ("point", "steps")]
    shown = [[tables.number(row[i]) if isinstance(row[i], float) else ("" if row[i] is None else row[i]) for i in keep] for row in rows]
    return [header[i].replace("_", " ") for i in keep], shown


def write(options, outcomes, figures, pyplot):
    """report.html and points.csv into the study's folder."""
    folder = options.output_dir
    header, rows = rows_of(outcomes, figures)
    tables.write_csv(folder / "points.csv", header, rows)
    by_state = {}
    for outcome in outcomes:
        by_state.setdefault(outcome.state, []).append(outcome)
    page = ["<!DOCTYPE html>", '<html lang="en"><meta charset="utf-8"><title>Scaling study</title>', f"<style>{style}</style>",
            "<h1>Scaling study</h1>",
            "<p>" + html.escape(f"{len(outcomes)} points, " + ", ".join(f"{len(found)} {state}" for state, found in sorted(by_state.items())) +
                                f"; {options.ranks_per_node} ranks a node, launched by {options.launcher}." +
                                (f" Wire: {options.rate}, {options.delay}." if options.launcher == "minicluster" else "")) + "</p>"]  # fmt: skip
    bad = [outcome for outcome in outcomes if outcome.state != "finished"]
    if bad:
        page.append("<h2>Points without figures</h2>")
        page.append(tables.as_html(["point", "state", "why"], [[o.point.name, o.state, o.message] for o in bad], ["bad"] * len(bad)))
    page.append("<h2>Weak spots</h2>")
    for kind in kinds_of(outcomes) or ["strong"]:
        for key, found in series_of(outcomes, kind).items():
            title, sentences = in_words(kind, key, found)
            page.append(f"<p><b>{html.escape(title)}.</b> {html.escape(' '.join(sentences))}</p>")
    page.append("<h2>Plots</h2>")
    if pyplot is None:
        page.append("<p>There are none: matplotlib was not installed (Debian: python3-matplotlib).</p>")
    else:
        for model in sorted({outcome.point.labels["model"] for outcome in outcomes}):
            of_model = [outcome for outcome in outcomes if outcome.point.labels["model"] == model]
            page += [f"<figure>{svg}</figure>" for svg in plots_of_model(pyplot, model, of_model)]
    page.append("<h2>All points</h2>")
    page.append(tables.as_html(*visible(header, rows), ["" if o.state == "finished" else "bad" for o in outcomes]))
    (folder / "report.html").write_text("\n".join(page) + "\n", encoding="utf-8")
