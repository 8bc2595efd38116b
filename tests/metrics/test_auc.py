"""AUCs, equality gaps and logit gaps by hand, by brute force, against scikit-learn and scipy, and by their properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score

from bias_transfer.metrics.auc import logit_gaps, rankings

Found = dict[tuple[str, str], tuple[float, int]]

EXAMPLES = st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 1), st.sampled_from("ab-")), min_size=1, max_size=30)
"""(margin, label, group), with many ties; "-" means no group."""


def ranked(margins, labels, groups, least: int = 1, prefix: str = "") -> Found:
    rows = rankings(np.asarray(margins, float), np.asarray(labels), groups, least, prefix)
    return {(row.group, row.metric): (row.value, row.n) for row in rows}


def arrays(examples) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    margins, labels, names = zip(*examples, strict=True)
    groups = {name: np.flatnonzero(np.array(names) == name) for name in "ab"}
    return np.array(margins, float), np.array(labels), groups


def pairs(high: np.ndarray, low: np.ndarray) -> float:
    return float(np.mean([(a > b) + (a == b) / 2 for a in high for b in low])) if len(high) and len(low) else math.nan


def test_rankings_by_hand():
    """The group: a negative at 3, a positive at 1. Its background: negatives at 0 and 2, a positive at 3."""
    found = ranked([3, 1, 0, 2, 3], [0, 1, 0, 0, 1], {"gay": np.array([0, 1])})
    assert found["gay", "subgroup_auc"] == (0, 2)
    assert found["gay", "bpsn_auc"] == (0.5, 1)
    assert found["gay", "bnsp_auc"] == (0.5, 1)
    assert found["gay", "positive_aeg"] == (-0.5, 1)
    assert found["gay", "negative_aeg"] == (0.5, 1)


@given(EXAMPLES)
def test_rankings_by_brute_force(examples):
    margins, labels, groups = arrays(examples)
    found = ranked(margins, labels, groups)
    for group, rows in groups.items():
        inside = np.isin(np.arange(len(labels)), rows)
        low, high = margins[inside & (labels == 0)], margins[inside & (labels == 1)]
        rest_low, rest_high = margins[~inside & (labels == 0)], margins[~inside & (labels == 1)]
        expected = {
            "subgroup_auc": (pairs(high, low), len(low) + len(high)),
            "bpsn_auc": (pairs(rest_high, low), len(low)),
            "bnsp_auc": (pairs(high, rest_low), len(high)),
            "positive_aeg": (pairs(high, rest_high) - 0.5, len(high)),
            "negative_aeg": (pairs(low, rest_low) - 0.5, len(low)),
        }
        for metric, (value, n) in expected.items():
            assert found[group, metric] == (pytest.approx(value, nan_ok=True), 0 if math.isnan(value) else n)


@given(EXAMPLES)
def test_a_monotone_map_changes_nothing(examples):
    margins, labels, groups = arrays(examples)
    assert repr(ranked(margins, labels, groups)) == repr(ranked(np.exp(margins) - 7, labels, groups))


@given(EXAMPLES)
def test_turned_scores_turn_the_results(examples):
    margins, labels, groups = arrays(examples)
    found, turned = ranked(margins, labels, groups), ranked(-margins, labels, groups)
    for (group, metric), (value, n) in found.items():
        expected = -value if metric.endswith("aeg") else 1 - value
        assert turned[group, metric] == (pytest.approx(expected, nan_ok=True), n)


def test_rankings_are_those_of_the_authors_code():
    """The authors' code uses scikit-learn's ROC AUC, and scipy's U of the background against the group."""
    random = np.random.default_rng(1)
    margins, labels = np.round(random.normal(size=500), 1), random.integers(0, 2, 500)
    group = random.random(500) < 0.2
    found = ranked(margins, labels, {"gay": np.flatnonzero(group)})
    chosen = {
        "subgroup_auc": group,
        "bpsn_auc": np.where(labels == 1, ~group, group),
        "bnsp_auc": np.where(labels == 1, group, ~group),
    }
    for metric, own in chosen.items():
        assert found["gay", metric][0] == pytest.approx(roc_auc_score(labels[own], margins[own]))
    for label, metric in enumerate(("negative_aeg", "positive_aeg")):
        background, own = margins[~group & (labels == label)], margins[group & (labels == label)]
        u = mannwhitneyu(background, own, alternative="less").statistic
        assert found["gay", metric][0] == pytest.approx(0.5 - u / (len(background) * len(own)))


def test_groups_may_share_examples():
    margins, labels = [3, 1, 0, 2, 3], [0, 1, 0, 0, 1]
    alone = ranked(margins, labels, {"gay": np.array([0, 1])})
    both = ranked(margins, labels, {"gay": np.array([0, 1]), "old": np.array([1, 2])})
    assert {key: value for key, value in both.items() if key[0] == "gay"} == alone


def test_a_label_with_too_few_examples_is_missing():
    """The group has one positive and two negatives, and at least two are required."""
    found = ranked([3, 1, 0, 2, 3], [0, 1, 0, 0, 1], {"gay": np.array([0, 1, 2])}, least=2, prefix="natural_")
    assert set(found) == {
        ("gay", f"natural_{name}") for name in ("subgroup_auc", "bpsn_auc", "bnsp_auc", "positive_aeg", "negative_aeg")
    }
    for metric in ("subgroup_auc", "bnsp_auc", "positive_aeg"):
        assert math.isnan(found["gay", f"natural_{metric}"][0])
        assert found["gay", f"natural_{metric}"][1] == 0
    assert found["gay", "natural_bpsn_auc"] == (0.75, 2)


def test_logit_gaps_by_hand():
    own = {"gay": np.array([1.0, -1.0]), "old": np.array([2.0]), "deaf": np.array([])}
    found = {row.group: (row.value, row.n) for row in logit_gaps("logit_gap", own, np.array([-1.0, -2.0]))}
    assert found["gay"] == (1.5, 2)
    assert found["old"] == (3.5, 1)
    assert math.isnan(found["deaf"][0])
    assert found["deaf"][1] == 0
    nothing = logit_gaps("logit_gap", own, np.array([]))
    assert all(math.isnan(row.value) and row.n == 0 for row in nothing)
