"""The first figure: downstream against upstream bias per group, and the coefficients that the regressions give."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from analysis.data.runs import OUTCOMES
from analysis.data.runs import UNTOUCHED
from analysis.data.runs import Outcome
from analysis.estimands.slopes import CHANGE_WHAT_IS_LEARNED
from analysis.estimands.saturation import saturation

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"
"""Okabe and Ito's palette: colour-blind readers can tell them apart. Marks differ as well."""

ESTIMANDS = {"B": ("between groups, untouched model", BLUE, "o"), "W": ("within groups, over arms", ORANGE, "s")}
TERMS = {"x": "upstream bias", "z": "dataset bias"}

LABELLED = 3
"""Groups named at each end of upstream and of downstream bias: more would clutter."""

STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "svg.hashsalt": "bias_transfer",
}


def transfer(cells: pd.DataFrame, coefficients: pd.DataFrame) -> Figure:
    """One study's figure, as SCIENCE.md's figures 3 and 4. cells: of `load.cells`; coefficients: of `regress`.

    Left: one point a group of the untouched model, means over seeds, and B's line at the mean dataset bias. Right: B and W
    per SD with 95 % intervals. What was refused is said in its place.
    """
    outcome = OUTCOMES[str(cells["outcome"].iloc[0])]
    own = coefficients[coefficients["outcome"] == cells["outcome"].iloc[0]]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 4.4))
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2, width_ratios=(1.35, 1))
        figure.subplots_adjust(left=0.07, right=0.985, top=0.93, bottom=0.2, wspace=0.33)
        _groups(left, cells, own, outcome)
        _coefficients(right, own, outcome)
    return figure


def caption(cells: pd.DataFrame, coefficients: pd.DataFrame) -> str:
    """n, what the marks and bars mean, and what is left out."""
    outcome = OUTCOMES[str(cells["outcome"].iloc[0])]
    means = _means(cells)
    seeds = cells.loc[cells["arm"] == UNTOUCHED, "seed"].nunique()
    thin = cells.loc[cells["thin"], "group"].nunique()
    sizes = {
        row.estimand: f"{row.n} rows, {row.clusters} groups" for row in coefficients.itertuples() if row.term == "x"
    }
    return (
        f"Left: {len(means)} groups of the untouched model, mean over {seeds} "
        f"seed{'s' if seeds != 1 else ''}; hollow: too few examples in the fine-tuning set, left out of regressions "
        f"({thin}); line: B at the mean dataset bias. Right: change of {outcome.axis} per SD (SD over groups of the "
        f"untouched model); B: {sizes.get('B', 'none')}; W: {sizes.get('W', 'none')}, without "
        f"{' and '.join(CHANGE_WHAT_IS_LEARNED)}. Bars: 95 % intervals, restricted wild cluster bootstrap by group. "
        f"B is an association; W is causal only if the arms reach the outcome through x and z alone."
    )


def _means(cells: pd.DataFrame) -> pd.DataFrame:
    """group -> x (raw), z, y, thin of the untouched arm, means over seeds; groups without x or y are dropped."""
    untouched = cells[cells["arm"] == UNTOUCHED]
    means = untouched.groupby("group", sort=False)[["x", "z", "y", "thin"]].mean()
    return means.dropna(subset=["x", "y"])


def _groups(axes: Axes, cells: pd.DataFrame, coefficients: pd.DataFrame, outcome: Outcome) -> None:
    metric = str(cells["x_metric"].iloc[0]).replace("_", " ")
    blunt = UNTOUCHED in set(saturation(cells)["arm"])
    axes.set_title("Downstream against upstream bias, untouched model" + (": SATURATED" if blunt else ""))
    axes.set_xlabel(f"upstream bias: {metric}, mean over templates (raw units)")
    axes.set_ylabel(f"downstream bias: {outcome.axis}")
    means = _means(cells)
    if means.empty:
        _say(axes, "no finished untouched trial")
        return
    for thin, fill_colour, name in ((False, BLUE, "group"), (True, "none", "group with too few examples")):
        chosen = means[means["thin"].astype(bool) == thin]
        if len(chosen):
            axes.scatter(
                chosen["x"], chosen["y"], s=24, facecolors=fill_colour, edgecolors=BLUE, label=name, alpha=0.85
            )
    _line(axes, means[means["thin"] == 0], coefficients, float(cells["x_scale"].iloc[0]))
    _name_extremes(axes, means)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, fontsize=8)


