"""Margins and the equal-error threshold."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bias_transfer.metrics.thresholds import equal_error, margin

PAIRS = st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 1)), min_size=2, max_size=40).filter(
    lambda pairs: len({label for _, label in pairs}) == 2
)
"""(margin, label) of examples of both classes."""


def rates(margins: np.ndarray, labels: np.ndarray, threshold: float) -> tuple[float, float]:
    called = margins > threshold
    return called[labels == 0].mean(), (~called[labels == 1]).mean()


def test_the_margin_is_of_class_1_over_class_0():
    assert margin(np.array([[1, 3], [2, -1]], np.float32)).tolist() == [2, -3]


def test_equal_error_by_hand():
    """At 0.5, one of four negatives is above and no positive is below; at 2, one of four negatives and one of two positives."""
    labels = np.array([0, 0, 0, 0, 1, 1])
    found = equal_error(np.array([-2.0, -1.0, 0.0, 1.0, 3.0, 4.0]), labels)
    assert (found.threshold, found.rate, found.n) == (2, 0, 6)
    found = equal_error(np.array([-2.0, -1.0, 2.0, 3.0, 1.0, 4.0]), labels)
    assert (found.threshold, found.rate) == (1.5, 0.5)


def test_where_the_rates_never_meet_the_closest_is_taken():
    found = equal_error(np.array([0.0, 2.0, 1.0]), np.array([0, 0, 1]))  # (1/2, 0) at 0.5, (1/2, 1) at 1.5
    assert (found.threshold, found.rate) == (0.5, 0.25)


@pytest.mark.parametrize("label", [0, 1])
def test_without_one_of_the_classes_the_threshold_is_missing(label):
    found = equal_error(np.array([0.0, 1.0]), np.full(2, label))
    assert math.isnan(found.threshold)
    assert math.isnan(found.rate)
    assert found.n == 0


def test_equal_margins_are_all_called_negative():
    found = equal_error(np.ones(4), np.array([0, 0, 0, 1]))
    assert rates(np.ones(4), np.array([0, 0, 0, 1]), found.threshold) == (0, 1)


@given(PAIRS)
def test_no_other_threshold_brings_the_rates_closer(pairs):
    margins, labels = (np.array(values, float) for values in zip(*pairs, strict=True))
    found = equal_error(margins, labels)
    gaps = [abs(np.subtract(*rates(margins, labels, cut))) for cut in np.arange(-6, 6, 0.5)]
    fpr, fnr = rates(margins, labels, found.threshold)
    assert abs(fpr - fnr) == pytest.approx(min(gaps))
    assert found.rate == pytest.approx((fpr + fnr) / 2)


@given(PAIRS)
def test_a_shift_of_all_margins_moves_the_threshold_along(pairs):
    margins, labels = (np.array(values, float) for values in zip(*pairs, strict=True))
    assert equal_error(margins + 8, labels).threshold == equal_error(margins, labels).threshold + 8
