"""The metrics of WIKI together, on predictions set by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from datasets import Dataset
from pydantic import ValidationError

from bias_transfer.spec import Measure
from bias_transfer.tasks.base import headline
from bias_transfer.tasks.registry import TASKS
from bias_transfer.tasks.wiki.task import TEMPLATES, WIKI


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


def test_an_unknown_scorer_is_reported_with_the_nearest_name():
    with pytest.raises(ValidationError, match="Did you mean 'vader'"):
        WIKI.metric_options(scorer="vaderr")


@pytest.mark.parametrize("name", TASKS)
def test_a_tasks_primary_metrics_cover_the_three_stages(name):
    assert set(TASKS[name].primary) == {"upstream", "dataset", "downstream"}
