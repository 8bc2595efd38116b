"""Measures of evaluation sets, on predictions set by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from datasets import Dataset

from bias_transfer.metrics.options import MetricOptions
from bias_transfer.tasks.base import Predicted
from bias_transfer.tasks.custom.task import custom_task
from bias_transfer.tasks.evaluation.measures import measures
from bias_transfer.tasks.evaluation.reading import OTHER, EvaluationSet
from bias_transfer.tasks.registry import TASKS


def predicted(rows, logits) -> Predicted:
    """rows: (label, groups, functionality)."""
    names = ("label", "groups", "functionality")
    columns = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    return Predicted(Dataset.from_dict(columns), np.array(logits, dtype=np.float32))


ROWS = [
    (0, ["a"], "nh"), (0, ["a", "b"], "nh"), (0, [], "nh"), (0, [], "other_nh"), (1, ["a"], "h"), (1, ["b"], "h"),
    (1, ["b"], "h"), (0, ["b"], "other_nh"),
]  # fmt: skip
MARGINS = [1.0, -1.0, -2.0, 3.0, 2.0, -1.5, 4.0, -3.0]
DEV = [(0, [], ""), (0, [], ""), (1, [], ""), (1, [], "")]
DEV_MARGINS = [-4.0, -2.0, -1.2, 5.0]
"""The equal-error threshold is -1.6."""


def found(
    task=TASKS["wiki"], rows=ROWS, logits=tuple((0.0, margin) for margin in MARGINS), groups=("a", "b", "c"), **dev
):
    sets = {"mine": EvaluationSet(Dataset.from_dict({}), groups, tuple(sorted({row[2] for row in rows})), {})}
    of_dev = predicted(DEV, dev.get("dev", [(0.0, margin) for margin in DEV_MARGINS]))
    rows = measures(task, sets, {"mine": predicted(rows, logits), "dev": of_dev}, MetricOptions())
    assert {row.stage for row in rows} == {"downstream"}
    assert len({(row.metric, row.group, row.template) for row in rows}) == len(rows)
    assert all(row.metric.startswith("mine_") for row in rows)
    return {(row.metric.removeprefix("mine_"), row.group): (row.value, row.n) for row in rows if not row.template}


def test_rates_per_group_by_hand():
    """An example of two groups counts in both."""
    values = found()
    assert values["fpr", "a"] == (1 / 2, 2)
    assert values["fpr", "b"] == (0, 2)
    assert values["fpr", ""] == (2 / 5, 5)
    assert values["fnr", "a"] == (0, 1)
    assert values["fnr", "b"] == (1 / 2, 2)
    assert values["accuracy", "a"] == (pytest.approx(2 / 3), 3)
    assert values["accuracy", ""] == (5 / 8, 8)
    assert values["functionality_accuracy", "nh"] == (pytest.approx(2 / 3), 3)
    assert values["functionality_accuracy", "other_nh"] == (1 / 2, 2)
    assert values["functionality_accuracy", "h"] == (pytest.approx(2 / 3), 3)


def test_the_threshold_of_equal_errors_is_the_dev_sets():
    assert found()["fpr_eer", "a"] == (1, 2)  # margins 1 and -1 lie above -1.6
    assert found()["fnr_eer", "b"] == (0, 2)


def test_scores_without_a_threshold():
    values = found()
    assert values["logit_gap", "a"] == (
        pytest.approx((1 - 1) / 2 - (-2 + 3) / 2),
        2,
    )  # to harmless examples of no group
    # 15 pairs of a positive (2, -1.5, 4) and a negative (1, -1, -2, 3, -3): 4 + 2 + 5 in the right order.
    assert values["roc_auc", ""] == (pytest.approx(11 / 15), 8)


def test_a_group_without_examples_is_missing():
    values = found()
    for metric in ("fpr", "fnr", "accuracy", "logit_gap", "subgroup_auc"):
        value, n = values[metric, "c"]
        assert math.isnan(value)
        assert n == 0


def test_with_three_classes_only_the_harmful_one_counts(task_file):
    """A harmless example of an unnamed class is right if it is not called harmful, whichever other class it is given."""
    clubs = custom_task(task_file(classes=["remove", "ask", "keep"], harmful="remove"))
    rows = [(OTHER, ["a"], ""), (OTHER, ["a"], ""), (0, ["a"], "")]
    logits = [[0.0, 2.0, 1.0], [3.0, 2.0, 1.0], [3.0, 0.0, 0.0]]
    values = found(clubs, rows, logits, ("a",), dev=[[0.0, 0.0, 0.0]] * 4)
    assert values["fpr", "a"] == (1 / 2, 2)
    assert values["accuracy", "a"] == (pytest.approx(2 / 3), 3)


def test_a_task_without_a_harmful_class(tmp_path):
    """Accuracy, and recall per class; of biographies also the gap of recall by pronoun."""
    bios = TASKS["bios"]
    rows = [(0, ["she"], ""), (0, ["she"], ""), (0, ["he"], ""), (1, ["he"], "")]
    logits = np.zeros((4, 28))
    logits[[0, 1, 2, 3], [0, 1, 0, 1]] = 1
    values = found(bios, rows, logits, ("he", "she"), dev=np.zeros((4, 28)))
    assert values["accuracy", "she"] == (1 / 2, 2)
    assert values["accuracy", "he"] == (1, 2)
    assert values["tpr_gap", bios.labels[0]] == (-1 / 2, 3)
    assert math.isnan(values["tpr_gap", bios.labels[1]][0])
    others = found(bios, [(label, ["x"], "") for label, *_ in rows], logits, ("x",), dev=np.zeros((4, 28)))
    assert others["accuracy", "x"] == (3 / 4, 4)
    assert ("tpr_gap", bios.labels[0]) not in others
