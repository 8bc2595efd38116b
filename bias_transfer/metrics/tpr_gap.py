"""Recall of each class by pronoun: TPR gaps and ratios, and how they go with the class's share of she (De-Arteaga 2019)."""

from __future__ import annotations

import math

import numpy as np

from bias_transfer.metrics.error_rates import log_rate
from bias_transfer.spec import Measure

LEAST_GROUPS = 10
"""A slope or correlation over fewer groups is not given (SCIENCE.md, "Dataset bias")."""


def true_positives(
    logits: np.ndarray, labels: np.ndarray, she: np.ndarray, groups: tuple[str, ...], template: str
) -> list[Measure]:
    """For each group: tpr_she, tpr_he, tpr_gap = tpr_she - tpr_he, and log_tpr_ratio; over the groups: tpr_gap_slope and
    tpr_gap_correlation of the gap on the group's share of she among these examples.

    logits: (examples, classes); labels: (examples,), an index of `groups`; she: (examples,), bool. template: names the set.
    n: examples of the group with that pronoun, of both for gaps and ratios, and groups for slope and correlation. A rate
    without examples is NaN, a log with fewer than `rates.LEAST_FOR_LOGS` of either pronoun too.
    """
    right = logits.argmax(axis=1) == labels
    measures, gaps, shares = [], list[float](), list[float]()
    for label, group in enumerate(groups):
        own = labels == label
        rows = _by_pronoun(group, right[own & she], right[own & ~she], template)
        measures += rows
        gaps.append(rows[2].value)
        shares.append(float(she[own].mean()) if own.any() else math.nan)
    return [*measures, *_against_share(np.array(gaps), np.array(shares), template)]


def _by_pronoun(group: str, she: np.ndarray, he: np.ndarray, template: str) -> list[Measure]:
    """she, he: whether each example with that pronoun is recalled."""
    tpr_she, tpr_he = _mean(she), _mean(he)
    ratio = log_rate(int(she.sum()), len(she)) - log_rate(int(he.sum()), len(he))
    both = len(she) + len(he)
    return [
        _row("tpr_she", group, template, tpr_she, len(she)),
        _row("tpr_he", group, template, tpr_he, len(he)),
        _row("tpr_gap", group, template, tpr_she - tpr_he, both),
        _row("log_tpr_ratio", group, template, ratio, both),
    ]


def _against_share(gaps: np.ndarray, shares: np.ndarray, template: str) -> list[Measure]:
    known = ~np.isnan(gaps)
    x, y = shares[known], gaps[known]
    slope = correlation = math.nan
    if len(x) >= LEAST_GROUPS and x.std() > 0:
        slope = float(np.polyfit(x, y, 1)[0])
        correlation = float(np.corrcoef(x, y)[0, 1]) if y.std() > 0 else math.nan
    found = {"tpr_gap_slope": slope, "tpr_gap_correlation": correlation}
    return [_row(metric, "", template, value, len(x)) for metric, value in found.items()]


def _mean(hits: np.ndarray) -> float:
    return float(hits.mean()) if len(hits) else math.nan


def _row(metric: str, group: str, template: str, value: float, n: int) -> Measure:
    return Measure("downstream", metric, group, template, value, n if value == value else 0)
