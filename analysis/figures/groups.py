"""Figures with a row a group: figure 3 (upstream and downstream bias per identity), and the forest of per-group effects."""

from __future__ import annotations

import math
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.arms import BARS
from analysis.figures.arms import upstream_arms
from analysis.figures.style import GREY
from analysis.figures.style import ArmStyle
from analysis.figures.style import Styles
from analysis.figures.style import arm_style
from analysis.figures.style import arms_of
from analysis.figures.style import blank
from analysis.figures.style import by_seed
from analysis.figures.style import change
from analysis.figures.style import interval
from analysis.figures.style import outcome_of
from analysis.figures.style import reach
from analysis.figures.style import saying
from analysis.figures.style import seeds_in_words
from analysis.figures.style import short
from analysis.figures.style import styled
from analysis.figures.style import x_name
from analysis.data.runs import UNTOUCHED

MOST_ARMS = 4
"""More would not be told apart in a row."""

FIRST = ("reinitialise", "perturb", "permute")
"""Figure 3 shows random changes first."""


def shown_upstream(cells: pd.DataFrame, most: int = MOST_ARMS) -> list[str]:
    """The untouched arm, then the strongest dose of each upstream arm, random changes first: `most` of them."""
    own = cells[cells["arm"].isin(upstream_arms(cells)) & (cells["upstream"] != "none")].drop_duplicates("arm")
    own = own.assign(strength=own["upstream_dose"].abs().fillna(1.0))
    strongest = own.sort_values(["strength", "arm"], ascending=[False, True]).drop_duplicates("upstream")
    order = {name: number for number, name in enumerate(FIRST)}
    arms = sorted(
        zip(strongest["upstream"], strongest["arm"], strict=True), key=lambda one: (order.get(one[0], 9), one)
    )
    untouched = [UNTOUCHED] if UNTOUCHED in set(cells["arm"]) else []
    return [*untouched, *(str(arm) for _, arm in arms)][:most]


def shown_effects(cells: pd.DataFrame) -> list[str]:
    """The strongest dose of each arm that acts alone and shares a seed with the untouched one: `MOST_ARMS` of them."""
    alone = cells[(cells["upstream"] == "none") & (cells["downstream"] != "none")].drop_duplicates("arm")
    alone = alone.sort_values(["downstream_dose", "arm"], ascending=[False, True]).drop_duplicates("downstream")
    arms = [*shown_upstream(cells, MOST_ARMS + 1), *alone["arm"].astype(str)]
    known = [arm for arm in arms if arm != UNTOUCHED and not change(cells, "y", arm).empty]
    return known if len(known) <= MOST_ARMS else [*known[: MOST_ARMS - 1], known[-1]]


def identities(cells: pd.DataFrame, styles: Styles | None = None) -> Figure:
    """Figure 3: per group, upstream bias (left) and downstream bias (right) by upstream arm, means over seeds with intervals.
    Groups in the order of the untouched upstream bias. cells: one study."""
    arms = shown_upstream(cells)
    groups = _order(cells, arms, "x")
    if not arms or not groups:
        return saying("No upstream arm has a score of any group.")
    looks = styles or arm_style(cells["arm"].unique())
    with styled():
        figure = blank(9.5, 1.7 + len(groups) * max(0.2, 0.08 * len(arms)))
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, column in ((left, "x"), (right, "y")):
            for number, arm in enumerate(arms):
                _column(axes, by_seed(cells, column, arm), groups, _offset(number, len(arms)), looks[arm])
        _rows(left, groups)
        _rows(right, groups, named=False)
        left.set_xlabel(fill(f"upstream bias: {x_name(cells)} (raw units, mean over templates)", 44))
        right.set_xlabel(fill(f"downstream bias: {outcome_of(cells).axis}", 44))
        left.set_title("Before fine-tuning")
        right.set_title("After fine-tuning")
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=min(len(arms), 2 if _long(labels) else 4))
    return figure


def _long(labels: list[str]) -> bool:
    return sum(map(len, labels)) > 80


def _order(cells: pd.DataFrame, arms: list[str], column: str) -> list[str]:
    if not arms:
        return []
    means = by_seed(cells, column, arms[0]).mean(axis=1)
    rest = [group for group in cells["group"].unique() if group not in means.index]
    return [*means.sort_values(na_position="first").index.astype(str), *map(str, rest)]


def _offset(number: int, of: int) -> float:
    return (number - (of - 1) / 2) * 0.72 / max(of, 3)


