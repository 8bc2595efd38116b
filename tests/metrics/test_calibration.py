"""Calibration by hand and by its properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logit

from bias_transfer.metrics.calibration import BINS, calibrations


def calibrated(probabilities, labels, groups) -> dict[tuple[str, str], tuple[float, int]]:
    rows = calibrations(logit(np.asarray(probabilities, float)), np.asarray(labels), groups)
    return {(row.group, row.metric): (row.value, row.n) for row in rows}


def test_calibration_by_hand():
    """In the bin of 0.2: mean 0.25, none positive. In the bin of 0.9: mean 0.95, half positive."""
    found = calibrated([0.22, 0.28, 0.94, 0.96, 0.5], [0, 0, 1, 0, 1], {"gay": np.arange(4), "deaf": np.array([], int)})
    assert found["gay", "calibration_error"] == (pytest.approx((2 * 0.25 + 2 * 0.45) / 4), 4)
    assert found["gay", "calibration_gap"] == (pytest.approx(2.4 / 4 - 0.25), 4)
    for metric in ("calibration_error", "calibration_gap"):
        assert math.isnan(found["deaf", metric][0])
        assert found["deaf", metric][1] == 0


def test_errors_of_two_bins_do_not_cancel_but_gaps_do():
    found = calibrated([0.15, 0.85], [1, 0], {"gay": np.arange(2)})
    assert found["gay", "calibration_error"][0] == pytest.approx(0.85)
    assert found["gay", "calibration_gap"][0] == pytest.approx(0)


def test_certainty_is_in_the_last_bin():
    rows = calibrations(np.array([800.0, -800.0]), np.array([1, 0]), {"gay": np.arange(2)}, "natural_")
    assert [(row.metric, row.value) for row in rows] == [
        ("natural_calibration_error", 0), ("natural_calibration_gap", 0),
    ]  # fmt: skip
    error, _ = calibrations(np.array([800.0, logit(0.95)]), np.array([0, 1]), {"gay": np.arange(2)})
    assert error.value == pytest.approx((1 - 0.05) / 2)


@given(st.lists(st.tuples(st.floats(0.001, 0.999), st.integers(0, 1)), min_size=1, max_size=50))
def test_calibration_by_brute_force(examples):
    probabilities, labels = (np.array(values, float) for values in zip(*examples, strict=True))
    margins = logit(probabilities)
    error, gap = calibrations(margins, labels, {"gay": np.arange(len(labels))})
    back = 1 / (1 + np.exp(-margins))  # the edges of bins must see the same rounding
    within = [[i for i, p in enumerate(back) if k / BINS <= p < (k + 1) / BINS] for k in range(BINS)]
    sums = [len(own) * abs(back[own].mean() - labels[own].mean()) for own in within if own]
    if not np.isclose(back * BINS, np.round(back * BINS)).any():
        assert error.value == pytest.approx(sum(sums) / len(labels))
    assert gap.value == pytest.approx(probabilities.mean() - labels.mean())
    assert abs(gap.value) <= error.value + 1e-12 <= 1 + 1e-12
