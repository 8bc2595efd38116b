"""Figures with one row per group: figure 3 (upstream and downstream bias per identity) and the forest plot of effects."""

from __future__ import annotations

import math
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.data.runs import UNTOUCHED
from analysis.estimands.pooling import pooled
from analysis.figures.arms import upstream_arms
from analysis.figures.style import (
    GREY,
    ArmStyle,
    Styles,
    arm_label,
    arm_style,
    arms_of,
    bars,
    by_seed,
    change,
    error_bar,
    explanation,
    group_means,
    interval,
    new_figure,
    on_sides,
    outcome_of,
    seeds_in_words,
    sides,
    styled,
    upstream_metric,
)

MOST_ARMS = 4
"""Arms drawn; more could not be distinguished within a row."""

FIRST = ("reinitialise", "perturb", "permute")
"""The order of upstream arms in figure 3: random changes first."""


def shown_upstream(cells: pd.DataFrame, most: int = MOST_ARMS) -> list[str]:
    """The first `most` of: the untouched arm, then each upstream arm at its strongest dose, random changes first."""
    upstream = cells[cells["arm"].isin(upstream_arms(cells)) & (cells["upstream"] != "none")].drop_duplicates("arm")
    upstream = upstream.assign(strength=upstream["upstream_dose"].abs().fillna(1.0))
    strongest = upstream.sort_values(["strength", "arm"], ascending=[False, True]).drop_duplicates("upstream")
    order = {name: number for number, name in enumerate(FIRST)}
    arms = sorted(
        zip(strongest["upstream"], strongest["arm"], strict=True), key=lambda pair: (order.get(pair[0], 9), pair)
    )
    untouched = [UNTOUCHED] if UNTOUCHED in set(cells["arm"]) else []
    return [*untouched, *(str(arm) for _, arm in arms)][:most]


def shown_effects(cells: pd.DataFrame) -> list[str]:
    """`MOST_ARMS` of the arms with a single intervention, at its strongest dose, that share a seed with the untouched arm."""
    alone = cells[(cells["upstream"] == "none") & (cells["downstream"] != "none")].drop_duplicates("arm")
    alone = alone.sort_values(["downstream_dose", "arm"], ascending=[False, True]).drop_duplicates("downstream")
    arms = [*shown_upstream(cells, MOST_ARMS + 1), *alone["arm"].astype(str)]
    paired = [arm for arm in arms if arm != UNTOUCHED and not change(cells, "y", arm).empty]
    return paired if len(paired) <= MOST_ARMS else [*paired[: MOST_ARMS - 1], paired[-1]]


def identities(cells: pd.DataFrame, styles: Styles | None = None) -> Figure:
    """Figure 3: upstream bias (left) and downstream bias (right) per group and upstream arm. cells: those of one study.

    Means over seeds with intervals. Groups are sorted by their upstream bias in the untouched model.
    """
    arms = shown_upstream(cells)
    groups = _order(cells, arms, "x")
    if not arms or not groups:
        return explanation("There is no upstream arm with a score for any group.")
    style_of = styles or arm_style(cells["arm"].unique())
    with styled():
        figure = new_figure(9.5, 1.7 + len(groups) * max(0.2, 0.08 * len(arms)))
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, column in ((left, "x"), (right, "y")):
            for number, arm in enumerate(arms):
                _column(axes, by_seed(cells, column, arm), groups, _offset(number, len(arms)), style_of[arm])
        _rows(left, groups)
        _rows(right, groups, named=False)
        left.set_xlabel(fill(f"upstream bias: {upstream_metric(cells)} (raw units, mean over templates)", 44))
        right.set_xlabel(fill(f"downstream bias: {outcome_of(cells).axis}", 44))
        left.set_title("Before fine-tuning")
        right.set_title("After fine-tuning")
        handles, labels = left.get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside upper center", ncols=min(len(arms), 2 if sum(map(len, labels)) > 80 else 4)
        )
    return figure


def _order(cells: pd.DataFrame, arms: list[str], column: str) -> list[str]:
    if not arms:
        return []
    means = group_means(by_seed(cells, column, arms[0]))
    rest = [group for group in cells["group"].unique() if group not in means.index]
    return [*means.sort_values(na_position="first").index.astype(str), *map(str, rest)]


def _offset(number: int, of: int) -> float:
    return (number - (of - 1) / 2) * 0.72 / max(of, 3)


def _column(axes: Axes, wide: pd.DataFrame, groups: list[str], offset: float, style: ArmStyle) -> None:
    """Draw one mark per group, in its row. wide: (groups, seeds)."""
    intervals = [interval(pd.Series(wide.loc[group])) if group in wide.index else (math.nan,) * 3 for group in groups]
    middle, low, high = np.array(intervals).T
    bars = np.nan_to_num(np.array([middle - low, high - middle]))
    height = np.arange(len(groups)) - offset
    axes.errorbar(
        middle, height, xerr=bars.clip(0), fmt=style.mark, color=style.colour, ms=5.2, lw=1, capsize=1.5,
        label=fill(style.label, 60),
    )  # fmt: skip


