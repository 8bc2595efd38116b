"""Figures with a mark an arm: figure 1 (BIOS), figure 2 (scrub), dose-response, and utility against bias."""

from __future__ import annotations

import math
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.style import GREY
from analysis.figures.style import NOT_PRETRAINED
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
from analysis.figures.style import say
from analysis.figures.style import saying
from analysis.figures.style import seeds_in_words
from analysis.figures.style import short
from analysis.figures.style import styled
from analysis.figures.style import x_name
from analysis.data.runs import UNTOUCHED
from analysis.estimands.bias_size import size_of_bias

BARS = "Bars: 95 % intervals (t) over seeds."


def upstream_arms(cells: pd.DataFrame) -> list[str]:
    """The arms that leave the fine-tuning set alone, the untouched one first."""
    return arms_of(cells, lambda own: own["downstream"] == "none")


def distribution(cells: pd.DataFrame, styles: Styles | None = None) -> Figure:
    """Figure 1: how downstream bias spreads over groups, by upstream arm. cells: one study, of `load.cells`.

    A mark a group (mean over seeds); box: quartiles and median."""
    arms = [arm for arm in upstream_arms(cells) if by_seed(cells, "y", arm).notna().to_numpy().any()]
    if not arms:
        return saying("No arm has a downstream bias in any group.")
    looks = styles or arm_style(cells["arm"].unique())
    with styled():
        figure = blank(8, 1.5 + 0.62 * len(arms))
        axes = figure.subplots()
        for place, arm in enumerate(arms):
            _spread(axes, by_seed(cells, "y", arm).mean(axis=1).dropna(), -place, looks[arm])
        axes.axvline(0, color=GREY, lw=0.8, ls=":", zorder=0)
        axes.set_yticks([-place for place in range(len(arms))], [fill(short(arm), 34) for arm in arms])
        axes.set_ylim(0.5 - len(arms), 0.6)
        axes.set_xlabel(f"downstream bias: {outcome_of(cells).axis}")
        axes.set_title("Downstream bias of each group, by upstream arm")
    return figure


def _spread(axes: Axes, values: pd.Series, place: int, look: ArmStyle) -> None:
    axes.boxplot(
        [values], positions=[place + 0.2], widths=0.22, orientation="horizontal", showfliers=False, manage_ticks=False,
        medianprops={"color": look.colour, "lw": 2}, boxprops={"color": look.colour},
        whiskerprops={"color": look.colour}, capprops={"color": look.colour},
    )  # fmt: skip
    shift = 0.07 * (np.argsort(np.argsort(values.to_numpy())) % 3 - 1)  # neighbours do not cover each other
    axes.scatter(
        values, place - 0.17 + shift, marker=look.mark, s=22, facecolors="none", edgecolors=look.colour, linewidths=1,
        label=look.label,
    )  # fmt: skip


def distribution_caption(cells: pd.DataFrame) -> str:
    """n, and what marks and boxes are."""
    arms = upstream_arms(cells)
    wide = [by_seed(cells, "y", arm) for arm in arms]
    groups = max((int(own.notna().any(axis=1).sum()) for own in wide), default=0)
    seeds = seeds_in_words(own.shape[1] for own in wide)
    return (
        f"Downstream bias ({outcome_of(cells).axis}) of {groups} groups under {len(arms)} upstream arms, with the "
        f"fine-tuning set untouched. A mark is a group, mean over {seeds}. Box: quartiles and median over groups, whiskers to "
        f"1.5 times their range; they show spread between groups, not uncertainty."
    )


def pretrained_pairs(cells: pd.DataFrame) -> dict[str, dict[str, pd.Series]]:
    """Downstream arm (as `arm` with upstream none) -> {"pre-trained": changes, "not pre-trained": changes}: each by seed, the
    mean over groups of y with the arm less y without it, in the same upstream state. Empty states are left out."""
    bases = {"pre-trained": ("none", UNTOUCHED)}
    alone = cells[
        (cells["upstream"] == NOT_PRETRAINED) & (cells["upstream_dose"] == 1) & (cells["downstream"] == "none")
    ]
    if len(alone):
        bases["not pre-trained"] = (NOT_PRETRAINED, str(alone["arm"].iloc[0]))
    found: dict[str, dict[str, pd.Series]] = {}
    for arm in arms_of(cells, lambda own: own["downstream"] != "none"):
        row = cells[cells["arm"] == arm].iloc[0]
        before, _, after = arm.partition(" + ")
        for state, (upstream, base) in bases.items():
            if row["upstream"] == upstream and before == base.partition(" + ")[0]:
                changes = change(cells, "y", arm, base).mean()
                if len(changes.dropna()):
                    found.setdefault(f"none + {after}", {})[state] = changes.dropna()
    return found


STATES = ("pre-trained", "not pre-trained", "difference")


