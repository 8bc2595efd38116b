"""Separation and sufficiency: whether predictions depend on a person's group once the truth is known, and the other way round.

Barocas, Hardt and Narayanan, "Fairness and Machine Learning", chapter 3, define both criteria; the distances are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bias_transfer.spec import Measure


def separation(
    predicted: np.ndarray, labels: np.ndarray, members: Sequence[np.ndarray], classes: Sequence[str], template: str
) -> list[Measure]:
    """separation_gap, per class y and over all: the total variation between P(prediction | y, group) and P(prediction | y), the
    mean over groups, and over the classes that have a value. sufficiency_gap: the same with prediction and y swapped.

    Total variation is half the sum of absolute differences: the Wasserstein-1 distance where any two classes are 1 apart, as
    numbers of classes have no meaning. In [0, 1]; 0 where the criterion holds. Few examples make it larger: two samples of one
    distribution differ, so compare classes and arms of similar n.

    predicted, labels: (examples,), indices of `classes`; members: (examples,) of bool per group; template: names the set. n:
    examples of the class (of sufficiency: that are predicted to be of it). NaN with n = 0 for a class that lacks a group.
    """
    measures = list[Measure]()
    for metric, given, told in (("separation_gap", labels, predicted), ("sufficiency_gap", predicted, labels)):
        rows = [
            _of_class(metric, name, told, [given == number, *members], len(classes), template)
            for number, name in enumerate(classes)
        ]
        known = [row for row in rows if row.n]
        mean = math.fsum(row.value for row in known) / len(known) if known else math.nan
        measures += [*rows, Measure("downstream", metric, "", template, mean, sum(row.n for row in known))]
    return measures


def _of_class(
    metric: str, name: str, told: np.ndarray, given: Sequence[np.ndarray], classes: int, template: str
) -> Measure:
    """given: (examples,) of bool for the class, then for each group."""
    of_class, *groups = given
    if not all((of_class & group).any() for group in groups):
        return Measure("downstream", metric, name, template, math.nan, 0)
    whole = _shares(told[of_class], classes)
    distances = [np.abs(_shares(told[of_class & group], classes) - whole).sum() / 2 for group in groups]
    return Measure("downstream", metric, name, template, float(np.mean(distances)), int(of_class.sum()))


def _shares(values: np.ndarray, classes: int) -> np.ndarray:
    return np.bincount(values, minlength=classes) / len(values)
