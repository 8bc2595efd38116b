"""Figures that compare arms: figure 1 (BIOS), figure 2 (scrub), dose-response, and utility against bias."""

from __future__ import annotations

import math
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.data.runs import REPEATS, UNTOUCHED
from analysis.estimands.bias_size import size_of_bias
from analysis.estimands.ranking import UTILITIES
from analysis.figures.style import (
    GREY,
    NOT_PRETRAINED,
    ArmStyle,
    Styles,
    arm_label,
    arm_style,
    arms_of,
    bars,
    by_seed,
    change,
    error_bar,
    explain,
    explanation,
    group_means,
    groups_measured,
    interval,
    new_figure,
    outcome_of,
    seeds_in_words,
    sides,
    styled,
    upstream_metric,
)


def upstream_arms(cells: pd.DataFrame) -> list[str]:
    """The arms that do not change the fine-tuning set, the untouched one first."""
    return arms_of(cells, lambda rows: rows["downstream"] == "none")


def distribution(cells: pd.DataFrame, styles: Styles | None = None) -> Figure:
    """Figure 1: the distribution of downstream bias over groups, by upstream arm. cells: those of one study.

    One mark per group (mean over seeds); boxes show median and quartiles.
    """
    arms = [arm for arm in upstream_arms(cells) if by_seed(cells, "y", arm).notna().to_numpy().any()]
    if not arms:
        return explanation("There is no arm for which downstream bias was measured in any group.")
    style_of = styles or arm_style(cells["arm"].unique())
    with styled():
        figure = new_figure(8, 1.5 + 0.62 * len(arms))
        axes = figure.subplots()
        for place, arm in enumerate(arms):
            _spread(axes, group_means(by_seed(cells, "y", arm)).dropna(), -place, style_of[arm])
        axes.axvline(0, color=GREY, lw=0.8, ls=":", zorder=0)
        axes.set_yticks([-place for place in range(len(arms))], [fill(arm_label(arm), 34) for arm in arms])
        axes.set_ylim(0.5 - len(arms), 0.6)
        axes.set_xlabel(f"downstream bias: {outcome_of(cells).axis}")
        axes.set_title("Downstream bias per group, by upstream arm")
    return figure


def _spread(axes: Axes, values: pd.Series, place: int, style: ArmStyle) -> None:
    axes.boxplot(
        [values], positions=[place + 0.2], widths=0.22, orientation="horizontal", showfliers=False, manage_ticks=False,
        medianprops={"color": style.colour, "lw": 2}, boxprops={"color": style.colour},
        whiskerprops={"color": style.colour}, capprops={"color": style.colour},
    )  # fmt: skip
    shift = 0.07 * (
        np.argsort(np.argsort(values.to_numpy())) % 3 - 1
    )  # so that neighbouring marks do not cover each other
    axes.scatter(
        values, place - 0.17 + shift, marker=style.mark, s=22, facecolors="none", edgecolors=style.colour, linewidths=1,
        label=style.label,
    )  # fmt: skip


def distribution_caption(cells: pd.DataFrame) -> str:
    """The number of groups and seeds, and the meaning of marks and boxes."""
    arms = upstream_arms(cells)
    values = [by_seed(cells, "y", arm) for arm in arms]
    groups = max((int(of_arm.notna().any(axis=1).sum()) for of_arm in values), default=0)
    seeds = seeds_in_words(of_arm.shape[1] for of_arm in values)
    return (
        f"Downstream bias ({outcome_of(cells).axis}) of {groups} groups under {len(arms)} upstream arms, with the "
        f"fine-tuning set unchanged. Each mark is a group (mean over {seeds}). Box: median and quartiles over groups, with "
        f"whiskers of 1.5 interquartile ranges. They show the spread between groups, not uncertainty.{sides(cells)}"
    )


