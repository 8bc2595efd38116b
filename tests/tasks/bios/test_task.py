"""The metrics of BIOS together, on predictions set by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from datasets import Dataset

from bias_transfer.spec import Measure
from bias_transfer.tasks.base import Predicted, Splits
from bias_transfer.tasks.bios.occupations import OCCUPATIONS
from bias_transfer.tasks.bios.synthetic import SyntheticBiosOptions
from bias_transfer.tasks.bios.task import BIOS

NURSE, POET = OCCUPATIONS.index("nurse"), OCCUPATIONS.index("poet")


def test_dataset_metrics_by_hand():
    train = Dataset.from_dict(
        {
            "id": ["1", "2", "3", "4"],
            "text": ["Ms. Day, a nurse, and her cat", "_ is here", "He said she knows", "Nurses"],
            "label": [NURSE, NURSE, POET, NURSE],
            "pronoun": ["she", "she", "he", "he"],
        }
    )
    rows = [row for metric in BIOS.dataset for row in metric(train)]
    found = {(row.metric, row.group): (row.value, row.n) for row in rows}
    assert found["she_share", "nurse"] == (2 / 3, 3)
    assert found["she_share", "poet"] == (0.0, 1)
    assert found["she_share", ""] == (0.5, 4)
    assert found["visible_she_share", "nurse"] == (1.0, 2), "two words"
    assert found["visible_she_share", "poet"] == (0.5, 2)
    assert found["naming_share", "nurse"] == (2 / 3, 3)
    assert found["naming_share", ""] == (0.5, 4)
    for metric in ("she_share", "visible_she_share", "naming_share"):
        value, n = found[metric, "dj"]
        assert math.isnan(value)
        assert n == 0


def splits(names: bool = True) -> Splits:
    """A test set of four nurses and four poets per pronoun."""
    rows = {
        "id": [str(row) for row in range(16)],
        "text": [f"{'She' if row % 2 else 'He'} is Ana, number {row}" for row in range(16)],
        "label": [NURSE] * 8 + [POET] * 8,
        "pronoun": ["she" if row % 2 else "he" for row in range(16)],
    }
    test = Dataset.from_dict(rows | ({"name": ["Ana"] * 16} if names else {}))
    return Splits(test, test, test, ("a",), ("b",))


@pytest.mark.parametrize(("names", "left"), [(True, "_ is _, number 3"), (False, "_ is Ana, number 3")])
def test_the_probe_is_the_scrubbed_test_set(names, left):
    own = splits(names)
    (probe,) = BIOS.probes(own, BIOS.metric_options()).values()
    assert probe["text"][3] == left
    for column in ("id", "label", "pronoun"):
        assert probe[column] == own.test[column]
    assert own.test["text"][3] == "She is Ana, number 3"


@pytest.fixture(scope="module")
def measures() -> list[Measure]:
    """A classifier that misses the he/him nurses in the test set, and nobody in the scrubbed set."""
    own = splits()
    sets = {"dev": own.dev, "test": own.test, **BIOS.probes(own, BIOS.metric_options())}
    predicted = {}
    for name, examples in sets.items():
        labels = np.array(examples["label"])
        missed = (labels == NURSE) & (np.array(examples["pronoun"]) == "he") & (name == "test")
        predicted[name] = Predicted(examples, np.eye(28, dtype=np.float32)[np.where(missed, POET, labels)])
    return [row for metric in BIOS.downstream for row in metric(predicted, BIOS.metric_options())]


def test_recall_by_pronoun_as_it_is_and_scrubbed(measures):
    found = {(row.metric, row.group, row.template): (row.value, row.n) for row in measures}
    assert len(found) == len(measures)
    assert found["tpr_she", "nurse", ""] == (1.0, 4)
    assert found["tpr_he", "nurse", ""] == (0.0, 4)
    assert found["tpr_gap", "nurse", ""] == (1.0, 8)
    assert found["tpr_gap", "poet", ""] == (0.0, 8)
    assert found["tpr_gap", "nurse", "scrubbed"] == (0.0, 8)
    assert found["tpr_gap", "dj", ""][1] == found["log_tpr_ratio", "nurse", ""][1] == 0
    assert found["accuracy", "", ""] == (0.75, 16)


def test_the_task_is_whole():
    assert BIOS.labels == BIOS.groups == OCCUPATIONS
    assert len(BIOS.plant(dict.fromkeys(OCCUPATIONS, 0.5), 60, 0)) == 60
    made = BIOS.load("synthetic", SyntheticBiosOptions(size=280, test_size=280, pretraining_sentences=300))
    assert made.train.column_names == ["id", "text", "label", "pronoun"]
