"""Plots as SVG text, with matplotlib."""

import io
import sys

from logs import phases

phase_colours = {
    "attention": "#4878d0", "router": "#d5bb67", "dispatch": "#ee854a", "experts": "#6acc64", "combine": "#d65f5f",
    "logits": "#956cb4", "sampling": "#dc7ec0", "schedule": "#8c613c", "output": "#82c6e2", "idle": "#dddddd",
}  # fmt: skip
series_colours = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2")


def matplotlib_or_none():
    """The pyplot module; None, with a message, where it is not installed."""
    try:
        import matplotlib
    except ImportError:
        print("no plots: matplotlib is missing; install it (apt-get install python3-matplotlib, or python3 -m pip install --user "
              "matplotlib) and start again", file=sys.stderr)  # fmt: skip
        return None
    matplotlib.use("svg")
    matplotlib.rcParams.update({
        "svg.fonttype": "none", "svg.hashsalt": "mixserve", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3,
        "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "legend.fontsize": 8,
    })  # fmt: skip
    from matplotlib import pyplot

    return pyplot


def svg_of(pyplot, figure):
    """The <svg> element alone, as it can stand in a page; the same for the same figure."""
    text = io.StringIO()
    figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    return text.getvalue()[text.getvalue().index("<svg") :]


def over_nodes(pyplot, title, label, series, ideal=None, log=True, from_zero=False):
    """Lines over numbers of nodes. `series`: {name: [(nodes, value)]}; a name that ends in "p99" is dashed in the colour of
    its median. `ideal`: {name: [(nodes, value)]}, thin dotted lines."""
    figure, axes = pyplot.subplots(figsize=(4.6, 3.2))
    colours = {}
    nodes = sorted({n for points in series.values() for n, _ in points})
    for name, points in series.items():
        base = name.removesuffix(" p99")
        colour = colours.setdefault(base, series_colours[len(colours) % len(series_colours)])
        dashes = "--" if name != base else "-"
        axes.plot(*zip(*sorted(points)), dashes, marker="o", markersize=4, color=colour, label=name)
        if ideal and ideal.get(name):
            axes.plot(*zip(*sorted(ideal[name])), ":", linewidth=1, color=colour)
    if log:
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2 if not from_zero else 10)
    if from_zero:
        axes.set_yscale("linear")
        axes.set_ylim(bottom=0)
    axes.set_xticks(nodes, [str(n) for n in nodes])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("nodes")
    axes.set_ylabel(label)
    axes.set_title(title, fontsize=10)
    axes.legend()
    return svg_of(pyplot, figure)


def phase_shares(pyplot, title, bars):
    """Stacked shares of the time. `bars`: [(name, {phase: seconds})]."""
    figure, axes = pyplot.subplots(figsize=(9.4, 0.6 + 0.3 * len(bars)))
    left = [0.0] * len(bars)
    totals = [sum(seconds.values()) or 1 for _, seconds in bars]
    for phase in phases:
        widths = [100 * seconds.get(phase, 0) / total for (_, seconds), total in zip(bars, totals)]
        axes.barh(range(len(bars)), widths, left=left, color=phase_colours[phase], label=phase, height=0.75)
        left = [a + b for a, b in zip(left, widths)]
    axes.set_yticks(range(len(bars)), [name for name, _ in bars])
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of the time of all ranks")
    axes.set_title(title, fontsize=10)
    axes.legend(ncol=1, loc="center left", bbox_to_anchor=(1, 0.5))
    return svg_of(pyplot, figure)


def grouped_bars(pyplot, panels):
    """Panels side by side. `panels`: [(title, label, group names, {series: [value or None for each group]})]."""
    figure, all_axes = pyplot.subplots(1, len(panels), figsize=(3.6 * len(panels), 3.2), squeeze=False)
    for axes, (title, label, groups, series) in zip(all_axes[0], panels):
        width = 0.8 / len(series)
        for i, (name, values) in enumerate(series.items()):
            places = [g + (i - (len(series) - 1) / 2) * width for g in range(len(groups))]
            axes.bar(places, [value or 0 for value in values], width * 0.95, color=series_colours[i % len(series_colours)], label=name)
            for place, value in zip(places, values):
                axes.annotate("failed" if value is None else f"{value:.3g}", (place, value or 0), ha="center", va="bottom",
                              fontsize=6, rotation=90, xytext=(0, 1), textcoords="offset points")  # fmt: skip
        axes.set_xticks(range(len(groups)), groups)
        axes.set_ylabel(label)
        axes.set_title(title, fontsize=10)
        axes.margins(y=0.15)
    all_axes[0][-1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    return svg_of(pyplot, figure)


def joined(spans, gap):
    """[(begin, end)], rising, with those put together that lie no more than `gap` apart."""
    bars = []
    for begin, end in sorted(spans):
        if bars and begin - bars[-1][1] <= gap:
            bars[-1] = (bars[-1][0], max(bars[-1][1], end))
        else:
            bars.append((begin, end))
    return bars


def timeline(pyplot, title, rows, begin_us, end_us):
    """`rows`: [(name, [(begin_us, end_us, phase or colour)])], from the top down; times from `begin_us` on, in ms."""
    figure, axes = pyplot.subplots(figsize=(9.4, 0.8 + 0.38 * len(rows)))
    hair = (end_us - begin_us) / 2000  # thinner than a line can be seen
    for i, (_, spans) in enumerate(rows):
        for kind in {kind for *_, kind in spans}:
            bars = joined([(begin, end) for begin, end, of in spans if of == kind], hair)
            axes.broken_barh([((begin - begin_us) / 1e3, (end - begin) / 1e3) for begin, end in bars], (i - 0.4, 0.8),
                             linewidth=0, color=phase_colours.get(kind, kind))  # fmt: skip
    shown = {kind for _, spans in rows for *_, kind in spans if kind in phase_colours}
    handles = [pyplot.Rectangle((0, 0), 1, 1, color=phase_colours[phase]) for phase in phases if phase in shown]
    axes.legend(handles, [phase for phase in phases if phase in shown], loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, (end_us - begin_us) / 1e3)
    axes.set_xlabel("ms")
    axes.set_title(title, fontsize=10)
    return svg_of(pyplot, figure)
