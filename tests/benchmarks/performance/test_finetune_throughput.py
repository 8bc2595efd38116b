"""The throughput benchmark: the peer learns and is scored on its own labels, and the limit is counted as by hand."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset

from benchmarks.performance import finetune_throughput
from benchmarks.performance import trainer
from bias_transfer.spec import Trial
from bias_transfer.errors import UserError

TEXTS = ["a good cat", "a bad dog", "my kind neighbor and her friend", "a terrible person is sad"] * 8
LABELS = [0, 1, 0, 1] * 8


def examples() -> Dataset:
    return Dataset.from_dict({"id": [str(n) for n in range(32)], "text": TEXTS, "label": LABELS})


@pytest.mark.parametrize("best", [False, True])
def test_trainer_learns_and_its_predictions_keep_their_labels(load, best):
    """At its best it predicts in the order of lengths."""
    model = load()
    own = Trial(batch_size=8, learning_rate=1e-2, max_tokens=16)
    told = trainer.run(model.classifier, model.tokenizer, examples(), examples(), own, 40, best)
    assert told.logits.shape == (32, 2)
    assert finetune_throughput.auc(told.labels, told.logits) > 0.95


def test_the_limit_by_hand(load):
    """Two layers of width 16, of 4 x 16 x 16 + 2 x 16 x 32 weights each: 2 operations a weight and token, and attention's."""
    size = finetune_throughput.Size(2, 16, 340, 1e-3, 0, 0, epochs=5)
    weights = 2 * (4 * 16 * 16 + 2 * 16 * 32)
    one, two = 2 * weights * 3 + 4 * 16 * 2 * 9, 2 * weights * 7 + 4 * 16 * 2 * 49
    assert finetune_throughput.operations(load(), size, [[5] * 3], [[5] * 7]) == 3 * 5 * one + two


def test_every_side_has_the_same_work(load, monkeypatch):
    """What is told of a side that ran a part is scaled to all: twice the steps, twice the time."""
    size = finetune_throughput.Size(2, 16, 340, 1e-3, 32, 32, padded_steps=2)
    told = trainer.Trained(1.0, 3.0, np.zeros((16, 2)), np.zeros(16))
    monkeypatch.setattr(trainer, "run", lambda *given: told)
    figure = finetune_throughput.peer(load(), examples(), examples(), Trial(), 10, size, best=False)
    assert figure.seconds == 1.0 * 10 / 2 + 3.0 * 32 / 16
    assert np.isnan(figure.auc)


def test_too_few_examples_are_refused():
    with pytest.raises(UserError, match="32 examples, and 33 are needed"):
        finetune_throughput.first(examples(), 33)
