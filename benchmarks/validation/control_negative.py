"""The negative control: nothing is planted. It is judged on x that cannot have reached the classifier: another world's.

What a model learned by accident transfers as well, so a slope on its own x is no false positive. A slope on the x of another
world's model can only come from properties that terms have in all worlds, such as the length of their names, which B holds
fixed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from analysis.data.names import words
from analysis.stats.dyads import Dyadic, dyadic
from benchmarks.validation.control_checks import MARGIN, Check, Slope, slopes

OUTCOMES = ("logit_gap", "log_fpr")
LEVEL = 0.05
"""Slopes with p below it count as rejections."""


def negative(nothing: pd.DataFrame | None) -> list[Check]:
    """The control's checks. nothing: the rows of controls_negative.yaml.

    The 20 x 19 pairs of a world and another world's x share worlds, so intervals are by a jackknife that deletes a world in
    both roles (`dyads`).
    """
    if nothing is None:
        return []
    worlds = separated(nothing)
    return [check for outcome in OUTCOMES for check in _placebo(worlds, outcome)]


def why(nothing: pd.DataFrame | None) -> list[Check]:
    """Rows that separate the causes of slopes that are found: exploratory."""
    if nothing is None:
        return []
    worlds = separated(nothing)
    return [check for outcome in OUTCOMES for check in _why(worlds, outcome)]


def separated(nothing: pd.DataFrame) -> list[pd.DataFrame]:
    """The rows of each world, with x in SD and the number of words of each term."""
    rows = nothing.assign(words=[words(group) for group in nothing["group"]])
    return [world.assign(x=stats.zscore(world["negative_sentiment"])) for _, world in rows.groupby("data.world")]


def on_other_worlds(
    worlds: Sequence[pd.DataFrame], outcome: str, terms: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """(worlds, worlds) each: slope and p of the row's outcome on the column's x, with the terms' other regressors."""
    xs = [world.set_index("group")["x"] for world in worlds]
    found = [[slopes(world.assign(x=world["group"].map(x)), outcome, terms)[0] for x in xs] for world in worlds]
    return tuple(np.array([[getattr(each, name) for each in row] for row in found]) for name in ("value", "p"))  # type: ignore[return-value]


def _placebo(worlds: Sequence[pd.DataFrame], outcome: str) -> list[Check]:
    values, p = on_other_worlds(worlds, outcome, ["x", "words"])
    shares, mean = dyadic((p < LEVEL).astype(float)), dyadic(values)
    rejections = f"{_share(shares)}, over {shares.pairs} pairs of {shares.units} worlds"
    slope = f"{mean.mean:+.4f}, 90 % [{mean.low_90:+.4f}, {mean.high_90:+.4f}] over {mean.pairs} pairs"
    margin = max(abs(mean.low_90), abs(mean.high_90))
    held = "another world's x, words counted"
    return [
        Check(f"negative, {outcome}: rejections on {held}", "5 %: not below the interval", rejections, not shares.low > LEVEL),
        Check(
            f"negative, {outcome}: equivalence on {held}", f"mean slope per SD of x within +-{MARGIN} (TOST)",
            f"{slope}; smallest margin that would pass: {margin:.3f}", margin < MARGIN,
        ),
    ]  # fmt: skip


def _why(worlds: Sequence[pd.DataFrame], outcome: str) -> list[Check]:
    crossed = dyadic((on_other_worlds(worlds, outcome, ["x"])[1] < LEVEL).astype(float))
    planted = [slopes(world, outcome, ["planted_direction"])[0] for world in worlds]
    own = [slopes(world, outcome, ["x"])[0] for world in worlds]
    counted = [slopes(world, outcome, ["x", "words"])[0] for world in worlds]
    learned = "learned by accident, carried over"
    return [
        _reported(f"{outcome} on the order that was not planted", _count(planted)),
        _reported(
            f"{outcome} on another world's x, words not counted", f"{_share(crossed)}, over {crossed.pairs} pairs"
        ),
        _reported(f"{outcome} on its own x ({learned})", _count(own)),
        _reported(f"{outcome} on its own x, words counted ({learned})", _count(counted)),
    ]


def _share(shares: Dyadic) -> str:
    return f"{shares.mean:.0%} at p < {LEVEL:g} [{max(shares.low, 0):.0%}, {min(shares.high, 1):.0%}]"


def _count(found: Sequence[Slope]) -> str:
    count, n = sum(slope.p < LEVEL for slope in found), len(found)
    above = sum(slope.p < LEVEL and slope.value > 0 for slope in found)
    low, high = stats.binomtest(count, n).proportion_ci()
    return f"{count} of {n} at p < {LEVEL:g} ({count / n:.0%} [{low:.0%}, {high:.0%}]), {above} of them above 0"


def _reported(name: str, result: str) -> Check:
    return Check(f"why: {name}", "none: reported only", result, True, fixed=False)
