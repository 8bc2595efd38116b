"""The main figure: downstream against upstream bias per group, and the coefficients of the regressions."""

from __future__ import annotations

from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from analysis.data.cells import Outcome, by_group
from analysis.data.runs import UNTOUCHED
from analysis.estimands.rows import saturation
from analysis.estimands.slopes import CHANGE_WHAT_IS_LEARNED, PLAIN
from analysis.figures.coefficients import HOLLOW
from analysis.figures.style import (
    COLOURS,
    ESTIMANDS,
    GREY,
    LABELLED,
    TERMS,
    error_bar,
    new_figure,
    outcome_of,
    sides,
    styled,
    upstream_metric,
)

GROUPS_COLOUR = COLOURS[0]
DRAWN_TERMS = ("x", "z")


def transfer(cells: pd.DataFrame, coefficients: pd.DataFrame) -> Figure:
    """One study's figure (docs/science.md, figures 3 and 4). cells, coefficients: of `cells.cells` and `slopes.estimate`.

    Left: one point per group of the untouched model (mean over seeds), and the line of B at the mean dataset bias. Right: B
    and W per SD with 95 % intervals. A coefficient that was not estimated is replaced by the reason.
    """
    outcome = outcome_of(cells)
    of_outcome = coefficients[coefficients["outcome"] == cells["outcome"].iloc[0]]
    with styled():
        figure = new_figure(
            10, 4.4, layout=None
        )  # a layout engine would move the names of groups after they are placed
        left, right = figure.subplots(1, 2, width_ratios=(1.35, 1))
        figure.subplots_adjust(left=0.085, right=0.985, top=0.93, bottom=0.2, wspace=0.33)
        _groups(left, cells, of_outcome, outcome)
        _coefficients(right, of_outcome, outcome)
    return figure


def caption(cells: pd.DataFrame, coefficients: pd.DataFrame) -> str:
    """The sample size, the meaning of marks and bars, and what is left out."""
    means = _means(cells)
    seeds = cells.loc[cells["arm"] == UNTOUCHED, "seed"].nunique()
    thin = cells.loc[cells["thin"], "group"].nunique()
    sizes = {
        row.estimand: f"{row.n} rows, {row.clusters} groups" for row in coefficients.itertuples() if row.term == "x"
    }
    plain = coefficients["term"].astype(str).str.endswith(f" | {PLAIN}").any()
    hollow = f" {HOLLOW}" if plain else ""
    return (
        f"Left: {len(means)} groups of the untouched model, mean over {seeds} "
        f"seed{'s' if seeds != 1 else ''}; hollow: too few examples in the fine-tuning set, left out of regressions "
        f"({thin}).{sides(cells)} Line: B at the mean dataset bias. Right: change of {outcome_of(cells).axis} per SD (SD over "
        f"groups of the untouched model); B: {sizes.get('B', 'none')}; W: {sizes.get('W', 'none')}, without "
        f"{' and '.join(CHANGE_WHAT_IS_LEARNED)}. Bars: 95 % intervals, restricted wild cluster bootstrap by group.{hollow} "
        f"B is an association; W is causal only if the arms affect the outcome through x and z alone."
    )


