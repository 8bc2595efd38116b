"""Why the negative control rejects in more than 5 % of worlds, if it does: regressions that separate the possible causes.

They were added after the control had been run. They explain its result and do not replace it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd
from scipy import stats

from analysis.estimands.slopes import words
from benchmarks.validation.control_checks import Check, Slope, slopes

OUTCOMES = ("logit_gap", "log_fpr")


def why(nothing: pd.DataFrame | None) -> list[Check]:
    """nothing: the rows of controls_negative.yaml.

    A slope on the order that was not planted is always a false positive. The measured x is not that order but what the model
    happened to learn, so a slope on it may be real. A slope on another world's x cannot be; rejections beyond 5 % are then due
    to properties that terms have in all worlds, such as their number of words.
    """
    if nothing is None:
        return []
    rows = nothing.assign(words=[words(group) for group in nothing["group"]])
    worlds = [world.assign(x=stats.zscore(world["negative_sentiment"])) for _, world in rows.groupby("data.world")]
    return [check for outcome in OUTCOMES for check in _why(worlds, outcome)]


def _why(worlds: Sequence[pd.DataFrame], outcome: str) -> Iterator[Check]:
    planted = [slopes(world, outcome, ["planted_direction"])[0] for world in worlds]
    yield _check(f"why: {outcome} on the order that was not planted", planted)
    crossed = [_with_x_of(world, other) for world in worlds for other in worlds if other is not world]
    yield _check(
        f"why: {outcome} on another world's x", [slopes(pair, outcome, ["x"])[0] for pair in crossed], strict=False
    )
    adjusted = [slopes(pair, outcome, ["x", "words"])[0] for pair in crossed]
    yield _check(f"why: {outcome} on another world's x, adjusted for words", adjusted)
    same = [slopes(world, outcome, ["x", "words"])[0] for world in worlds]
    yield _check(f"why: {outcome} on its own x, adjusted for words", same, strict=False)


def _with_x_of(world: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    return world.assign(x=world["group"].map(other.set_index("group")["x"]))


def _check(name: str, found: Sequence[Slope], strict: bool = True) -> Check:
    """strict: every rejection is a false positive, so 5 % are expected."""
    count, n = sum(slope.p < 0.05 for slope in found), len(found)
    above = sum(slope.p < 0.05 and slope.value > 0 for slope in found)
    result = f"{count} of {n} at p < .05 ({count / n:.0%}), {above} of them above 0"
    if not strict:
        return Check(name, "none: reported only", result, True, fixed=False)
    low, high = stats.binomtest(count, n).proportion_ci()
    criterion, shown = "at most 5 %: lower end of the interval", f"{result}; [{low:.0%}, {high:.0%}]"
    return Check(name, criterion, shown, low <= 0.05, fixed=False)
