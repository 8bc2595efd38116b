"""The picture of the first screen: what each arm did to the harm, and at what cost in utility."""

from __future__ import annotations

import math
from textwrap import fill
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from analysis.data.cells import Outcome, outcome_named
from analysis.estimands.ranking import CONTROL, FAILED, RANKED, UTILITIES
from analysis.figures.style import (
    COLOURS,
    GREY,
    arm_label,
    error_bar,
    explanation,
    new_figure,
    seeds_in_words,
    styled,
)

SIDES = {
    "model": ("changes the model", COLOURS[0], "s"),
    "data": ("changes the data", COLOURS[1], "^"),
    "both": ("changes both", COLOURS[2], "D"),
}
"""Side -> its label, colour and mark."""

REFERENCE = ("reference or control, not a mitigation", GREY, "o")

MOST = 24
"""More arms than this are not shown in one picture; those closest to no change are left out."""


def picture(rows: pd.DataFrame) -> Figure:
    """One row per arm, the largest reduction of harm on top. rows: of one study and outcome, with `answer.COLUMNS`."""
    shown = chosen(rows)
    if shown.empty:
        return explanation("No arm can be compared with the untouched model: they share no seed.")
    outcome = outcome_named(str(shown["outcome"].iloc[0]))
    with styled():
        figure = new_figure(8, 1.3 + 0.42 * len(shown))
        harm, utility = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
        for place, row in enumerate(shown.to_dict("records")):
            _point(harm, place, row, "harm", ("harm_low", "harm_high"))
            _point(utility, place, row, "utility_change", ("utility_low", "utility_high"))
        harm.set_yticks(range(len(shown)), [fill(arm_label(str(arm)), 30) for arm in shown["arm"]])
        harm.set_ylim(len(shown) - 0.4, -0.6)
        _axis(harm, "change of harm (left: less)", _harm_label(outcome), outcome)
        _axis(
            utility,
            "change of utility (left: worse)",
            f"{UTILITIES.get(str(shown['utility'].iloc[0]), 'utility')}, points",
            None,
        )
        handles, labels = harm.get_legend_handles_labels()
        unique = dict(zip(labels, handles, strict=True))
        figure.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=2)
    return figure


def chosen(rows: pd.DataFrame) -> pd.DataFrame:
    """The arms with a change of harm, those with the largest ones if there are more than `MOST`, in their order."""
    known = rows[rows["harm"].notna()].astype({"harm": float})
    return known.loc[known["harm"].abs().nlargest(MOST).index].sort_values("harm", kind="stable")


def _look(row: Any) -> tuple[str, str, str]:
    return SIDES[row["side"]] if row["mitigation"] and row["standing"] != CONTROL else REFERENCE


def _point(axes: Axes, place: int, row: Any, middle: str, ends: tuple[str, str]) -> None:
    if math.isnan(row[middle]):
        return
    label, colour, mark = _look(row)
    hollow = row["standing"] != RANKED
    axes.errorbar(
        row[middle], place, xerr=error_bar(row[middle], *(row[end] for end in ends)), fmt=mark, color=colour,
        mfc="none" if hollow else colour, label=label,
    )  # fmt: skip


def _axis(axes: Axes, title: str, label: str, outcome: Outcome | None) -> None:
    axes.axvline(0, color=GREY, lw=0.8, ls=":", zorder=0)
    axes.set_title(title)
    axes.set_xlabel(label)
    if outcome is None or outcome.points:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:+.3g}"))
    elif outcome.logs:
        ticks = log_ticks(*axes.get_xlim())
        axes.set_xticks([math.log(factor) for factor in ticks], [f"{100 * (factor - 1):+.0f} %" for factor in ticks])


def log_ticks(low: float, high: float) -> list[float]:
    """Factors to mark on an axis of logs from `low` to `high`: at most `TICKS` round ones, of which 1 is one."""
    inside = [factor for factor in FACTORS if low <= math.log(factor) <= high]
    # The roundest come first in the table; neighbours that would touch are left out.
    chosen = list[float]()
    for factor in inside:
        if all(abs(math.log(factor / other)) > (high - low) / TICKS for other in chosen):
            chosen.append(factor)
    return sorted(chosen)


FACTORS = (1.0, 0.5, 2.0, 0.1, 10.0, 0.25, 4.0, 0.75, 1.5, 0.01, 100.0, 0.9, 1.1, 0.8, 1.25, 3.0, 6.0, 30.0, 0.03)
"""Factors of a rate, the roundest first."""

TICKS = 6
"""Marks on an axis, at most."""


def _harm_label(outcome: Outcome) -> str:
    name = f"size of bias ({outcome.label})" if outcome.zero else outcome.label
    if outcome.logs:
        return f"{name}, change in %"
    return f"{name}, points" if outcome.points else f"{name}, {outcome.unit}"


def caption(rows: pd.DataFrame) -> str:
    """What marks and bars are, n, and what is not shown."""
    shown, known = chosen(rows), rows[rows["harm"].notna()]
    counted = seeds_in_words(int(seeds) for seeds in shown["seeds"])
    more = (
        f" The {len(known) - len(shown)} arms with the smallest changes are not shown."
        if len(known) > len(shown)
        else ""
    )
    failed = (shown["standing"] == FAILED).any()
    hollow = " Hollow: not ranked, because it is a control" + (" or its manipulation check failed." if failed else ".")
    return (
        f"Each arm against the untouched model, paired by seed ({counted} per arm). Left of 0: less harm, and less utility. "
        f"Bars: 95 % intervals; an arm without one has too few seeds.{hollow}{more}"
    )
