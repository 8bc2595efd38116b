"""One vector a text, whatever stands beside it in a batch."""

from __future__ import annotations

import numpy as np
import pytest

from bias_transfer.models import language_model
from bias_transfer.models.batching import encode
from bias_transfer.models.embeddings import embeddings
from bias_transfer.models.embeddings import token_states


@pytest.mark.parametrize("position", ["mean", "classifier"])
def test_embeddings_do_not_depend_on_the_batch_and_keep_the_order(load, sentences, position):
    model, texts = load(), list(sentences) * 60
    together = embeddings(model, texts, position, 64)
    assert together.shape == (len(texts), 16)
    alone = np.concatenate([embeddings(model, [text], position, 64) for text in texts[:6]])
    assert np.abs(together[:6] - alone).max() < 1e-5
    assert np.abs(together[6:12] - alone).max() < 1e-5
    assert np.abs(alone - alone[::-1]).max() > 0.1


def test_the_mean_is_over_the_texts_own_tokens(load, sentences):
    model, texts = load(), list(sentences)
    counts = [len(row) for row in encode(model.tokenizer, texts, 64)]
    states = token_states(model, texts, 64)
    assert len(states) == sum(counts)
    means = [part.mean(axis=0) for part in np.split(states, np.cumsum(counts)[:-1])]
    assert np.abs(embeddings(model, texts, "mean", 64) - means).max() < 1e-5


@pytest.mark.parametrize("family", language_model.FAMILIES)
def test_the_classifier_reads_that_position(family, load, outputs, sentences):
    """A change of the hidden states there alone changes the classifier's answer; elsewhere it does not."""
    model = load(family)
    mean = getattr(model.classifier.config, "classifier_pooling", "") == "mean"
    first = embeddings(model, list(sentences), "classifier", 64)
    other = embeddings(model, list(sentences), "mean", 64)
    assert (np.abs(first - other).max() < 1e-9) == mean
