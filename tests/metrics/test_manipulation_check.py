"""The manipulation check, on states and scores set by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bias_transfer.metrics.manipulation_check import Look, compare

STATES = np.random.default_rng(0).standard_normal((500, 8)) * np.arange(1, 9) + 3


def found(before: Look, after: Look) -> dict[str, float]:
    return {row.metric: row.value for row in compare(before, after)}


def test_an_unchanged_model_has_not_moved():
    before = Look(STATES, {"a": 0.1, "b": 0.2, "c": 0.4})
    assert found(before, before) == {
        "variance_removed": 0, "hidden_shift": 0, "upstream_shift_mean": 0, "upstream_shift_rms": 0,
        "upstream_kept_r": pytest.approx(1),
    }  # fmt: skip


def test_a_direction_projected_out_removes_its_variance():
    projected = STATES.copy()
    projected[:, 7] = 0
    share = STATES[:, 7].var() / STATES.var(axis=0).sum()
    assert found(Look(STATES, {}), Look(projected, {}))["variance_removed"] == pytest.approx(share)


def test_noise_adds_variance():
    noisy = STATES + np.random.default_rng(1).standard_normal(STATES.shape) * 10
    values = found(Look(STATES, {}), Look(noisy, {}))
    assert values["variance_removed"] < 0
    assert values["hidden_shift"] == pytest.approx(800 / STATES.var(axis=0).sum(), rel=0.1)


def test_shifts_of_the_scores_leave_missing_values_out():
    before = Look(STATES, {"a": 0.0, "b": 0.0, "c": 1.0, "d": math.nan})
    after = Look(STATES, {"a": 0.3, "b": -0.3, "c": 1.0, "d": 5.0})
    rows = {row.metric: row for row in compare(before, after)}
    assert rows["upstream_shift_mean"].value == pytest.approx(0)
    assert rows["upstream_shift_rms"].value == pytest.approx(math.sqrt(0.18 / 3))
    assert rows["upstream_shift_rms"].n == 3
    assert rows["upstream_kept_r"].value < 1


def test_without_scores_their_shift_is_missing():
    row = compare(Look(STATES, {}), Look(STATES, {}))[2]
    assert math.isnan(row.value)
    assert row.n == 0
