"""The negative control: nothing is planted. How often is a slope significant that cannot be real?

A slope on the x of *another* world cannot be real: no classifier of this world has seen it. The control is judged on these
placebos, with the number of words of a term held fixed. A slope on a world's own x may be real: a model learns associations by
accident, and carries them over. It is shown as that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from analysis.data.names import COVARIATES, words
from analysis.stats.dyads import Dyadic, dyadic
from benchmarks.validation.control_checks import MARGIN, Check, Slope, slopes

OUTCOMES = ("logit_gap", "log_fpr")
LEVEL = 0.05
AT_MOST = "at most 5 %: lower end of the interval"
REPORTED = "none: reported only"
BY_ACCIDENT = "none: learned by accident, carried over"


def negative(nothing: pd.DataFrame | None) -> list[Check]:
    """What the control is judged on. nothing: the rows of controls_negative.yaml."""
    if nothing is None:
        return []
    worlds = worlds_of(nothing)
    crossed = {outcome: placebos(worlds, outcome, ["words"]) for outcome in OUTCOMES}
    rates = [
        _rate(f"negative, {outcome}: rejections on another world's x, words counted", *found, fixed=True)
        for outcome, found in crossed.items()
    ]
    mean = dyadic(crossed["log_fpr"][0])
    smallest = max(abs(mean.low_90), abs(mean.high_90))
    result = (
        f"{mean.mean:+.4f}, 90 % [{mean.low_90:+.4f}, {mean.high_90:+.4f}] over {mean.units} worlds; smallest margin that "
        f"would pass: {smallest:.3f}"
    )
    criterion = f"mean slope on ln FPR per SD of another world's x, words counted, within +-{MARGIN} (TOST)"
    return [*rates, Check("negative: equivalence", criterion, result, smallest < MARGIN)]


def why(nothing: pd.DataFrame | None) -> list[Check]:
    """Regressions that separate the causes of a result; they count neither way. nothing: the rows of controls_negative.yaml."""
    if nothing is None:
        return []
    worlds = worlds_of(nothing)
    held = [name for name in COVARIATES if name == "words" or COVARIATES[name] in nothing]
    return [check for outcome in OUTCOMES for check in _why(worlds, outcome, held)]


def worlds_of(nothing: pd.DataFrame) -> list[pd.DataFrame]:
    """The rows of each world, with x in SD over groups and the covariates of the terms' names."""
    counted = nothing.assign(words=[float(words(group)) for group in nothing["group"]])
    named = {name: counted[measure] for name, measure in COVARIATES.items() if name != "words" and measure in nothing}
    rows = counted.assign(**named)
    return [world.assign(x=stats.zscore(world["negative_sentiment"])) for _, world in rows.groupby("data.world")]


def _why(worlds: Sequence[pd.DataFrame], outcome: str, held: Sequence[str]) -> Iterator[Check]:
    planted = [slopes(world, outcome, ["planted_direction"])[0] for world in worlds]
    yield _of_worlds(f"why: {outcome} on the order that was not planted", "5 % are expected", planted)
    other = f"why: {outcome} on another world's x"
    yield _rate(other, *placebos(worlds, outcome, []), fixed=False)
    if len(held) > 1:
        yield _rate(f"{other}, all that B holds fixed", *placebos(worlds, outcome, held), fixed=False)
    own = f"why: {outcome} on its own x"
    yield _of_worlds(own, BY_ACCIDENT, [slopes(world, outcome, ["x"])[0] for world in worlds])
    counted = [slopes(world, outcome, ["x", "words"])[0] for world in worlds]
    yield _of_worlds(f"{own}, words counted", BY_ACCIDENT, counted)


def placebos(worlds: Sequence[pd.DataFrame], outcome: str, covariates: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Slopes of the row's outcome on the column's x, and their p: (worlds, worlds) each; NaN on the diagonal."""
    value, p = np.full((2, len(worlds), len(worlds)), math.nan)
    xs = [world.groupby("group")["x"].mean() for world in worlds]
    for row, world in enumerate(worlds):
        for column, x in enumerate(xs):
            if row != column:
                found = slopes(world.assign(x=world["group"].map(x)), outcome, ["x", *covariates])[0]
                value[row, column], p[row, column] = found.value, found.p
    return value, p


def share_interval(share: Dyadic) -> tuple[float, float]:
    """95 % interval of a share of pairs, in [0, 1]: jackknife over worlds or, where all pairs agree, the exact binomial one
    with each world counted once."""
    if math.isnan(share.error):
        exact = stats.binomtest(round(share.mean * share.units), share.units).proportion_ci()
        return float(exact.low), float(exact.high)
    return max(0.0, share.low), min(1.0, share.high)


def _rate(name: str, value: np.ndarray, p: np.ndarray, fixed: bool) -> Check:
    """The share of placebos that are rejected. Its interval deletes a world in both roles: 380 pairs are 20 worlds."""
    rejected = np.where(np.isnan(p), math.nan, p < LEVEL)
    share = dyadic(rejected)
    low, high = share_interval(share)
    above = int((value[rejected == 1] > 0).sum())
    result = (
        f"{int(np.nansum(rejected))} of {share.pairs} at p < .05 ({share.mean:.1%}), {above} of them above 0; 95 % over "
        f"{share.units} worlds [{low:.1%}, {high:.1%}]"
    )
    return Check(name, AT_MOST, result, low <= LEVEL, fixed)


def _of_worlds(name: str, criterion: str, found: Sequence[Slope]) -> Check:
    """Rejections and the mean slope over worlds, which are independent."""
    count, n, values = sum(slope.p < LEVEL for slope in found), len(found), np.array([slope.value for slope in found])
    above = sum(slope.p < LEVEL and slope.value > 0 for slope in found)
    low, high = stats.binomtest(count, n).proportion_ci()
    reach = float(stats.t.ppf(0.975, n - 1) * stats.sem(values))
    mean = f"mean slope {values.mean():+.3f} [{values.mean() - reach:+.3f}, {values.mean() + reach:+.3f}]"
    result = f"{count} of {n} at p < .05 ({count / n:.0%}) [{low:.0%}, {high:.0%}], {above} of them above 0; {mean}"
    return Check(name, criterion, result, True, fixed=False)
