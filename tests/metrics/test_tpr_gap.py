"""Recall by pronoun, on predictions set by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bias_transfer.metrics.tpr_gap import true_positives

GROUPS = tuple("abcdefghijkl")


def measured(rows: list[tuple[int, bool, bool, int]], template: str = "") -> dict[tuple[str, str], tuple[float, int]]:
    """rows: (label, she, right, number of examples)."""
    labels = np.array([label for label, _, _, count in rows for _ in range(count)])
    she = np.array([pronoun for _, pronoun, _, count in rows for _ in range(count)])
    right = np.array([hit for _, _, hit, count in rows for _ in range(count)])
    logits = np.zeros((len(labels), len(GROUPS)), np.float32)
    logits[np.arange(len(labels)), np.where(right, labels, (labels + 1) % len(GROUPS))] = 2
    found = true_positives(logits, labels, she, GROUPS, template)
    assert {row.template for row in found} == {template}
    return {(row.metric, row.group): (row.value, row.n) for row in found}


def test_rates_gap_and_ratio_by_hand():
    found = measured([(0, True, True, 150), (0, True, False, 50), (0, False, True, 50), (0, False, False, 50)])
    assert found["tpr_she", "a"] == (0.75, 200)
    assert found["tpr_he", "a"] == (0.5, 100)
    assert found["tpr_gap", "a"] == (0.25, 300)
    assert found["log_tpr_ratio", "a"] == (pytest.approx(math.log(150.5 / 200.5) - math.log(50.5 / 100.5)), 300)


def test_a_ratio_needs_a_hundred_of_each_pronoun_and_a_gap_one():
    found = measured([(0, True, True, 500), (0, False, False, 99), (1, True, True, 3), (1, False, True, 1)])
    assert found["tpr_gap", "a"] == (1.0, 599)
    assert math.isnan(found["log_tpr_ratio", "a"][0])
    assert found["log_tpr_ratio", "a"][1] == 0
    assert found["tpr_gap", "b"] == (0.0, 4)


def test_a_group_without_examples_is_missing():
    found = measured([(0, True, True, 5)], "scrubbed")
    assert found["tpr_she", "a"] == (1.0, 5)
    for metric, group in (("tpr_he", "a"), ("tpr_gap", "a"), ("tpr_she", "b"), ("tpr_gap", "b"), ("tpr_gap_slope", "")):
        assert math.isnan(found[metric, group][0])
        assert found[metric, group][1] == 0


def test_the_gap_against_the_share_of_she():
    """Of 12 groups, number g has 10 (g + 1) she, all found, and 130 - 10 (g + 1) he, of whom one in 13 - g is not."""
    rows = [(g, True, True, 10 * (g + 1)) for g in range(12)]
    rows += [(g, False, hit, count) for g in range(12) for hit, count in ((False, 10), (True, 110 - 10 * g))]
    found = measured(rows)
    shares = np.array([10 * (g + 1) / 130 for g in range(12)])
    gaps = np.array([10 / (120 - 10 * g) for g in range(12)])
    assert [found["tpr_gap", group][0] for group in GROUPS] == pytest.approx(gaps)
    assert found["tpr_gap_correlation", ""] == (pytest.approx(np.corrcoef(shares, gaps)[0, 1]), 12)
    assert found["tpr_gap_slope", ""] == (pytest.approx(np.cov(shares, gaps)[0, 1] / shares.var(ddof=1)), 12)
    few = measured([row for row in rows if row[0] < 9])
    assert math.isnan(few["tpr_gap_slope", ""][0])
    assert few["tpr_gap_slope", ""][1] == 0


def test_gaps_that_do_not_differ_have_no_correlation():
    found = measured([(g, she, True, 5 + g * she) for g in range(12) for she in (True, False)])
    assert found["tpr_gap_slope", ""] == (pytest.approx(0), 12)
    assert math.isnan(found["tpr_gap_correlation", ""][0])
