"""Whether a probability means for each group what it says."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from bias_transfer.metrics.error_rates import Rows
from bias_transfer.spec import Measure

BINS = 10
"""Of equal width over [0, 1], each with its lower end; the last with both."""


def calibrations(
    margins: np.ndarray, labels: np.ndarray, groups: Mapping[str, Rows], prefix: str = ""
) -> list[Measure]:
    """For each group, of the probability of class 1, with its n; NaN with n = 0 for a group without examples.

    margins, labels: (examples,).
    calibration_error: expected calibration error (Naeini et al. 2015) in `BINS` bins, in [0, 1]: the mean over examples of
    |mean probability - observed rate| of their bin. It rises with noise: compare groups of like n only.
    calibration_gap: mean probability less observed rate, in [-1, 1]; above 0 the group is thought worse than it is.

    Where half of the examples are positive by construction, a classifier that learned from 10 % is off by that alone: then only
    differences between groups speak of bias.
    """
    from scipy.special import expit  # late: SciPy takes a second

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
