"""Calibration error per group: whether a predicted probability means the same for every group."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from bias_transfer.metrics.error_rates import Rows
from bias_transfer.spec import Measure

BINS = 10
"""Number of bins of equal width over [0, 1]. Each includes its lower end, the last one also 1."""


def calibrations(
    margins: np.ndarray, labels: np.ndarray, groups: Mapping[str, Rows], prefix: str = ""
) -> list[Measure]:
    """Two measures of the probability of class 1 for each group; NaN with n = 0 for a group without examples.

    margins, labels: (examples,), margins in logits, labels 0 or 1; groups: name -> rows; prefix: before the metrics' names.
    calibration_error: expected calibration error (Naeini et al. 2015) in `BINS` bins, in [0, 1]: the mean over examples of
    |mean probability - observed rate| of their bin. It rises with noise, so compare only groups of similar n.
    calibration_gap: mean probability minus observed rate, in [-1, 1]; above 0 the group's probability is too high.

    Phrases are positive in half of the cases by construction: a classifier that learned from data with 10 % positives is
    miscalibrated there for that reason alone, so that only differences between groups indicate bias.
    """
    from scipy.special import expit  # imported late: SciPy takes a second

    probabilities = expit(margins)
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    excess, measures = probabilities - labels, []
    for group, rows in groups.items():
        n = len(rows)
        in_bins = np.bincount(bins[rows], weights=excess[rows], minlength=BINS)
        error, gap = (np.abs(in_bins).sum() / n, in_bins.sum() / n) if n else (math.nan, math.nan)
        measures.append(Measure("downstream", f"{prefix}calibration_error", group, "", float(error), n))
        measures.append(Measure("downstream", f"{prefix}calibration_gap", group, "", float(gap), n))
    return measures
