"""Separation and sufficiency, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bias_transfer.metrics.options import BiosOptions, MetricOptions
from bias_transfer.metrics.separation import separation
from bias_transfer.resolved import resolve
from bias_transfer.spec import parse_trial
from bias_transfer.tasks.registry import TASKS


def found(rows: list[tuple[int, int, bool]], classes=("a", "b", "c")):
    """rows: (label, prediction, she)."""
    labels, predicted, she = (np.array(column) for column in zip(*rows, strict=True))
    measures = separation(predicted, labels, (she, ~she), classes, "set")
    assert {row.stage for row in measures} == {"downstream"}
    assert {row.template for row in measures} == {"set"}
    return {(row.metric, row.group): (row.value, row.n) for row in measures}


SHE, HE = True, False


def test_distances_by_hand():
    """Class a: she is always found, he in 1 of 2: P(prediction | a) is (3/4, 1/4), she (1, 0), he (1/2, 1/2), each 1/4 off."""
    rows = [(0, 0, SHE), (0, 0, SHE), (0, 0, HE), (0, 1, HE), (1, 1, SHE), (1, 1, HE)]
    values = found(rows)
    assert values["separation_gap", "a"] == (1 / 4, 4)
    assert values["separation_gap", "b"] == (0, 2)
    assert values["separation_gap", ""] == (1 / 8, 6)
    # Of what is called b (3), she is b for sure, he in 1 of 2: P(y | b) = (1/3, 2/3), she (0, 1), he (1/2, 1/2).
    assert values["sufficiency_gap", "b"] == (pytest.approx((1 / 3 + 1 / 6) / 2), 3)
    assert values["sufficiency_gap", "a"] == (0, 3)


def test_groups_of_different_size_are_weighed_alike():
    """Three of her, one of him: the whole is (3/4, 1/4), so that she is 1/4 off and he 3/4."""
    values = found([(0, 0, SHE)] * 3 + [(0, 1, HE)])
    assert values["separation_gap", "a"] == (1 / 2, 4)


def test_a_class_without_one_of_the_groups_is_missing():
    values = found([(0, 0, SHE), (0, 0, HE), (1, 1, SHE)])
    for key in (("separation_gap", "b"), ("separation_gap", "c"), ("sufficiency_gap", "c")):
        assert math.isnan(values[key][0])
        assert values[key][1] == 0
    assert values["separation_gap", ""] == (0, 2)
    assert math.isnan(found([(0, 0, SHE)])["separation_gap", ""][0])


def test_it_does_not_depend_on_the_order_of_the_classes():
    """Numbers of classes are names: with |i - j| as the distance, a permutation would change it."""
    draw = np.random.default_rng(0)
    labels, predicted, she = draw.integers(0, 5, 400), draw.integers(0, 5, 400), draw.random(400) < 0.4
    order = draw.permutation(5)
    first = separation(predicted, labels, (she, ~she), list("abcde"), "")
    second = separation(order[predicted], order[labels], (she, ~she), list("abcde"), "")
    assert sorted(row.value for row in first) == pytest.approx(sorted(row.value for row in second))


def test_only_bios_has_it_and_only_if_asked():
    ids = {resolve(parse_trial({"task": "bios", **options})).id for options in ({}, {"metric.separation": False})}
    assert len(ids) == 1
    assert resolve(parse_trial({"task": "bios", "metric.separation": True})).id not in ids
    assert TASKS["bios"].metric_options is BiosOptions
    assert "separation" not in MetricOptions.model_fields
