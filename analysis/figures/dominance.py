"""The dominance plot: harm reduced and the change of utility, one mark per arm, and the front that no arm dominates."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.data.runs import UNTOUCHED
from analysis.estimands.ranking import CONTROL, FAILED, NOT_RANKED, RANKED, UTILITIES
from analysis.figures.style import (
    GREY,
    Styles,
    arm_style,
    bars,
    error_bar,
    explanation,
    new_figure,
    seeds_in_words,
    styled,
)

POINTS = 100
"""Points in a utility of 1."""

HOLLOW = {CONTROL: "control", FAILED: "check failed", NOT_RANKED: "no interval"}
"""Standing -> what the legend says behind an arm that is not ranked."""


def shown(ranking: pd.DataFrame) -> pd.DataFrame:
    """The arms that have a place in the plot: by the main utility, with both estimates."""
    rows = ranking[ranking["main"].astype(bool)] if len(ranking) else ranking
    return rows.dropna(subset=["harm_reduced", "utility_lost"])


def dominance(ranking: pd.DataFrame, styles: Styles | None = None) -> Figure:
    """Harm reduced (right: less harm) against the change of utility (up: better). ranking: one study's, one outcome's."""
    rows = shown(ranking)
    if rows.empty:
        return explanation("There is no arm with an outcome and a utility in the seeds of the untouched arm.")
    style_of = styles or arm_style(ranking["arm"].unique())
    with styled():
        figure = new_figure(9, max(4.6, 1.2 + 0.24 * len(rows)))
        axes = figure.subplots()
        _front(axes, rows)
        axes.plot(0, 0, "o", color=style_of[UNTOUCHED].colour, label=style_of[UNTOUCHED].label, ls="none")
        for row in rows.to_dict("records"):
            _mark(axes, row, style_of)
        for line in (axes.axhline, axes.axvline):
            line(0, color=GREY, lw=0.8, ls=":", zorder=0)
        name = UTILITIES[str(rows["utility"].iloc[0])]
        axes.set_xlabel(fill(f"harm reduced: {rows['unit'].iloc[0]} (further right: less harm)", 70))
        axes.set_ylabel(f"change of {name} in points (further up: better)")
        axes.set_title("Harm reduced and utility, against the untouched arm")
        figure.legend(loc="outside right upper")
    return figure


def _mark(axes: Axes, row: Mapping[Any, Any], style_of: Styles) -> None:
    """An arm with its two bars: filled and numbered if it is ranked, hollow if it is shown apart."""
    style, ranked = style_of[str(row["arm"])], row["standing"] == RANKED
    x, y = row["harm_reduced"], -POINTS * row["utility_lost"]
    ends = -POINTS * row["utility_joint_high"], -POINTS * row["utility_joint_low"]
    label = f"{row['rank']:.0f}  {style.label}" if ranked else f"({HOLLOW[row['standing']]})  {style.label}"
    axes.errorbar(
        x, y, xerr=error_bar(x, row["harm_joint_low"], row["harm_joint_high"]), yerr=error_bar(y, *ends), fmt=style.mark,
        color=style.colour, markerfacecolor=style.colour if ranked else "white", elinewidth=0.8,
        alpha=1 if ranked else 0.6, label=fill(label, 40),
    )  # fmt: skip
    if ranked:
        axes.annotate(f"{row['rank']:.0f}", (x, y), (4, 4), textcoords="offset points", fontsize=9)


def _front(axes: Axes, rows: pd.DataFrame) -> None:
    """A staircase through the arms that none dominates; doing nothing is one of them if it is not dominated either."""
    ranked = rows[rows["standing"] == RANKED]
    points = np.array([(0.0, 0.0), *zip(ranked["harm_reduced"], -POINTS * ranked["utility_lost"], strict=True)])
    free = [point for point in points if not any((other >= point).all() and (other > point).any() for other in points)]
    x, y = np.array(sorted(map(tuple, free))).T
    # Below and to the left of each corner, an arm of the front does less harm at no more cost.
    axes.step(x, y, where="pre", color=GREY, lw=1, ls="--", zorder=1, label="front: dominated by none")


def caption(cells: pd.DataFrame, ranking: pd.DataFrame) -> str:
    """The number of arms, groups and seeds, and the meaning of marks and bars."""
    rows = shown(ranking)
    groups, ranked = int(rows["n_groups"].max() if len(rows) else 0), int((rows["standing"] == RANKED).sum())
    joint = bars(cells).replace(
        "95 % intervals (t)", "97.5 % intervals, so that an arm's two hold together in 95 % (t)"
    )
    return (
        f"{len(rows)} arms against the untouched one (at 0, 0), {seeds_in_words(rows['seeds'])} and {groups} groups; "
        f"{ranked} are ranked, by the number next to them. An arm dominates those below and to the left of it. Hollow marks: "
        f"controls, arms whose manipulation check failed, and arms without an interval. {joint}"
    )