def pretrained_pairs(cells: pd.DataFrame) -> dict[str, dict[str, pd.Series]]:
    """Downstream arm (as `arm` with upstream none) -> {"pre-trained": changes, "not pre-trained": changes}.

    A change is, per seed, the mean over groups of y with the arm minus y without it, in the same upstream state. States
    without data are left out.
    """
    bases = {"pre-trained": ("none", UNTOUCHED)}
    not_pretrained = cells[
        (cells["upstream"] == NOT_PRETRAINED) & (cells["upstream_dose"] == 1) & (cells["downstream"] == "none")
    ]
    if len(not_pretrained):
        bases["not pre-trained"] = (NOT_PRETRAINED, str(not_pretrained["arm"].iloc[0]))
    pairs: dict[str, dict[str, pd.Series]] = {}
    for arm in arms_of(cells, lambda rows: rows["downstream"] != "none"):
        row = cells[cells["arm"] == arm].iloc[0]
        upstream_part, _, downstream_part = arm.partition(" + ")
        for state, (upstream, base) in bases.items():
            if row["upstream"] == upstream and upstream_part == base.partition(" + ")[0]:
                changes = change(cells, "y", arm, base).mean()
                if len(changes.dropna()):
                    pairs.setdefault(f"none + {downstream_part}", {})[state] = changes.dropna()
    return pairs


STATES = ("pre-trained", "not pre-trained", "difference")


