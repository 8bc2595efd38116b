"""Why the negative control rejects more often than one time in twenty, if it does: three regressions that part the causes.

Added after the control had been run: they explain, and are no substitute for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd
from scipy import stats

from analysis.estimands.slopes import words
from benchmarks.validation.control_checks import Check
from benchmarks.validation.control_checks import Slope
from benchmarks.validation.control_checks import slopes

OUTCOMES = ("logit_gap", "log_fpr")


def why(nothing: pd.DataFrame | None) -> list[Check]:
    """nothing: the rows of controls_negative.yaml.

    On the order in which nothing was planted, any slope is a false positive. The measured x is not that order: it is what the
    model happened to learn, so that a slope on it may be real. With the x of another world it cannot be; what is then found
    beyond one in twenty comes from what terms have in common in all worlds, as their number of words.
    """
    if nothing is None:
        return []
    own = nothing.assign(words=[words(group) for group in nothing["group"]])
    worlds = [world.assign(x=stats.zscore(world["negative_sentiment"])) for _, world in own.groupby("data.world")]
    return [check for outcome in OUTCOMES for check in _why(worlds, outcome)]


def _why(worlds: Sequence[pd.DataFrame], outcome: str) -> Iterator[Check]:
    planted = [slopes(world, outcome, ["planted_direction"])[0] for world in worlds]
    yield _check(f"why: {outcome} on the order that was not planted", planted)
    crossed = [_with_x_of(world, other) for world in worlds for other in worlds if other is not world]
    yield _check(
        f"why: {outcome} on another world's x", [slopes(pair, outcome, ["x"])[0] for pair in crossed], strict=False
    )
    counted = [slopes(pair, outcome, ["x", "words"])[0] for pair in crossed]
    yield _check(f"why: {outcome} on another world's x, words counted", counted)
    same = [slopes(world, outcome, ["x", "words"])[0] for world in worlds]
    yield _check(f"why: {outcome} on the own x, words counted", same, strict=False)


def _with_x_of(world: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    return world.assign(x=world["group"].map(other.set_index("group")["x"]))


def _check(name: str, found: Sequence[Slope], strict: bool = True) -> Check:
    """strict: false positives alone can be found here, so that one in twenty is expected."""
    count, n = sum(one.p < 0.05 for one in found), len(found)
    above = sum(one.p < 0.05 and one.value > 0 for one in found)
    told = f"{count} of {n} at p < .05 ({count / n:.0%}), {above} of them above 0"
    if not strict:
        return Check(name, "told, not asked", told, True)
    low, high = stats.binomtest(count, n).proportion_ci()
    return Check(
        name, "at most one in twenty: the interval's lower end is", f"{told}; [{low:.0%}, {high:.0%}]", low <= 0.05
    )
