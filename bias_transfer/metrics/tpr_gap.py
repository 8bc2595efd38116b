"""Recall (TPR) of each class by pronoun: its gap and ratio, and their relation to the class's share of "she"."""

from __future__ import annotations

import math

import numpy as np

from bias_transfer.metrics.error_rates import log_rate
from bias_transfer.spec import Measure

LEAST_OCCUPATIONS = 10
"""A slope or correlation needs at least this many groups (docs/science.md, "Dataset bias")."""


def true_positives(
    logits: np.ndarray, labels: np.ndarray, she: np.ndarray, groups: tuple[str, ...], template: str
) -> list[Measure]:
    """The measures of De-Arteaga et al. 2019. For each group: tpr_she, tpr_he, tpr_gap = tpr_she - tpr_he, and log_tpr_ratio
    (smoothed); over the groups: tpr_gap_slope and tpr_gap_correlation, of the gap on the group's share of "she" here.

    logits: (examples, classes); labels: (examples,), an index of `groups`; she: (examples,), bool; template: names the set.
    n: examples of the group with the pronoun (for gaps and ratios, with both), and groups for slope and correlation. NaN with
    n = 0: a rate without examples, and a log with fewer than `error_rates.LEAST_FOR_LOGS` examples of either pronoun.
    """
    right = logits.argmax(axis=1) == labels
    measures, gaps, shares = [], list[float](), list[float]()
    for label, group in enumerate(groups):
        members = labels == label
        rows = _by_pronoun(group, right[members & she], right[members & ~she], template)
        measures += rows
        gaps.append(rows[2].value)  # tpr_gap
        shares.append(float(she[members].mean()) if members.any() else math.nan)
    return [*measures, *_against_share(np.array(gaps), np.array(shares), template)]


def _by_pronoun(group: str, she: np.ndarray, he: np.ndarray, template: str) -> list[Measure]:
    """she, he: (examples with the pronoun,), whether each is recalled."""
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
    """Slope and correlation over groups; groups without a gap are left out. gaps, shares: (groups,)."""
    known = ~np.isnan(gaps)
    x, y = shares[known], gaps[known]
    slope = correlation = math.nan
    if len(x) >= LEAST_OCCUPATIONS and x.std() > 0:
        slope = float(np.polyfit(x, y, 1)[0])
        correlation = float(np.corrcoef(x, y)[0, 1]) if y.std() > 0 else math.nan
    return [
        _row("tpr_gap_slope", "", template, slope, len(x)),
        _row("tpr_gap_correlation", "", template, correlation, len(x)),
    ]


def _mean(hits: np.ndarray) -> float:
    return float(hits.mean()) if len(hits) else math.nan


def _row(metric: str, group: str, template: str, value: float, n: int) -> Measure:
    return Measure("downstream", metric, group, template, value, n if value == value else 0)
