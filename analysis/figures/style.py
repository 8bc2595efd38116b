"""The style that all figures share: colours, marks and labels of arms, estimands and terms, type sizes, and error bars."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis.data.cells import Outcome, outcome_named
from analysis.data.runs import UNTOUCHED
from analysis.estimands import arm_effects
from analysis.estimands.arm_effects import wide
from analysis.stats.paired import nested

BLACK, GREY = "#000000", "#666666"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5C00")
"""Okabe and Ito's palette, which colour-blind readers can tell apart. Brown replaces yellow, too light on white."""

MARKS = ("s", "^", "D", "v", "P", "X", "<", ">", "*", "p", "h")
"""Eleven marks for seven colours: the numbers have no common factor, so 77 arms get 77 different pairs of colour and mark."""

ESTIMANDS = {
    "B": ("between groups of the untouched model (association)", COLOURS[0], "o"),
    "W": ("within groups, over the arms' displacements", COLOURS[1], "s"),
}
"""Estimand -> its label, colour and mark."""

TERMS = {"x": "upstream bias", "z": "dataset bias", "x - z": "upstream minus\ndataset bias"}
"""Term of a regression -> its label."""

LABELLED = 3
"""The number of groups named at each end of an axis. More names would cover each other."""

STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "errorbar.capsize": 2.5,
    "lines.markersize": 5.5,
    "svg.hashsalt": "bias_transfer",
    "svg.fonttype": "path",
    "text.parse_math": False,  # a group's name may contain $ and is not a formula
}

NOT_PRETRAINED = "reinitialise"
"""The upstream arm that, at dose 1, represents a model without pre-training."""


@dataclass(frozen=True)
class ArmStyle:
    """An arm's appearance, the same in every figure."""

    colour: str
    mark: str
    label: str


Styles = Mapping[str, ArmStyle]


def arm_style(arms: Iterable[str]) -> dict[str, ArmStyle]:
    """Arm -> its appearance.

    Pass all arms of the experiment, in any order, so that an arm looks the same in every figure. The untouched arm is a black
    circle.
    """
    others = sorted(set(arms) - {UNTOUCHED})
    styles = {UNTOUCHED: ArmStyle(BLACK, "o", arm_label(UNTOUCHED))}
    for number, arm in enumerate(others):
        styles[arm] = ArmStyle(COLOURS[number % len(COLOURS)], MARKS[number % len(MARKS)], arm_label(arm))
    return styles


def arm_label(arm: str) -> str:
    """An arm's name in legends: its interventions, without the stage at which there is none."""
    parts = [part for part in arm.split(" + ") if part != "none"]
    named = " + ".join(parts) or "untouched"
    return named.replace("(", " (").replace(",", ", ")  # so that long names can be wrapped


def styled() -> AbstractContextManager[None]:
    """A context in which figures are drawn in the house style. The user's settings are unchanged afterwards."""
    context: AbstractContextManager[None] = mpl.rc_context(STYLE)
    return context


def new_figure(width: float, height: float, layout: Literal["constrained"] | None = "constrained") -> Figure:
    """An empty figure of this size in inches, unknown to pyplot, so that it opens no window and is freed when unused."""
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def explanation(reason: str) -> Figure:
    """A figure that contains only the reason why there is nothing to show."""
    with styled():
        figure = new_figure(7, 1.6)
        explain(figure.subplots(), reason)
    return figure


def explain(axes: Axes, reason: str) -> None:
    """Write the reason why there are no data into empty axes."""
    axes.text(0.5, 0.5, fill(reason, 70), ha="center", va="center", transform=axes.transAxes, color=GREY)
    axes.set_axis_off()


def outcome_of(cells: pd.DataFrame) -> Outcome:
    """The name, unit and transformation of the cells' downstream metric."""
    return outcome_named(str(cells["outcome"].iloc[0]))


def upstream_metric(cells: pd.DataFrame) -> str:
    """The name of the cells' upstream metric, in words."""
    return str(cells["x_metric"].iloc[0]).replace("_", " ")