def _column(axes: Axes, wide: pd.DataFrame, groups: list[str], offset: float, look: ArmStyle) -> None:
    """One mark a group, at its row."""
    found = [interval(wide.loc[group].to_numpy(float)) if group in wide.index else (math.nan,) * 3 for group in groups]
    middle, low, high = np.array(found).T
    bars = np.nan_to_num(np.array([middle - low, high - middle]))
    height = np.arange(len(groups)) - offset
    axes.errorbar(
        middle, height, xerr=bars.clip(0), fmt=look.mark, color=look.colour, ms=5.2, lw=1, capsize=1.5,
        label=fill(look.label, 60),
    )  # fmt: skip


def _rows(axes: Axes, groups: list[str], named: bool = True) -> None:
    axes.set_yticks(range(len(groups)), [group.replace("_", " ") for group in groups])
    axes.tick_params(axis="y", length=0, labelleft=named)
    axes.set_ylim(-0.6, len(groups) - 0.4)
    low, high = axes.get_xlim()
    if low <= 0 <= high:  # else it would squeeze the data
        axes.axvline(0, color=GREY, lw=0.8, ls=":", zorder=0)
    for row in range(0, len(groups), 2):
        axes.axhspan(row - 0.5, row + 0.5, color="0.96", zorder=-1, lw=0)


def identities_caption(cells: pd.DataFrame) -> str:
    """n, and what marks and bars are."""
    arms = shown_upstream(cells)
    seeds = seeds_in_words(by_seed(cells, "y", arm).shape[1] for arm in arms)
    rest = len(upstream_arms(cells)) - len(arms)
    left = f" {rest} more upstream arms are not drawn." if rest > 0 else ""
    return (
        f"Upstream bias (left) and downstream bias (right) of {cells['group'].nunique()} groups under {len(arms)} upstream "
        f"arms, means over {seeds}; fine-tuning set untouched. {BARS} The untouched model's upstream score is the same for all "
        f"seeds and has no bar. Groups in the order of that score.{left}"
    )


def forest(cells: pd.DataFrame, styles: Styles | None = None) -> Figure:
    """Effect of each arm on each group's downstream bias, paired by seed, with intervals; a panel an arm. cells: one study."""
    arms = shown_effects(cells)
    if not arms:
        return saying("No arm shares a seed with the untouched one.")
    looks = styles or arm_style(cells["arm"].unique())
    first = change(cells, "y", arms[0]).mean(axis=1).sort_values()
    groups = [str(group) for group in first.index]
    with styled():
        figure = blank(2.3 + 2.5 * len(arms), 1.5 + 0.2 * len(groups))
        panels = figure.subplots(1, len(arms), sharey=True, sharex=True, squeeze=False)[0]
        for number, (axes, arm) in enumerate(zip(panels, arms, strict=True)):
            _effects(axes, change(cells, "y", arm), groups, looks[arm])
            _rows(axes, groups, named=number == 0)
            axes.set_title(fill(short(arm), 24), fontsize=10)
        figure.supxlabel(f"change of {outcome_of(cells).axis} against the untouched arm", fontsize=10)
    return figure


def _effects(axes: Axes, changes: pd.DataFrame, groups: list[str], look: ArmStyle) -> None:
    for row, group in enumerate(groups):
        if group not in changes.index:
            continue
        middle, low, high = interval(changes.loc[group].to_numpy(float))
        clear = low > 0 or high < 0
        axes.errorbar(
            middle, row, xerr=reach(middle, low, high), fmt=look.mark, color=look.colour, ms=5.2, lw=1, capsize=1.5,
            markerfacecolor=look.colour if clear else "white",
        )  # fmt: skip
    mean, low, high = interval(changes.mean())
    axes.axvline(mean, color=look.colour, lw=1)
    if np.isfinite(low):
        axes.axvspan(low, high, color=look.colour, alpha=0.15, lw=0, zorder=0)


def forest_caption(cells: pd.DataFrame) -> str:
    """n, and what marks and bars are."""
    arms = shown_effects(cells)
    seeds = seeds_in_words(change(cells, "y", arm).shape[1] for arm in arms)
    rest = len([arm for arm in arms_of(cells) if arm != UNTOUCHED]) - len(arms)
    left = f" {rest} more arms are not drawn." if rest > 0 else ""
    groups = max((len(change(cells, "y", arm)) for arm in arms), default=0)
    return (
        f"Effect on each of {groups} groups, paired by seed ({seeds}). {BARS} Filled: the interval excludes 0, before any "
        f"correction for the number of groups. Line and band: mean over groups and its interval over seeds. Groups in the "
        f"order of the first panel.{left}"
    )