def scrub(cells: pd.DataFrame, styles: Styles | None = None) -> Figure:
    """Figure 2: the effect of downstream arms on downstream bias. cells: those of one study.

    Effects are paired by seed, with and without pre-training; the difference of the two is the interaction.
    """
    pairs = pretrained_pairs(cells)
    if not pairs:
        return explanation("There is no downstream arm that shares a seed with a run on the unchanged fine-tuning set.")
    style_of = {**arm_style([*cells["arm"].unique(), *pairs]), **(styles or {})}
    with styled():
        figure = new_figure(8, 4.4)
        axes = figure.subplots()
        for place, (arm, states) in enumerate(pairs.items()):
            offset = (place - (len(pairs) - 1) / 2) * min(0.16, 0.7 / len(pairs))
            for state, values in _with_difference(states).items():
                _seeds_and_interval(axes, STATES.index(state) + offset, values, style_of[arm], state == STATES[0])
        axes.axhline(0, color=GREY, lw=0.8, ls=":", zorder=0)
        axes.axvline(1.5, color=GREY, lw=0.5)
        axes.set_xticks(range(3), ["pre-trained", "not pre-trained", "difference:\npre-trained minus not"])
        axes.set_xlim(-0.5, 2.5)
        shown = {state for states in pairs.values() for state in _with_difference(states)}
        for number, state in enumerate(STATES):
            if state not in shown:
                axes.text(number, 0, "not run", ha="center", va="bottom", color=GREY)
        axes.set_ylabel(fill(f"change of {outcome_of(cells).axis}, mean over groups", 42))
        axes.set_title("Effect of the downstream arms, against the unchanged fine-tuning set")
        axes.legend(*axes.get_legend_handles_labels(), loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _with_difference(states: dict[str, pd.Series]) -> dict[str, pd.Series]:
    if len(states) < 2:
        return states
    difference = (states[STATES[0]] - states[STATES[1]]).dropna()
    return {**states, STATES[2]: difference} if len(difference) else states


def _seeds_and_interval(axes: Axes, place: float, values: pd.Series, style: ArmStyle, named: bool) -> None:
    middle, low, high = interval(values)
    axes.errorbar(
        place,
        middle,
        yerr=error_bar(middle, low, high),
        fmt=style.mark,
        color=style.colour,
        label=style.label if named else None,
    )
    axes.scatter(np.full(len(values), place + 0.05), values, s=9, color=style.colour, alpha=0.45, linewidths=0)


def scrub_caption(cells: pd.DataFrame) -> str:
    """The number of groups and seeds, and the meaning of marks and bars."""
    pairs = pretrained_pairs(cells)
    counts = [len(values) for states in pairs.values() for values in states.values()]
    return (
        f"Change of {outcome_of(cells).axis} when the fine-tuning set is changed, mean over {groups_measured(cells)} groups, "
        f"paired by seed ({seeds_in_words(counts)}; one dot each). {bars(cells)} Not pre-trained: {NOT_PRETRAINED} at dose 1. "
        f"The difference is the interaction; only its interval can support 'only when not pre-trained'."
    )


def doses(cells: pd.DataFrame) -> dict[str, list[tuple[float, str]]]:
    """Intervention -> its (dose, arm) in ascending order, starting with (0, untouched).

    Only arms with a single intervention count, and only interventions with at least two doses.
    """
    steps: dict[str, list[tuple[float, str]]] = {}
    for stage, other in (("upstream", "downstream"), ("downstream", "upstream")):
        alone = cells[(cells[stage] != "none") & (cells[other] == "none")]
        for row in alone.drop_duplicates("arm").to_dict("records"):
            name = str(row["arm"]).replace(f"={row[f'{stage}_dose']:g}", "", 1)
            steps.setdefault(arm_label(name), []).append((float(row[f"{stage}_dose"]), str(row["arm"])))
    return {name: sorted([(0.0, UNTOUCHED), *arms]) for name, arms in steps.items() if len(arms) > 1}


MOST_PANELS = 5
"""Interventions drawn; more columns would be too narrow to read."""


def dose_response(cells: pd.DataFrame, styles: Styles | None = None) -> Figure:
    """Changes of upstream and downstream bias against the dose, one column per intervention. cells: those of one study.

    Above: root mean square over groups of the change of upstream bias, in SD. Below: mean change of downstream bias.
    """
    drawn = dict(list(doses(cells).items())[:MOST_PANELS])
    if not drawn or UNTOUCHED not in set(cells["arm"]):
        return explanation(
            "There is no intervention that was run alone at two or more doses, together with the untouched arm."
        )
    style_of = styles or arm_style(cells["arm"].unique())
    scale = float(cells["x_scale"].iloc[0])
    scaled = cells.assign(x_sd=cells["x"] / (scale if scale > 0 else math.nan))
    with styled():
        figure = new_figure(2.2 + 2.6 * len(drawn), 5.6)
        grid = figure.subplots(2, len(drawn), sharex="col", sharey="row", squeeze=False)
        for column, (name, steps) in enumerate(drawn.items()):
            for axes, measure in zip(grid[:, column], ("x_sd", "y"), strict=True):
                _curve(axes, scaled, measure, steps, style_of)
            grid[0, column].set_title(fill(name, 26))
            grid[1, column].set_xlabel("dose (in the arm's unit)")
        grid[0, 0].set_ylabel(fill(f"RMS change of upstream bias ({upstream_metric(cells)}, SD)", 28))
        grid[1, 0].set_ylabel(fill(f"mean change of downstream bias ({outcome_of(cells).axis})", 28))
    return figure


def _curve(axes: Axes, cells: pd.DataFrame, measure: str, steps: list[tuple[float, str]], style_of: Styles) -> None:
    means = {dose: interval(_moved(change(cells, measure, arm), measure)) for dose, arm in steps}
    axes.axhline(0, color=GREY, lw=0.8, ls=":", zorder=0)
    axes.plot(list(means), [middle for middle, _, _ in means.values()], color=GREY, lw=1, zorder=1)
    for dose, arm in steps:
        middle, low, high = means[dose]
        axes.errorbar(
            dose, middle, yerr=error_bar(middle, low, high), fmt=style_of[arm].mark, color=style_of[arm].colour
        )
    if all(math.isnan(middle) for middle, _, _ in means.values()):
        explain(axes, "not measured")


def _moved(changes: pd.DataFrame, measure: str) -> pd.Series:
    """The size of the change per seed: mean over groups for y, root mean square for x.

    Random changes of x would cancel in a mean over groups, and the noise of fine-tuning would inflate a root mean square of y.
    """
    moved: pd.Series = changes.mean() if measure == "y" else (changes**2).mean() ** 0.5
    return moved


def dose_response_caption(cells: pd.DataFrame) -> str:
    """The number of groups and seeds, and the meaning of marks and bars."""
    interventions = doses(cells)
    counts = [change(cells, "y", arm).shape[1] for steps in interventions.values() for _, arm in steps[1:]]
    more = len(interventions) - MOST_PANELS
    not_drawn = f" {more} more interventions are not drawn." if more > 0 else ""
    return (
        f"Change from the untouched arm (dose 0) at each dose of {len(interventions)} interventions that act alone, paired by "
        f"seed ({seeds_in_words(counts)}), over {groups_measured(cells)} groups. Above: root mean square, in SD over groups "
        f"of the untouched model; below: mean. {bars(cells)}{not_drawn}"
    )


def utility_and_bias(table: pd.DataFrame, cells: pd.DataFrame, styles: Styles | None = None) -> Figure:
    """ROC AUC (or accuracy) against the size of downstream bias, one mark per arm. table, cells: those of one study."""
    points = utility_points(table, cells)
    if points.empty:
        return explanation(
            "There is no arm with both a utility and a size of bias (which requires two seeds and two groups)."
        )
    style_of = styles or arm_style(cells["arm"].unique())
    with styled():
        figure = new_figure(8.4, max(4.2, 0.9 + 0.24 * len(points)))
        axes = figure.subplots()
        for row in points.to_dict("records"):
            style = style_of[str(row["arm"])]
            bar = error_bar(row["utility"], row["low"], row["high"])
            axes.errorbar(
                row["bias"], row["utility"], yerr=bar, fmt=style.mark, color=style.colour, label=fill(style.label, 40)
            )
        axes.set_xlabel(
            fill(f"size of downstream bias: noise-free {spread_in_words(cells)} of {outcome_of(cells).axis}", 70)
        )
        axes.set_ylabel(f"{UTILITIES[str(points['metric'].iloc[0])]} on the test set")
        axes.set_title("Utility against bias (better: up and to the left)")
        figure.legend(loc="outside right upper")
    return figure


def spread_in_words(cells: pd.DataFrame) -> str:
    """What a size of bias is: a spread about 0 or, for a level without a natural zero, about the mean over groups."""
    return "root mean square over groups" if outcome_of(cells).zero else "SD over groups"


def utility_points(table: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """One row per arm that has both: arm, metric, utility (mean over seeds), low, high, bias, seeds."""
    measured = set(table.loc[table["stage"] == "utility", "metric"])
    metric = next((name for name in UTILITIES if name in measured), "")
    utility = table[(table["stage"] == "utility") & (table["metric"] == metric)]
    rows = []
    for arm in arms_of(cells):
        values = by_seed(cells, "y", arm)
        bias, _ = size_of_bias(values, outcome_of(cells))
        middle, low, high = interval(utility[utility["arm"] == arm].set_index(list(REPEATS))["value"])
        rows.append((arm, metric, middle, low, high, bias, values.shape[1]))
    points = pd.DataFrame(rows, columns=["arm", "metric", "utility", "low", "high", "bias", "seeds"])
    return points.dropna(subset=["utility", "bias"])


def utility_and_bias_caption(table: pd.DataFrame, cells: pd.DataFrame) -> str:
    """The number of groups and seeds, and the meaning of marks and bars."""
    points = utility_points(table, cells)
    centred = "" if outcome_of(cells).zero else ", centred over groups"
    return (
        f"{len(points)} arms, each with {seeds_in_words(points['seeds'])} and {groups_measured(cells)} groups. Horizontal: "
        f"the square root of the mean over pairs of seeds of the products of y{centred}, at least 0, so that noise that seeds "
        f"do not share does not count. {bars(cells)} They are of utility only."
    )