def scrub(cells: pd.DataFrame, styles: Styles | None = None) -> Figure:
    """Figure 2: what the downstream arms do to downstream bias, with and without pre-training, paired by seed, and the
    difference between the two (the interaction). cells: one study."""
    pairs = pretrained_pairs(cells)
    if not pairs:
        return saying("No downstream arm shares a seed with its own untouched set.")
    looks = {**arm_style([*cells["arm"].unique(), *pairs]), **(styles or {})}
    with styled():
        figure = blank(8, 4.4)
        axes = figure.subplots()
        for place, (arm, states) in enumerate(pairs.items()):
            offset = (place - (len(pairs) - 1) / 2) * min(0.16, 0.7 / len(pairs))
            for state, values in _with_difference(states).items():
                _seeds_and_interval(axes, STATES.index(state) + offset, values, looks[arm], state == STATES[0])
        axes.axhline(0, color=GREY, lw=0.8, ls=":", zorder=0)
        axes.axvline(1.5, color=GREY, lw=0.5)
        axes.set_xticks(range(3), ["pre-trained", "not pre-trained", "difference:\npre-trained - not"])
        axes.set_xlim(-0.5, 2.5)
        absent = [
            number
            for number, state in enumerate(STATES)
            if not any(state in _with_difference(s) for s in pairs.values())
        ]
        for number in absent:
            axes.text(number, 0, "not run", ha="center", va="bottom", color=GREY)
        axes.set_ylabel(fill(f"change of {outcome_of(cells).axis}, mean over groups", 42))
        axes.set_title("What the downstream arm changes, against the untouched fine-tuning set")
        axes.legend(*axes.get_legend_handles_labels(), loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _with_difference(states: dict[str, pd.Series]) -> dict[str, pd.Series]:
    if len(states) < 2:
        return states
    both = (states[STATES[0]] - states[STATES[1]]).dropna()
    return {**states, STATES[2]: both} if len(both) else states


def _seeds_and_interval(axes: Axes, place: float, values: pd.Series, look: ArmStyle, named: bool) -> None:
    middle, low, high = interval(values)
    axes.errorbar(
        place,
        middle,
        yerr=reach(middle, low, high),
        fmt=look.mark,
        color=look.colour,
        label=look.label if named else None,
    )
    axes.scatter(np.full(len(values), place + 0.05), values, s=9, color=look.colour, alpha=0.45, linewidths=0)


def scrub_caption(cells: pd.DataFrame) -> str:
    """n, and what marks and bars are."""
    pairs = pretrained_pairs(cells)
    counts = [len(values) for states in pairs.values() for values in states.values()]
    return (
        f"Change of {outcome_of(cells).axis} when the fine-tuning set is changed, mean over {cells['group'].nunique()} groups, "
        f"paired by seed ({seeds_in_words(counts)}; a dot each). {BARS} Not pre-trained: {NOT_PRETRAINED} at dose 1. The "
        f"difference is the interaction: 'only when not pre-trained' is licensed by its interval alone."
    )


def doses(cells: pd.DataFrame) -> dict[str, list[tuple[float, str]]]:
    """Intervention -> its (dose, arm), ascending, with (0, untouched): those with two doses or more that act alone."""
    found: dict[str, list[tuple[float, str]]] = {}
    for stage, other in (("upstream", "downstream"), ("downstream", "upstream")):
        own = cells[(cells[stage] != "none") & (cells[other] == "none")]
        for row in own.drop_duplicates("arm").to_dict("records"):
            name = str(row["arm"]).replace(f"={row[f'{stage}_dose']:g}", "", 1)
            found.setdefault(short(name), []).append((float(row[f"{stage}_dose"]), str(row["arm"])))
    return {name: sorted([(0.0, UNTOUCHED), *own]) for name, own in found.items() if len(own) > 1}


MOST_PANELS = 5


def dose_response(cells: pd.DataFrame, styles: Styles | None = None) -> Figure:
    """How far upstream bias moved (above: root mean square over groups, in SD) and the mean change of downstream bias (below)
    against the dose; a column an intervention. cells: one study."""
    found = dict(list(doses(cells).items())[:MOST_PANELS])
    if not found or UNTOUCHED not in set(cells["arm"]):
        return saying("No intervention was run alone at two doses or more beside the untouched arm.")
    looks = styles or arm_style(cells["arm"].unique())
    scale = float(cells["x_scale"].iloc[0])
    own = cells.assign(x_sd=cells["x"] / (scale if scale > 0 else math.nan))
    with styled():
        figure = blank(2.2 + 2.6 * len(found), 5.6)
        grid = figure.subplots(2, len(found), sharex="col", sharey="row", squeeze=False)
        for column, (name, steps) in enumerate(found.items()):
            for axes, measure in zip(grid[:, column], ("x_sd", "y"), strict=True):
                _curve(axes, own, measure, steps, looks)
            grid[0, column].set_title(fill(name, 26))
            grid[1, column].set_xlabel("dose (the arm's own unit)")
        grid[0, 0].set_ylabel(fill(f"RMS change of upstream bias ({x_name(cells)}, SD)", 28))
        grid[1, 0].set_ylabel(fill(f"mean change of downstream bias ({outcome_of(cells).axis})", 28))
    return figure


def _curve(axes: Axes, cells: pd.DataFrame, measure: str, steps: list[tuple[float, str]], looks: Styles) -> None:
    means = {dose: interval(_moved(change(cells, measure, arm), measure)) for dose, arm in steps}
    axes.axhline(0, color=GREY, lw=0.8, ls=":", zorder=0)
    axes.plot(list(means), [middle for middle, _, _ in means.values()], color=GREY, lw=1, zorder=1)
    for dose, arm in steps:
        middle, low, high = means[dose]
        axes.errorbar(dose, middle, yerr=reach(middle, low, high), fmt=looks[arm].mark, color=looks[arm].colour)
    if all(math.isnan(middle) for middle, _, _ in means.values()):
        say(axes, "not measured")


def _moved(changes: pd.DataFrame, measure: str) -> pd.Series:
    """By seed. Random changes of x cancel in a mean over groups; noise of fine-tuning would inflate a root mean square of y."""
    moved: pd.Series = changes.mean() if measure == "y" else (changes**2).mean() ** 0.5
    return moved


def dose_response_caption(cells: pd.DataFrame) -> str:
    """n, and what marks and bars are."""
    found = doses(cells)
    counts = [change(cells, "y", arm).shape[1] for steps in found.values() for _, arm in steps[1:]]
    left = f" {len(found) - MOST_PANELS} more interventions are not drawn." if len(found) > MOST_PANELS else ""
    return (
        f"Change against the untouched arm (dose 0) at each dose of {len(found)} interventions that act alone, paired by seed "
        f"({seeds_in_words(counts)}), over {cells['group'].nunique()} groups: above its root mean square, in SD over groups of "
        f"the untouched model; below its mean. {BARS}{left}"
    )


UTILITY = {"roc_auc": "ROC AUC", "accuracy": "accuracy"}


def utility_and_bias(table: pd.DataFrame, cells: pd.DataFrame, styles: Styles | None = None) -> Figure:
    """ROC AUC (or accuracy) against the size of downstream bias, a mark an arm. table, cells: one study."""
    points = utility_points(table, cells)
    if points.empty:
        return saying("No arm has both a utility and a size of bias, which takes two seeds and two groups.")
    looks = styles or arm_style(cells["arm"].unique())
    with styled():
        figure = blank(8.4, max(4.2, 0.9 + 0.24 * len(points)))
        axes = figure.subplots()
        for row in points.to_dict("records"):
            look = looks[str(row["arm"])]
            bar = reach(row["utility"], row["low"], row["high"])
            axes.errorbar(
                row["bias"], row["utility"], yerr=bar, fmt=look.mark, color=look.colour, label=fill(look.label, 40)
            )
        axes.set_xlabel(fill(f"size of downstream bias: noise-free SD over groups of {outcome_of(cells).axis}", 70))
        axes.set_ylabel(f"{UTILITY[str(points['metric'].iloc[0])]} on the test set")
        axes.set_title("Utility against bias: up and to the left is better")
        figure.legend(loc="outside right upper")
    return figure


def utility_points(table: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """arm, metric, utility (mean over seeds), low, high, bias, seeds: arms that have both."""
    known = set(table.loc[table["stage"] == "utility", "metric"])
    metric = next((name for name in UTILITY if name in known), "")
    own = table[(table["stage"] == "utility") & (table["metric"] == metric)]
    rows = []
    for arm in arms_of(cells):
        wide = by_seed(cells, "y", arm)
        bias, _ = size_of_bias(wide.to_numpy(float))
        middle, low, high = interval(own.loc[own["arm"] == arm, "value"])
        rows.append((arm, metric, middle, low, high, bias, wide.shape[1]))
    found = pd.DataFrame(rows, columns=["arm", "metric", "utility", "low", "high", "bias", "seeds"])
    return found.dropna(subset=["utility", "bias"])


def utility_and_bias_caption(table: pd.DataFrame, cells: pd.DataFrame) -> str:
    """n, and what marks and bars are."""
    points = utility_points(table, cells)
    return (
        f"{len(points)} arms, each with {seeds_in_words(points['seeds'])} and {cells['group'].nunique()} groups. Across: the "
        f"square root of the mean over pairs of seeds of the products of y, centred over groups, floored at 0, so that noise "
        f"which seeds do not share does not count. Bars: 95 % intervals (t) over seeds, of utility alone."
    )