def interval(values: pd.Series) -> tuple[float, float, float]:
    """Mean of the values, one per trial, and its 95 % interval by `paired.nested`: (mean, low, high).

    values: indexed by `runs.REPEATS`. NaN values are ignored. Where there is no interval (one seed, equal values), its ends are
    NaN; without values all three are.
    """
    known = values.dropna()
    if known.empty:
        return math.nan, math.nan, math.nan
    result = nested(known)
    return result.mean, result.low, result.high


def bars(cells: pd.DataFrame) -> str:
    """What the bars of a figure show."""
    if len(cells["replicate"].unique()) > 1:
        return "Bars: 95 % intervals (t) over models, each the mean of its seeds."
    return "Bars: 95 % intervals (t) over seeds, for this checkpoint."


def error_bar(middle: float, low: float, high: float) -> list[list[float]]:
    """The lengths of an error bar as matplotlib expects them, [[below], [above]]; 0 if there is no interval."""
    return [[max(middle - low, 0.0)], [max(high - middle, 0.0)]] if np.isfinite([low, high]).all() else [[0.0], [0.0]]


def by_seed(cells: pd.DataFrame, column: str, arm: str) -> pd.DataFrame:
    """The column's values for one arm: (groups, trials), as `arm_effects.wide`. Raises ValueError if a trial occurs twice."""
    return wide(cells[cells["arm"] == arm], column).get(arm, pd.DataFrame())


def change(cells: pd.DataFrame, column: str, arm: str, base: str = UNTOUCHED) -> pd.DataFrame:
    """The arm minus the base, for the groups and seeds that both have: (groups, trials)."""
    return arm_effects.change(by_seed(cells, column, arm), by_seed(cells, column, base))


def group_means(values: pd.DataFrame) -> pd.Series:
    """Each group's mean over the seeds of a model first, then over models. values: (groups, trials)."""
    return values.T.groupby(level="replicate").mean().mean() if len(values) else pd.Series(dtype=float)


def arms_of(cells: pd.DataFrame, keep: Callable[[pd.DataFrame], pd.Series] | None = None) -> list[str]:
    """The arms (of the rows that `keep` selects): the untouched one, then by upstream arm and dose, downstream arm and dose."""
    rows = cells[keep(cells)] if keep else cells
    key = ["upstream", "upstream_dose", "downstream", "downstream_dose", "arm"]
    arms = rows.drop_duplicates("arm")[key].sort_values(key, na_position="first")["arm"].tolist()
    return sorted(map(str, arms), key=lambda arm: arm != UNTOUCHED)


def sides(cells: pd.DataFrame) -> str:
    """What the gaps of the untouched arm mean, with the number of groups on either side of 0, as a sentence with a space before
    it; empty for an outcome without two sides, and where there is no untouched arm."""
    outcome, counts = outcome_of(cells), on_sides(cells)
    if not outcome.sides or not sum(counts):
        return ""
    names = zip((*outcome.sides, "no difference"), counts, ("above 0", "below 0", "at 0"), strict=True)
    parts = [f"{name} in {count} ({where})" for name, count, where in names if count]
    return f" Of the {sum(counts)} groups under the untouched arm: {'; '.join(parts)}."


def on_sides(cells: pd.DataFrame) -> tuple[int, int, int]:
    """The groups whose y under the untouched arm, mean over seeds, is above, below and at 0."""
    means = group_means(by_seed(cells, "y", UNTOUCHED)).dropna()
    above, below = int((means > 0).sum()), int((means < 0).sum())
    return above, below, len(means) - above - below


def groups_measured(cells: pd.DataFrame) -> int:
    """The number of groups with an outcome in some trial."""
    return int(cells.loc[cells["y"].notna(), "group"].nunique())


def seeds_in_words(counts: Iterable[int]) -> str:
    """Such as "3 seeds", or "3 to 10 seeds" if the counts differ."""
    known = sorted(set(counts)) or [0]
    if len(known) > 1:
        return f"{known[0]} to {known[-1]} seeds"
    return f"{known[0]} seed{'' if known[0] == 1 else 's'}"


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write `name`.png and `name`.svg into the folder. The same figure gives the same bytes."""
    paths = [folder / f"{name}.png", folder / f"{name}.svg"]
    with styled():
        figure.savefig(paths[0], dpi=150)
        figure.savefig(paths[1], metadata={"Date": None})
    return paths
