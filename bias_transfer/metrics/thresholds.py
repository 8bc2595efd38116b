"""Thresholds at which a classifier's margin becomes a decision for a class."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

HALF = 0.0
"""The margin of two classes at a probability of 0.5."""


def margin(logits: np.ndarray, label: int = 1) -> np.ndarray:
    """(examples, classes) -> (examples,), fp64: the logit of the class minus the largest of the other logits.

    Above 0, the classifier predicts the class; with two classes, its probability is then above 0.5.
    """
    others = np.delete(logits, label, axis=1).max(axis=1)
    return np.asarray(logits[:, label] - others, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class EqualError:
    """The threshold at which false positive rate (FPR) and false negative rate (FNR) are equal."""

    threshold: float
    """A margin, in logits: examples above it are called positive. NaN where a class is missing."""
    rate: float
    """Mean of FPR and FNR at the threshold, in [0, 1]: with n examples they can only be nearly equal. NaN where a class is
    missing."""
    n: int
    """Number of examples; 0 where a class is missing."""


def equal_error(margins: np.ndarray, labels: np.ndarray) -> EqualError:
    """The equal-error threshold, half-way between two neighbouring margins. margins, labels: (examples,); labels: 0 or 1.

    FPR - FNR falls at each distinct margin, so at most one gap between margins makes it 0. If none does, it is the gap where
    FPR and FNR are closest, and the lower one of two such gaps. If all examples have the same margin, none is called positive.
    """
    positives, negatives = int((labels == 1).sum()), int((labels == 0).sum())
    if not positives or not negatives:
        return EqualError(math.nan, math.nan, 0)
    values, rank = np.unique(margins, return_inverse=True)
    missed = np.cumsum(np.bincount(rank, labels == 1)).astype(
        np.int64
    )  # by a threshold just above each distinct margin
    alarms = negatives - np.cumsum(np.bincount(rank, labels == 0)).astype(np.int64)
    best = int(
        np.argmin(np.abs(alarms * positives - missed * negatives))
    )  # |FPR - FNR| in whole numbers: ties are exact
    threshold = float(values[best : best + 2].mean())
    return EqualError(threshold, float(alarms[best] / negatives + missed[best] / positives) / 2, len(labels))
