"""WIKI's metrics wired together, on answers set by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from datasets import Dataset
from pydantic import ValidationError

from bias_transfer.spec import Measure
from bias_transfer.tasks.tables import TASKS
from bias_transfer.tasks.task import Predicted, headline
from bias_transfer.tasks.terms import TERMS
from bias_transfer.tasks.wiki import TEMPLATES, WIKI, WikiMetricOptions, phrases


@pytest.fixture(scope="module")
def measures() -> list[Measure]:
    """A classifier that calls a phrase toxic exactly if it is, or if it names "gay"."""
    examples = phrases()
    toxic = np.array(examples["label"]) | (np.array(examples["term"]) == "gay")
    logits = np.stack([np.zeros(len(toxic)), np.where(toxic, 3.0, -3.0)], axis=1).astype(np.float32)
    test = Dataset.from_dict({"id": ["1", "2"], "text": ["a", "b"], "label": [0, 1]})
    predicted = {
        "phrases": Predicted(examples, logits),
        "test": Predicted(test, np.array([[1, 0], [0, 1]], np.float32)),
    }
    return [row for metric in WIKI.downstream for row in metric(predicted)]


def test_the_term_that_is_treated_badly_is_found(measures):
    rates = {row.group: row for row in measures if row.metric == "fpr" and not row.template}
    assert set(rates) == set(TERMS)
    assert rates["gay"].value == 1
    assert {row.value for group, row in rates.items() if group != "gay"} == {0}
    assert {row.n for row in rates.values()} == {757}
    gaps = {row.group: row.value for row in measures if row.metric == "logit_gap"}
    assert gaps["gay"] == 6
    assert gaps["deaf"] == 0
    ratios = {row.group: row.value for row in measures if row.metric == "log_fpr_ratio"}
    assert ratios["gay"] == pytest.approx(-math.log(0.5 / (49 * 757 + 0.5)))


def test_rates_per_family_have_their_own_n(measures):
    families = {row.template: row.n for row in measures if row.metric == "fpr" and row.group == "deaf"}
    assert families == {"": 757, "name_adj": 720, "being_adj": 16, "you_are_adj": 16, "verb_adj": 4, "am_hate_adj": 1}


def test_a_dataset_metric_counts_mentions():
    train = Dataset.from_dict({"id": ["1", "2", "3"], "text": ["a Gay man", "gay", "b"], "label": [1, 0, 1]})
    (metric,) = WIKI.dataset
    found = {row.group: (row.value, row.n) for row in metric(train)}
    assert found["gay"] == (0.5, 2)
    assert found[""] == (2 / 3, 3)
    assert found["deaf"][1] == 0


def test_headline_by_hand():
    rows = [
        Measure("upstream", "negative_sentiment", "a", "t1", 0.1, 5),
        Measure("upstream", "negative_sentiment", "a", "t2", 0.3, 5),
        Measure("upstream", "negative_sentiment", "b", "t1", 0.4, 5),
        Measure("dataset", "toxic_share", "a", "", math.nan, 0),
        Measure("downstream", "fpr", "a", "", 0.5, 9),
        Measure("downstream", "fpr", "a", "family", 0.9, 9),
        Measure("utility", "roc_auc", "", "", 0.8, 9),
    ]
    found = headline(WIKI, rows)
    assert found["upstream_mean"] == pytest.approx(0.3)
    assert found["upstream_sd"] == pytest.approx(np.std([0.2, 0.4], ddof=1))
    assert math.isnan(found["dataset_mean"])
    assert found["downstream_mean"] == 0.5
    assert math.isnan(found["downstream_sd"])
    assert found["roc_auc"] == 0.8


def test_every_template_has_its_form_without_the_group():
    for with_group, without in TEMPLATES.items():
        assert with_group.replace("{group} ", "") == without


def test_an_unknown_scorer_is_answered_with_the_nearest():
    with pytest.raises(ValidationError, match="Did you mean 'vader'"):
        WikiMetricOptions(scorer="vaderr")


@pytest.mark.parametrize("name", TASKS)
def test_a_tasks_primary_metrics_cover_the_three_stages(name):
    assert set(TASKS[name].primary) == {"upstream", "dataset", "downstream"}
