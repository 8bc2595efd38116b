"""What all figures share: one colour and mark for each arm, type sizes, intervals over seeds, and a word where data lack."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis.estimands.arm_effects import paired
from analysis.data.runs import OUTCOMES
from analysis.data.runs import UNTOUCHED
from analysis.data.runs import Outcome

BLACK, GREY = "#000000", "#666666"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5C00")
"""Okabe and Ito's palette, which colour-blind readers can tell apart; brown for its yellow, too light on white."""

MARKS = ("s", "^", "D", "v", "P", "X", "<", ">", "*", "p", "h")
"""As many as colours and four more, so that the pairs of a colour and a mark do not repeat for 77 arms."""

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
    "text.parse_math": False,  # a group's name is no formula, whatever $ it has
}

NOT_PRETRAINED = "reinitialise"
"""The upstream arm that, at dose 1, stands for a model without pre-training."""


@dataclass(frozen=True)
class ArmStyle:
    """How an arm looks in every figure."""

    colour: str
    mark: str
    label: str


Styles = Mapping[str, ArmStyle]


def arm_style(arms: Iterable[str]) -> dict[str, ArmStyle]:
    """Arm -> its look. Give it all arms of the experiment, so that an arm looks the same in every figure; their order does not
    matter. The untouched arm is a black circle."""
    others = sorted(set(arms) - {UNTOUCHED})
    looks = {UNTOUCHED: ArmStyle(BLACK, "o", short(UNTOUCHED))}
    for number, arm in enumerate(others):
        looks[arm] = ArmStyle(COLOURS[number % len(COLOURS)], MARKS[number % len(MARKS)], short(arm))
    return looks


def short(arm: str) -> str:
    """An arm as legends name it: what was done, and nothing of what was not."""
    parts = [part for part in arm.split(" + ") if part != "none"]
    named = " + ".join(parts) or "untouched"
    return named.replace("(", " (").replace(",", ", ")  # so that long ones can be broken


def styled() -> AbstractContextManager[None]:
    """Within it, figures are drawn in the house style; the user's settings are left alone."""
    context: AbstractContextManager[None] = mpl.rc_context(STYLE)
    return context


def blank(width: float, height: float) -> Figure:
    """An empty figure, in inches, that no window and no global list holds."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def saying(why: str) -> Figure:
    """A figure that says why there is nothing to show."""
    with styled():
        figure = blank(7, 1.6)
        say(figure.subplots(), why)
    return figure


def say(axes: Axes, why: str) -> None:
    """The reason, in place of data."""
    axes.text(0.5, 0.5, fill(why, 70), ha="center", va="center", transform=axes.transAxes, color=GREY)
    axes.set_axis_off()


def outcome_of(cells: pd.DataFrame) -> Outcome:
    """How the cells' downstream metric is named and measured."""
    return OUTCOMES[str(cells["outcome"].iloc[0])]


def x_name(cells: pd.DataFrame) -> str:
    """The upstream metric in words."""
    return str(cells["x_metric"].iloc[0]).replace("_", " ")


def interval(values: Sequence[float] | np.ndarray | pd.Series) -> tuple[float, float, float]:
    """Mean, and the 95 % interval of the mean by t over the values (seeds, as a rule); NaN ends for a single one."""
    known = np.asarray(values, float)
    known = known[~np.isnan(known)]
    if len(known) == 0:
        return math.nan, math.nan, math.nan
    found = paired(known)
    return found.mean, found.low, found.high


def reach(middle: float, low: float, high: float) -> list[list[float]]:
    """The arms of an error bar, as matplotlib wants them; none where there is no interval."""
    return [[max(middle - low, 0.0)], [max(high - middle, 0.0)]] if np.isfinite([low, high]).all() else [[0.0], [0.0]]


def by_seed(cells: pd.DataFrame, column: str, arm: str) -> pd.DataFrame:
    """(groups, seeds) of one arm: the column's values."""
    own = cells[cells["arm"] == arm]
    return own.pivot(index="group", columns="seed", values=column)  # noqa: PD010 (a doubled trial must raise)


def change(cells: pd.DataFrame, column: str, arm: str, base: str = UNTOUCHED) -> pd.DataFrame:
    """(groups, seeds): the arm less the base, for the seeds and groups that both have."""
    one, other = by_seed(cells, column, arm), by_seed(cells, column, base)
    seeds = [seed for seed in one.columns if seed in other.columns]
    groups = [group for group in one.index if group in other.index]
    return (one.loc[groups, seeds] - other.loc[groups, seeds]).dropna()


def arms_of(cells: pd.DataFrame, keep: Callable[[pd.DataFrame], pd.Series] | None = None) -> list[str]:
    """The arms, the untouched one first, then by upstream arm, dose, downstream arm and dose."""
    own = cells[keep(cells)] if keep else cells
    key = ["upstream", "upstream_dose", "downstream", "downstream_dose", "arm"]
    arms = own.drop_duplicates("arm")[key].sort_values(key, na_position="first")["arm"].tolist()
    return sorted(map(str, arms), key=lambda arm: arm != UNTOUCHED)


def seeds_in_words(counts: Iterable[int]) -> str:
    """3 seeds; or 3 to 10 seeds where they differ."""
    known = sorted(set(counts)) or [0]
    if len(known) > 1:
        return f"{known[0]} to {known[-1]} seeds"
    return f"{known[0]} seed{'' if known[0] == 1 else 's'}"
