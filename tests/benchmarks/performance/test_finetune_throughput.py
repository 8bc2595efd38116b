"""The throughput benchmark: Trainer learns and is scored with the right labels, and operations are counted as by hand."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset

from benchmarks.performance import finetune_throughput, trainer
from bias_transfer.errors import UserError
from bias_transfer.spec import Trial

TEXTS = ["a good cat", "a bad dog", "my kind neighbor and her friend", "a terrible person is sad"] * 8
LABELS = [0, 1, 0, 1] * 8


def examples() -> Dataset:
    return Dataset.from_dict({"id": [str(n) for n in range(32)], "text": TEXTS, "label": LABELS})


@pytest.mark.parametrize("best", [False, True])
def test_trainer_learns_and_its_predictions_keep_their_labels(load, best):
    """The tuned Trainer returns predictions in the order of lengths."""
    model = load()
    trial = Trial(batch_size=8, learning_rate=1e-2, max_tokens=16)
    trained = trainer.run(model.classifier, model.tokenizer, examples(), examples(), trial, 40, best)
    assert trained.logits.shape == (32, 2)
    assert finetune_throughput.auc(trained.labels, trained.logits) > 0.95


def test_operations_are_counted_as_by_hand(load):
    """Two layers of width 16, of 4 x 16 x 16 + 2 x 16 x 32 weights each: 2 operations per weight and token, and attention."""
    size = finetune_throughput.Size(2, 16, 340, 1e-3, 0, 0, epochs=5)
    weights = 2 * (4 * 16 * 16 + 2 * 16 * 32)
    short, long = 2 * weights * 3 + 4 * 16 * 2 * 9, 2 * weights * 7 + 4 * 16 * 2 * 49
    assert finetune_throughput.operations(load(), size, [[5] * 3], [[5] * 7]) == 3 * 5 * short + long


def test_the_time_of_a_part_is_scaled_to_the_whole(load, monkeypatch):
    """If an implementation ran only some steps, its time is scaled to all of them."""
    size = finetune_throughput.Size(2, 16, 340, 1e-3, 32, 32, padded_steps=2)
    trained = trainer.Trained(1.0, 3.0, np.zeros((16, 2)), np.zeros(16))
    monkeypatch.setattr(trainer, "run", lambda *given: trained)
    figure = finetune_throughput.peer(load(), examples(), examples(), Trial(), 10, size, best=False)
    assert figure.seconds == 1.0 * 10 / 2 + 3.0 * 32 / 16
    assert np.isnan(figure.auc)


def test_too_few_examples_are_refused():
    with pytest.raises(UserError, match="32 examples, and 33 are needed"):
        finetune_throughput.first(examples(), 33)
