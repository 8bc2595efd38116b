"""The figure of the controls."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.validation.control_checks import BOTH, MARGIN, Slope, cells_of_positive, slope, slopes, wiki, worlds


def figure(rows: pd.DataFrame, nothing: pd.DataFrame | None) -> Figure:
    """Draw dose-response, the groups at dose 1, the 2 x 2, and the worlds in which nothing was planted."""
    mpl.rcParams["svg.hashsalt"] = "bias-transfer"
    drawn = Figure(figsize=(11, 8), layout="constrained")
    doses, scatter, square, empty = drawn.subplots(2, 2).flat
    cells = cells_of_positive(rows)
    _bars(doses, {name: slope(cell, "logit_gap") for name, cell in cells.items()}, "#0072B2")
    doses.set_title("Positive control: slope of the logit gap on the planted order", fontsize=10)
    for name, colour in (("dose 1", "#0072B2"), ("dose 1, reinitialised", "#D55E00")):
        means = cells[name].groupby("group")[["planted_share", "logit_gap"]].mean()
        marker = "o" if name == "dose 1" else "^"
        scatter.plot(means["planted_share"], means["logit_gap"], marker, color=colour, label=name, markersize=4)
    scatter.set_xlabel("planted share of negative sentences")
    scatter.set_ylabel("logit gap (logits, mean of 4 trials)")
    scatter.set_title("One point per group (n = 50)", fontsize=10)
    scatter.legend(fontsize=8)
    both: dict[str, Slope] = {}
    for x in (0.0, 0.45):
        for z in (0.0, 0.25):
            of_x, of_z = slopes(wiki(rows, mention_share=0.4, upstream_spread=x, dataset_spread=z), "logit_gap", BOTH)
            name = f"{'x' if x else '-'} {'z' if z else '-'} planted"
            both |= {f"{name}: on x": of_x, f"{name}: on z": of_z}
    _bars(square, both, "#009E73")
    square.set_title("2 x 2: slopes on the planted orders", fontsize=10)
    if nothing is None:
        empty.set_axis_off()
    else:
        by_world = worlds(nothing)
        by_world = by_world[by_world["outcome"] == "log_fpr"].sort_values("slope")
        colours = ["#D55E00" if p < 0.05 else "#56B4E9" for p in by_world["p"]]
        empty.barh(range(len(by_world)), by_world["slope"], color=colours)
        empty.axvspan(-MARGIN, MARGIN, color="0.9", zorder=0)
        empty.set_yticks([])
        empty.set_xlabel("slope on the world's own x, learned by accident and carried over\n(ln FPR per SD)")
        empty.set_title(f"Nothing planted: {len(by_world)} worlds (orange: p < .05; grey: margin)", fontsize=10)
    return drawn


def _bars(axes: Axes, found: Mapping[str, Slope], colour: str) -> None:
    for height, (name, estimate) in enumerate(reversed(list(found.items()))):
        axes.plot([estimate.low, estimate.high], [height, height], color=colour)
        axes.plot(estimate.value, height, "o", color=colour)
        axes.text(0.01, height + 0.2, name, fontsize=8, transform=axes.get_yaxis_transform())
    axes.axvline(0, color="0.6", linewidth=0.8)
    axes.set_yticks([])
    axes.set_ylim(-0.5, len(found) - 0.3)
    axes.set_xlabel("logits, from the lowest group to the middle one\n(bars: 95 % intervals, HC3)")
