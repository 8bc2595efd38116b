"""Where the answers of a classifier of two classes are cut into calls."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

HALF = 0.0
"""The margin at a probability of 0.5."""


def margin(logits: np.ndarray, label: int = 1) -> np.ndarray:
    """(examples, classes) -> (examples,): logit of the class less the largest of the others.

    Above 0, the classifier calls that class; of two classes, its probability is then above 0.5.
    """
    others = np.delete(logits, label, axis=1).max(axis=1)
    return np.asarray(logits[:, label] - others, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class EqualError:
    """The threshold at which a classifier errs as often on negatives as on positives."""

    threshold: float
    """A margin, in logits: what lies above is called positive. NaN where a class is missing."""
    rate: float
    """Mean of FPR and FNR there, in [0, 1]: equal but for the steps that n examples leave. NaN where a class is missing."""
    n: int
    """Examples it rests on; 0 where a class is missing."""


def equal_error(margins: np.ndarray, labels: np.ndarray) -> EqualError:
    """margins: (examples,); labels: (examples,), 0 or 1. Half-way between the two margins that part the calls best.

    FPR - FNR falls at each distinct margin, so there is one place at most where it is 0; failing that it is where FPR and FNR
    are closest, and of two such places the lower. A classifier that answers everything alike calls nothing positive.
    """
    positives, negatives = int((labels == 1).sum()), int((labels == 0).sum())
    if not positives or not negatives:
        return EqualError(math.nan, math.nan, 0)
    values, place = np.unique(margins, return_inverse=True)
    missed = np.cumsum(np.bincount(place, labels == 1)).astype(np.int64)
    alarms = negatives - np.cumsum(np.bincount(place, labels == 0)).astype(np.int64)
    at = int(np.argmin(np.abs(alarms * positives - missed * negatives)))  # in whole numbers: ties are exact
    threshold = float(values[at : at + 2].mean())
    return EqualError(threshold, float(alarms[at] / negatives + missed[at] / positives) / 2, len(labels))
