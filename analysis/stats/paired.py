"""The mean of paired differences whose seeds are nested in models, or crossed with the draws of a random arm.

Fine-tuning seeds of one model are not independent of each other, so only models are counted where there are several.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.stats.inference import t_quantile
from analysis.stats.permutation import sign_flip
from analysis.stats.wild_bootstrap import DRAWS

OVER_SEEDS = "t over paired seeds of one model"
OVER_MODELS = "t over models, each the mean of its paired seeds"
OVER_DRAWS = "t over draws, each the mean of its paired seeds"
CROSSED = "t; variance of crossed draws and seeds"

NO_INTERVAL = "one seed gives no interval"
IDENTICAL = "the paired differences are identical: no interval and no p value"
FEW_CROSSED = "an interval over draws takes three draws, and three seeds that all of them share"

IDENTICAL_TO = 1e-12
"""A standard error below this share of the mean is rounding noise."""


@dataclass(frozen=True)
class Paired:
    """Mean of paired differences, with its standard error, t intervals (95 % and 90 %) and two-sided p value."""

    mean: float
    error: float = math.nan
    low: float = math.nan
    high: float = math.nan
    low_90: float = math.nan
    high_90: float = math.nan
    p: float = math.nan
    units: int = 0
    """The independent units that the interval counts: models or, with one model, seeds; the fewer of draws and seeds."""
    method: str = ""
    reason: str = ""
    """Why there is no interval."""


def paired(differences: np.ndarray, method: str = OVER_SEEDS) -> Paired:
    """The paired t test. differences: (units,), independent of each other.

    A single unit has no interval. Neither have identical differences: they show that the units do not differ in what was
    measured (a rate of few counts, say), not that the mean is known without error.
    """
    units, mean = len(differences), float(differences.mean())
    if units < 2:
        return Paired(mean, units=units, reason=NO_INTERVAL)
    return from_error(mean, float(differences.std(ddof=1)) / math.sqrt(units), units - 1, units, method)


def from_error(mean: float, error: float, freedom: float, units: int, method: str) -> Paired:
    """A mean with a standard error of `freedom` degrees of freedom; without interval where the error is 0."""
    if not error > IDENTICAL_TO * abs(mean):
        return Paired(mean, units=units, reason=IDENTICAL)
    reach, reach_90 = (error * t_quantile(level, freedom) for level in (0.975, 0.95))
    p = 2 * float(stats.t.sf(abs(mean) / error, freedom))
    return Paired(mean, error, mean - reach, mean + reach, mean - reach_90, mean + reach_90, p, units, method)


def nested(differences: pd.Series) -> Paired:
    """The mean of paired differences, indexed by `runs.REPEATS` (replicate, draw, seed).

    Several models: averages within each, then t over models. One model: t over its seeds. One model and several draws: draws
    crossed with seeds (`crossed`) or, where each draw has seeds of its own, t over draws.
    """
    models, draws, seeds = (differences.index.unique(level) for level in ("replicate", "draw", "seed"))
    if len(models) > 1:
        return paired(units(differences).to_numpy(float), OVER_MODELS)
    if len(draws) < 2:
        return paired(differences.to_numpy(float))
    if len(differences) == len(seeds):
        return paired(differences.groupby(level="draw").mean().to_numpy(float), OVER_DRAWS)
    return crossed(differences.droplevel("replicate").unstack("seed").to_numpy(float))  # noqa: PD010 (a level of the index)


def units(differences: pd.Series) -> pd.Series:
    """The independent differences: the mean of each model or, with one model, the difference of each seed."""
    models = differences.groupby(level="replicate").mean()
    return models if len(models) > 1 else differences


def crossed(differences: np.ndarray) -> Paired:
    """The mean where each of several draws was fine-tuned with the same seeds. differences: (draws, seeds); NaN: missing.

    Differences of one seed share the untouched arm's run, so t over the draws' means takes their common noise for none. The
    variance is (MS_draws + MS_seeds - MS_both)/(draws seeds), and no less than the larger of the first two alone. Degrees of
    freedom: Satterthwaite's, and no fewer than those of the shorter side; of the larger term where that is all that is left.
    No interval with fewer than three draws or seeds, or with missing values.
    """
    count, seeds = differences.shape
    mean = float(np.nanmean(differences))
    if min(count, seeds) < 3 or np.isnan(differences).any():
        return Paired(mean, units=min(count, seeds), reason=FEW_CROSSED)
    of_draws, of_seeds = (differences.mean(axis=axis) - mean for axis in (1, 0))
    rest = differences - mean - of_draws[:, None] - of_seeds
    sums = seeds * float(of_draws @ of_draws), count * float(of_seeds @ of_seeds), float((rest**2).sum())
    freedoms = count - 1, seeds - 1, (count - 1) * (seeds - 1)
    draws_square, seeds_square, rest_square = squares = [total / own for total, own in zip(sums, freedoms, strict=True)]
    largest, its_freedom = max(zip(squares[:2], freedoms[:2], strict=True))
    variance, freedom = largest, float(its_freedom)
    if draws_square + seeds_square - rest_square > largest:
        variance = draws_square + seeds_square - rest_square
        satterthwaite = variance**2 / sum(square**2 / own for square, own in zip(squares, freedoms, strict=True))
        freedom = max(satterthwaite, float(min(freedoms)))
    error = math.sqrt(variance / differences.size)
    return from_error(mean, error, freedom, min(count, seeds), CROSSED)


def permuted(differences: pd.Series, draws: int = DRAWS) -> float:
    """p value by flipping the signs of whole models or, with one model, of seeds; NaN where `nested` gives no p value.

    NaN also for draws that are crossed with seeds, whose differences cannot be exchanged one by one.
    """
    test = nested(differences)
    if math.isnan(test.p) or test.method == CROSSED:
        return math.nan
    independent = differences.groupby(level="draw").mean() if test.method == OVER_DRAWS else units(differences)
    return sign_flip(independent.to_numpy(float), draws)
