"""A trial and its measures, made by hand."""

import math

import pandas as pd
import pytest

from bias_transfer.spec import Trial

COLUMNS = ["trial", "stage", "metric", "group", "template", "value", "n"]

ROWS = [
    ("upstream", "negative_sentiment", "a", "t1", 0.1, 10),
    ("upstream", "negative_sentiment", "a", "t2", 0.3, 10),
    ("upstream", "negative_sentiment", "b", "t1", -0.2, 10),
    ("upstream", "negative_sentiment", "b", "t2", math.nan, 0),
    ("upstream", "masked_lm_loss", "", "", 3.0, 99),
    ("dataset", "toxic_share", "a", "", 0.25, 20),
    ("dataset", "toxic_share", "b", "", math.nan, 0),
    ("downstream", "fpr", "a", "", 0.5, 757),
    ("downstream", "fpr", "a", "hate", 1.0, 1),
    ("downstream", "fpr", "b", "", 0.0, 757),
    ("downstream", "fpr", "b", "hate", 0.0, 1),
]


@pytest.fixture
def primary():
    return {"wiki": {"upstream": "negative_sentiment", "dataset": "toxic_share", "downstream": "fpr"}}


@pytest.fixture
def rows():
    """What every trial measures: (stage, metric, group, template, value, n)."""
    return list(ROWS)


@pytest.fixture
def new_trial():
    """(fields) -> a trial on data and a model that do not exist."""
    return lambda **fields: Trial(data="some/where", data_digest="d", model_digest="m", **fields)


@pytest.fixture
def measured():
    """(trials, rows) -> the measures of these trials, each of which measured the rows."""

    def build(trials, rows=ROWS):
        return pd.DataFrame([(trial.id, *row) for trial in trials for row in rows], columns=COLUMNS)

    return build