def _means(cells: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds of x (raw), z, y and thin for the untouched arm, indexed by group. Groups without x or y are dropped."""
    untouched = cells[cells["arm"] == UNTOUCHED]
    means = by_group(untouched, ["x", "z", "y", "thin"])
    return means.dropna(subset=["x", "y"])


def _groups(axes: Axes, cells: pd.DataFrame, coefficients: pd.DataFrame, outcome: Outcome) -> None:
    saturated = UNTOUCHED in set(saturation(cells)["arm"])
    axes.set_title("Downstream against upstream bias, untouched model" + (": SATURATED" if saturated else ""))
    axes.set_xlabel(f"upstream bias: {upstream_metric(cells)}, mean over templates (raw units)")
    axes.set_ylabel(f"downstream bias: {outcome.axis}")
    means = _means(cells)
    if means.empty:
        axes.text(
            0.5, 0.5, "no finished untouched trial", ha="center", va="center", transform=axes.transAxes, color=GREY
        )
        axes.set(xticks=[], yticks=[])
        return
    for thin, fill_colour, name in ((False, GROUPS_COLOUR, "group"), (True, "none", "group with too few examples")):
        chosen = means[means["thin"].astype(bool) == thin]
        if len(chosen):
            axes.scatter(
                chosen["x"], chosen["y"], s=24, facecolors=fill_colour, edgecolors=GROUPS_COLOUR, label=name, alpha=0.85
            )
    _line(axes, means[means["thin"] == 0], coefficients, float(cells["x_scale"].iloc[0]))
    _name_extremes(axes, means)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, fontsize=8)


def _line(axes: Axes, used: pd.DataFrame, coefficients: pd.DataFrame, scale: float) -> None:
    b = coefficients[(coefficients["estimand"] == "B") & (coefficients["term"] == "x")]
    used = used.dropna(subset=["x", "y"] if used["z"].isna().all() else None)
    slope = float(b["coefficient"].iloc[0]) / scale if len(b) and scale > 0 else float("nan")
    if not np.isfinite(slope) or used.empty:
        return
    ends = np.array([used["x"].min(), used["x"].max()])
    axes.plot(ends, used["y"].mean() + slope * (ends - used["x"].mean()), color=GREY, lw=1.5, label="B, least squares")


def _name_extremes(axes: Axes, means: pd.DataFrame) -> None:
    """Name the groups at the ends of both axes, the most extreme first. A name that would cover another is left out."""
    extremity = ((means[["x", "y"]] - means[["x", "y"]].median()) / means[["x", "y"]].std()).abs().max(axis=1)
    ends = {
        group
        for name in ("x", "y")
        for group in (*means[name].nlargest(LABELLED).index, *means[name].nsmallest(LABELLED).index)
    }
    axes.set(
        xlim=axes.get_xlim(), ylim=axes.get_ylim()
    )  # fixed limits, so that the boxes are where the names will be drawn
    taken = list[Bbox]()
    for group in sorted(ends, key=lambda group: (-extremity[group], str(group))):
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
    """Draw B above W for each term, each with its label."""
    axes.set_title("Coefficients, per SD")
    axes.set_xlabel(f"change of {outcome.axis}\nper SD (95 % interval)")
    for place, term in enumerate(DRAWN_TERMS):
        for estimand, height in zip(ESTIMANDS, (0.2 - place, -0.25 - place), strict=True):
            of_estimand = coefficients[coefficients["estimand"] == estimand]
            _bar(axes, height, estimand, of_estimand[of_estimand["term"] == term])
            _plain_bar(axes, height - 0.09, estimand, of_estimand[of_estimand["term"] == f"{term} | {PLAIN}"])
    axes.set_yticks([-place for place in range(len(DRAWN_TERMS))], [TERMS[term] for term in DRAWN_TERMS])
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=6)
    if axes.containers:
        axes.axvline(0, color=GREY, lw=0.8, ls=":", zorder=0)
    else:
        axes.set_xticks([])
    axes.set_ylim(-len(DRAWN_TERMS) + 0.45, 0.6)


def _plain_bar(axes: Axes, height: float, estimand: str, rows: pd.DataFrame) -> None:
    """B without the covariates of the groups' names, hollow; nothing where there is no such fit."""
    _, colour, mark = ESTIMANDS[estimand]
    for row in rows[np.isfinite(rows["coefficient"].astype(float))].to_dict("records"):
        bar = error_bar(row["coefficient"], row["low"], row["high"])
        axes.errorbar(row["coefficient"], height, xerr=bar, fmt=mark, color=colour, mfc="white", capsize=3, alpha=0.7)


def _bar(axes: Axes, height: float, estimand: str, rows: pd.DataFrame) -> None:
    name, colour, mark = ESTIMANDS[estimand]
    row = rows.iloc[0] if len(rows) else None
    text = f"{estimand}: {name}"
    if row is None or not np.isfinite(row["coefficient"]):
        text = fill(f"{text}: not estimated ({row['reason'] if row is not None else 'not fitted'})", 52)
    else:
        bar = error_bar(row["coefficient"], row["low"], row["high"])
        axes.errorbar(row["coefficient"], height, xerr=bar, fmt=mark, color=colour, capsize=3)
    axes.text(0.02, height + 0.06, text, fontsize=8, color=colour, va="bottom", transform=axes.get_yaxis_transform())
