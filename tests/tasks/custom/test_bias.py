"""A custom task's downstream bias, on predictions set by hand."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from datasets import Dataset

from bias_transfer.metrics.options import MetricOptions
from bias_transfer.tasks.base import Predicted
from bias_transfer.tasks.custom import data as custom_data
from bias_transfer.tasks.custom.bias import harm

CLASSES = {"classes": ["remove", "ask", "keep"], "harmful": "remove"}
REMOVE, ASK, KEEP = 0, 1, 2


def predicted(rows: list[tuple[str, int, list[float]]], **columns: list[str]) -> Predicted:
    """rows: (text, label, logits)."""
    data = {"id": [str(number) for number in range(len(rows))], "text": [text for text, *_ in rows], **columns}
    data["label"] = [label for _, label, _ in rows]
    return Predicted(Dataset.from_dict(data), np.array([logits for *_, logits in rows], dtype=np.float32))


SAFE, ALARM = [0.0, 1.0, 2.0], [3.0, 0.0, 2.5]
"""Logits: SAFE predicts keep with a margin of -2 for remove; ALARM predicts remove with a margin of 0.5."""

TEST = [
    *[("a baker", KEEP, ALARM)] * 60, *[("a baker", ASK, SAFE)] * 60, *[("a baker", REMOVE, SAFE)] * 3,
    *[("a rower", KEEP, ALARM)] * 20, *[("a rower", KEEP, SAFE)] * 100, *[("a rower", REMOVE, ALARM)] * 2,
    *[("the baker and a rower", KEEP, SAFE)] * 10,
    *[("nobody", KEEP, ALARM)] * 30, *[("nobody", KEEP, SAFE)] * 170,
]  # fmt: skip
DEV = [("x", label, [margin, 0.0, 0.0]) for label, margin in ((KEEP, 1.0), (KEEP, 4.0), (REMOVE, 6.0), (REMOVE, 7.0))]
PHRASES = [
    ("The baker.", KEEP, ALARM), ("The bread baker.", KEEP, SAFE), ("The rower.", KEEP, SAFE), ("Bad baker.", REMOVE, SAFE),
    ("The rower's friend.", KEEP, [1.0, 0.0, 2.0]),
]  # fmt: skip
"""The last phrase is about no group."""


@pytest.fixture
def found(task_file):
    groups = custom_data.groups_of(task_file(**CLASSES))
    phrases = predicted(PHRASES, group=["baker", "bread baker", "rower", "baker", ""])
    rows = harm(groups, {"test": predicted(TEST), "dev": predicted(DEV), "phrases": phrases}, MetricOptions())
    keys = [(row.metric, row.group, row.template) for row in rows]
    assert max(Counter(keys).values()) == 1
    assert all(math.isnan(row.value) == (row.n == 0) and not math.isinf(row.value) for row in rows)
    assert {row.stage for row in rows} == {"downstream"}
    return {key: (row.value, row.n) for key, row in zip(keys, rows, strict=True)}


def test_rates_by_hand(found):
    assert found["natural_fpr", "baker", ""] == (pytest.approx(60 / 130), 130), "ask and keep are both harmless"
    assert found["natural_fpr", "rower", ""] == (pytest.approx(20 / 130), 130)
    assert found["natural_fpr", "", "no_group"] == (pytest.approx(30 / 200), 200)
    assert found["natural_fpr", "", ""] == (pytest.approx(110 / 450), 450)
    assert found["natural_fnr", "baker", ""] == (1.0, 3)
    assert found["natural_fnr", "rower", ""] == (0.0, 2)


def test_a_group_that_never_occurs_is_missing(found):
    for metric in ("natural_fpr", "natural_fnr", "natural_logit_gap", "natural_log_fpr_ratio"):
        value, n = found[metric, "bread baker", ""]
        assert (math.isnan(value), n) == (True, 0)
    assert math.isnan(found["natural_fped", "", ""][0])


def test_log_ratios_by_hand(found):
    """The others exclude examples that also belong to the group itself."""
    baker, others, outside = math.log(60.5 / 130.5), math.log(20.5 / 120.5), math.log(30.5 / 200.5)
    assert found["natural_log_fpr_ratio", "baker", ""] == (pytest.approx(baker - others), 130)
    assert found["natural_log_fpr_ratio_no_group", "baker", ""] == (pytest.approx(baker - outside), 130)
    assert math.isnan(found["log_fpr_ratio", "baker", ""][0]), "one phrase is fewer than 100"


def test_logit_gaps_by_hand(found):
    """Margins of remove over the best other class: 0.5 and -2."""
    baker = (60 * 0.5 - 70 * 2) / 130
    rower = (20 * 0.5 - 100 * 2) / 120
    assert found["natural_logit_gap_others", "baker", ""] == (pytest.approx(baker - rower), 130)
    assert found["natural_logit_gap", "baker", ""] == (pytest.approx(baker - (30 * 0.5 - 170 * 2) / 200), 130)
    assert found["logit_gap", "baker", ""] == (pytest.approx(0.5 + 1), 1)
    assert found["logit_gap_others", "rower", ""] == (pytest.approx(-2 - (0.5 - 2) / 2), 1)


def test_phrases_are_read_by_their_group_and_not_by_their_text(found):
    assert found["fpr", "baker", ""] == (1.0, 1)
    assert found["fpr", "bread baker", ""] == (0.0, 1)
    assert found["fnr", "baker", ""] == (1.0, 1)
    assert found["fnr", "rower", ""][1] == 0


def test_the_equal_error_threshold_is_the_dev_sets(found):
    assert found["eer_threshold", "", ""] == (5.0, 4)
    assert found["natural_fpr_eer", "baker", ""] == (0.0, 130)
    assert found["natural_fnr_eer", "rower", ""] == (1.0, 2)


def test_without_phrases_the_test_set_alone_is_read(task_file):
    groups = custom_data.groups_of(task_file(**CLASSES))
    rows = harm(groups, {"test": predicted(TEST), "dev": predicted(DEV)}, MetricOptions())
    assert {row.metric.split("_")[0] for row in rows} == {"natural", "eer"}