def _line(axes: Axes, used: pd.DataFrame, coefficients: pd.DataFrame, scale: float) -> None:
    found = coefficients[(coefficients["estimand"] == "B") & (coefficients["term"] == "x")]
    used = used.dropna(subset=["x", "y"] if used["z"].isna().all() else None)
    slope = float(found["coefficient"].iloc[0]) / scale if len(found) and scale > 0 else float("nan")
    if not np.isfinite(slope) or used.empty:
        return
    ends = np.array([used["x"].min(), used["x"].max()])
    axes.plot(ends, used["y"].mean() + slope * (ends - used["x"].mean()), color=GREY, lw=1.5, label="B, least squares")


def _name_extremes(axes: Axes, means: pd.DataFrame) -> None:
    """Name the groups at the ends of both axes, those first that stand out most; a name that would cover another is left
    out."""
    away = ((means[["x", "y"]] - means[["x", "y"]].median()) / means[["x", "y"]].std()).abs().max(axis=1)
    ends = {
        group
        for name in ("x", "y")
        for group in (*means[name].nlargest(LABELLED).index, *means[name].nsmallest(LABELLED).index)
    }
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())  # fixed, so that boxes are where they will be drawn
    taken = list[Bbox]()
    for group in sorted(ends, key=lambda group: -away[group]):
        x, y, left = means.loc[group, "x"], means.loc[group, "y"], means.loc[group, "x"] < means["x"].median()
        text = axes.annotate(
            str(group), (x, y), xytext=(5 if left else -5, 3), textcoords="offset points", fontsize=7.5
        )
        text.set_horizontalalignment("left" if left else "right")
        box = text.get_window_extent().expanded(1.2, 1.1)
        if any(box.overlaps(other) for other in taken):
            text.remove()
        else:
            taken.append(box)


def _coefficients(axes: Axes, coefficients: pd.DataFrame, outcome: Outcome) -> None:
    """B above W for each term, each bar named where it stands."""
    axes.set_title("Coefficients, per SD")
    axes.set_xlabel(f"change of {outcome.axis}\nper SD (95 % interval)")
    for place, term in enumerate(TERMS):
        for estimand, height in zip(ESTIMANDS, (0.2 - place, -0.25 - place), strict=True):
            found = coefficients[(coefficients["estimand"] == estimand) & (coefficients["term"] == term)]
            _bar(axes, height, estimand, found)
    axes.set_yticks([-place for place in range(len(TERMS))], list(TERMS.values()))
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=6)
    if axes.containers:
        axes.axvline(0, color=GREY, lw=0.8, ls=":", zorder=0)
    else:
        axes.set_xticks([])
    axes.set_ylim(-len(TERMS) + 0.45, 0.6)


def _bar(axes: Axes, height: float, estimand: str, found: pd.DataFrame) -> None:
    name, colour, mark = ESTIMANDS[estimand]
    row = found.iloc[0] if len(found) else None
    known = row is not None and np.isfinite(row["coefficient"])
    text = f"{estimand}: {name}"
    if row is None or not known:
        text = fill(f"{text}: no number ({row['reason'] if row is not None else 'not fitted'})", 50)
    else:
        reach = [[row["coefficient"] - row["low"]], [row["high"] - row["coefficient"]]]
        axes.errorbar(row["coefficient"], height, xerr=reach, fmt=mark, color=colour, capsize=3)
    axes.text(0.02, height + 0.06, text, fontsize=8, color=colour, va="bottom", transform=axes.get_yaxis_transform())


def _say(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, color=GREY)
    axes.set(xticks=[], yticks=[])


def save(figure: Figure, folder: Path, name: str = "figure") -> Sequence[Path]:
    """Write `name`.png and `name`.svg, the same bits for the same figure."""
    paths = [folder / f"{name}.png", folder / f"{name}.svg"]
    with mpl.rc_context(STYLE):
        figure.savefig(paths[0], dpi=150)
        figure.savefig(paths[1], metadata={"Date": None})
    return paths