def _rows(axes: Axes, groups: list[str], named: bool = True) -> None:
    axes.set_yticks(range(len(groups)), [group.replace("_", " ") for group in groups])
    axes.tick_params(axis="y", length=0, labelleft=named)
    axes.set_ylim(-0.6, len(groups) - 0.4)
    low, high = axes.get_xlim()
    if low <= 0 <= high:  # a line outside the data would squeeze them
        axes.axvline(0, color=GREY, lw=0.8, ls=":", zorder=0)
    for row in range(0, len(groups), 2):
        axes.axhspan(row - 0.5, row + 0.5, color="0.96", zorder=-1, lw=0)


def identities_caption(cells: pd.DataFrame) -> str:
    """The number of groups and seeds, and the meaning of marks and bars."""
    arms = shown_upstream(cells)
    seeds = seeds_in_words(by_seed(cells, "y", arm).shape[1] for arm in arms)
    more = len(upstream_arms(cells)) - len(arms)
    not_drawn = f" {more} more upstream arms are not drawn." if more > 0 else ""
    return (
        f"Upstream bias (left) and downstream bias (right) of {cells['group'].nunique()} groups under {len(arms)} upstream "
        f"arms, means over {seeds}; fine-tuning set unchanged. {bars(cells)} The upstream score of an untouched model is the "
        f"same for all of its seeds: with one model it has no bar. Groups are sorted by that score.{sides(cells)}{not_drawn}"
    )


def forest(cells: pd.DataFrame, styles: Styles | None = None) -> Figure:
    """Forest plot: the effect of each arm on each group's downstream bias, one panel per arm. cells: those of one study.

    Effects are paired by seed and partially pooled (`pooling.pooled`), where the arm has the seeds for it.
    """
    arms = shown_effects(cells)
    if not arms:
        return explanation("There is no arm that shares a seed with the untouched one.")
    style_of = styles or arm_style(cells["arm"].unique())
    effects = {arm: _forest_rows(change(cells, "y", arm)) for arm in arms}
    groups = [str(group) for group in effects[arms[0]]["coefficient"].sort_values().index]
    with styled():
        figure = new_figure(2.3 + 2.5 * len(arms), 1.5 + 0.2 * len(groups))
        panels = figure.subplots(1, len(arms), sharey=True, sharex=True, squeeze=False)[0]
        for number, (axes, arm) in enumerate(zip(panels, arms, strict=True)):
            _effects(axes, effects[arm], interval(change(cells, "y", arm).mean()), groups, style_of[arm])
            _rows(axes, groups, named=number == 0)
            axes.set_title(fill(arm_label(arm), 24), fontsize=10)
        figure.supxlabel(f"change of {outcome_of(cells).axis} from the untouched arm", fontsize=10)
    return figure


def _forest_rows(changes: pd.DataFrame) -> pd.DataFrame:
    """Group -> raw mean, and what is drawn: coefficient, low, high; the raw mean alone where nothing can be pooled."""
    raw = group_means(changes)
    rows = pooled(changes).reindex(raw.index).assign(raw=raw)
    return rows.assign(coefficient=rows["coefficient"].fillna(rows["raw"]))


def _effects(
    axes: Axes, rows: pd.DataFrame, mean: tuple[float, float, float], groups: list[str], style: ArmStyle
) -> None:
    drawn = rows.to_dict("index")
    for place, row in ((place, drawn[group]) for place, group in enumerate(groups) if group in drawn):
        excludes_0 = row["low"] > 0 or row["high"] < 0
        axes.plot(row["raw"], place, marker="|", color=style.colour, ms=6, alpha=0.45)
        axes.errorbar(
            row["coefficient"], place, xerr=error_bar(row["coefficient"], row["low"], row["high"]), fmt=style.mark,
            color=style.colour, ms=5.2, lw=1, capsize=1.5, markerfacecolor=style.colour if excludes_0 else "white",
        )  # fmt: skip
    middle, low, high = mean
    axes.axvline(middle, color=style.colour, lw=1)
    if np.isfinite(low):
        axes.axvspan(low, high, color=style.colour, alpha=0.15, lw=0, zorder=0)


WIDENED = (
    "A change above 0 widens a gap that was above 0 and narrows one below 0; the mean over groups is about neither."
)


def forest_caption(cells: pd.DataFrame) -> str:
    """The number of groups and seeds, and the meaning of marks and bars."""
    arms = shown_effects(cells)
    seeds = seeds_in_words(change(cells, "y", arm).shape[1] for arm in arms)
    more = len([arm for arm in arms_of(cells) if arm != UNTOUCHED]) - len(arms)
    not_drawn = f" {more} more arms are not drawn." if more > 0 else ""
    groups = max((len(change(cells, "y", arm)) for arm in arms), default=0)
    widened = f" {WIDENED}" if outcome_of(cells).sides and all(on_sides(cells)[:2]) else ""
    return (
        f"Effect on each of {groups} groups, paired by seed ({seeds}) and partially pooled: drawn towards the mean over "
        f"groups by the share of their spread that is noise of seeds. Thin upright marks: the effects before pooling. "
        f"{bars(cells)} Filled: the interval excludes 0, before any correction for the number of groups. Line and band: mean "
        f"over groups and its interval. Groups are sorted by the first panel.{sides(cells)}{widened}{not_drawn}"
    )
