"""The mean of a number over ordered pairs of units, with an interval that knows that pairs share units."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from analysis.stats.inference import t_quantile

LEAST_UNITS = 3
"""Leaving one of two units out leaves no pair."""


@dataclass(frozen=True)
class Dyadic:
    """A mean over ordered pairs of different units, with its jackknife error, t intervals (95 % and 90 %) and p value."""

    mean: float
    error: float
    low: float
    high: float
    low_90: float
    high_90: float
    p: float
    pairs: int
    units: int


def dyadic(values: np.ndarray) -> Dyadic:
    """The mean over pairs (i, j), i != j. values: (units, units); the diagonal is not read, and NaN is no pair.

    A unit takes part in 2 (units - 1) pairs, in either role, so the jackknife deletes it in both (t with units - 1 degrees of
    freedom). The interval is NaN for fewer than `LEAST_UNITS` units, and where leaving units out changes nothing.
    """
    units = len(values)
    used = ~np.isnan(values) & ~np.eye(units, dtype=bool)
    pairs = int(used.sum())
    filled = np.where(used, values, 0.0)
    mean = float(filled.sum()) / pairs if pairs else math.nan
    with np.errstate(invalid="ignore", divide="ignore"):  # two units: nothing is left, up to rounding
        left = (filled.sum() - filled.sum(axis=0) - filled.sum(axis=1)) / (pairs - used.sum(axis=0) - used.sum(axis=1))
    error = (
        math.sqrt((units - 1) / units * float(((left - left.mean()) ** 2).sum())) if units >= LEAST_UNITS else math.nan
    )
    if math.isnan(error) or error <= 1e-12 * abs(mean):
        return Dyadic(mean, math.nan, math.nan, math.nan, math.nan, math.nan, math.nan, pairs, units)
    reach, reach_90 = (error * t_quantile(level, units - 1) for level in (0.975, 0.95))
    p = 2 * float(stats.t.sf(abs(mean) / error, units - 1))
    return Dyadic(mean, error, mean - reach, mean + reach, mean - reach_90, mean + reach_90, p, pairs, units)
