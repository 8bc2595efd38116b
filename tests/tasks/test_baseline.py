"""The baseline of a data set is computed once."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset

from bias_transfer.spec import Trial
from bias_transfer.tasks.base import Splits
from bias_transfer.tasks.baseline import roc_auc, tfidf


@pytest.fixture
def splits() -> Splits:
    draw = np.random.default_rng(0)
    labels = [int(label) for label in draw.integers(0, 2, 120)]
    texts = [f"{draw.choice(['bad', 'mean', 'the'] if label else ['good', 'kind', 'the'])} word" for label in labels]
    whole = Dataset.from_dict({"id": list(map(str, range(120))), "text": texts, "label": labels})
    train, test = whole.select(range(80)), whole.select(range(80, 120))
    return Splits(train=train, dev=test, test=test, pretraining=texts, heldout=texts)


def test_the_cached_baseline_is_the_computed_one_and_of_the_same_data(splits, tmp_path):
    loads = []

    def load() -> Splits:
        loads.append(None)
        return splits

    trial = Trial(data_digest="d", model_digest="m")
    (row,) = (row for row in tfidf(splits) if row.metric == "roc_auc")
    assert 0.5 < row.value < 1
    alike = trial.with_fields(seed=3, upstream="perturb", upstream_dose=0.5)
    assert [roc_auc(one, load, tmp_path) for one in (trial, trial, alike)] == [(row.value, row.n)] * 3
    assert len(loads) == 1
    (tmp_path / "file").touch()
    assert roc_auc(trial, load, tmp_path / "file") == (row.value, row.n)
    loads.pop()
    others = trial.with_fields(data_digest="e"), trial.with_fields(options={"data.size": 300})
    assert [roc_auc(one, load, tmp_path) for one in others] == [(row.value, row.n)] * 2
    assert len(loads) == 3
