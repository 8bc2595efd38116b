"""Vectors of texts and of tokens: the right tokens are read, and the other texts of a batch change nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bias_transfer.models import language_model
from bias_transfer.models.batching import encode
from bias_transfer.models.embeddings import embeddings, framing_ids, hidden_states, token_states


@pytest.mark.parametrize("position", ["mean", "classifier"])
def test_embeddings_keep_the_order_and_do_not_depend_on_the_batch(load, sentences, position):
    model, texts = load(), list(sentences) * 60
    together = embeddings(model, texts, position, 64)
    assert together.shape == (len(texts), 16)
    alone = np.concatenate([embeddings(model, [text], position, 64) for text in texts[:6]])
    assert np.abs(together[:6] - alone).max() < 1e-5
    assert np.abs(together[6:12] - alone).max() < 1e-5
    assert np.abs(alone - alone[::-1]).max() > 0.1


def test_a_head_that_pools_by_mean_reads_every_token_of_its_text(load, sentences):
    """Special tokens included, padding and other texts not."""
    model, texts = load("modernbert"), list(sentences)
    model.encoder.config.classifier_pooling = "mean"
    counts = [len(row) for row in encode(model.tokenizer, texts, 64)]
    states = token_states(model, texts, 64)
    assert len(states) == sum(counts)
    means = [part.mean(axis=0) for part in np.split(states, np.cumsum(counts)[:-1])]
    assert np.abs(embeddings(model, texts, "classifier", 64) - means).max() < 1e-5


def test_there_is_one_mean_which_leaves_out_the_special_tokens(load, sentences):
    """An intervention that is computed from means, and a measure that reads them, mean the same states."""
    model, texts = load(), list(sentences)
    inner = embeddings(model, texts, "mean", 512)
    assert np.array_equal(inner, hidden_states(model, texts, ["mean"])["mean"])
    counts = [len(row) for row in encode(model.tokenizer, texts, 512)]
    edges = [part[[0, -1]].sum(axis=0) for part in np.split(token_states(model, texts, 512), np.cumsum(counts)[:-1])]
    sums = [part.sum(axis=0) for part in np.split(token_states(model, texts, 512), np.cumsum(counts)[:-1])]
    by_hand = [(total - edge) / (count - 2) for total, count, edge in zip(sums, counts, edges, strict=True)]
    assert np.abs(inner - by_hand).max() < 1e-4


@pytest.mark.parametrize("family", language_model.FAMILIES)
def test_the_classifier_position_is_the_first_token_unless_the_head_pools_by_mean(family, load, sentences):
    model = load(family)
    mean = getattr(model.classifier.config, "classifier_pooling", "") == "mean"
    read = embeddings(model, list(sentences), "classifier", 64)
    first = embeddings(model, list(sentences), "first", 64)
    assert (np.abs(read - first).max() > 1e-9) == mean


def test_braces_in_a_text_are_text(load):
    (one,), (other,) = (embeddings(load(), [text], "mean", 64) for text in ("the {} cat", "the {cat"))
    assert np.isfinite([one, other]).all()


POSITIONS = ("first", "mean", "mask")
TEXTS = [
    "the cat is {mask}.",
    "my neighbor and her good old friend say that every person is {mask} and kind.",
    "{mask} people",
    "the black dog ran after a {mask} cat",
    "she is {mask}.",
]


@pytest.mark.parametrize("family", ["roberta", "bert", "modernbert", "distilbert", "deberta-v2"])
def test_positions_by_hand(load, family):
    """Each text alone and unpadded, its tokens found in the whole sentence."""
    model = load(family)
    vectors = hidden_states(model, TEXTS, POSITIONS)
    for row, text in enumerate(TEXTS):
        ids = model.tokenizer(text.format(mask=model.tokenizer.mask_token), return_tensors="pt")["input_ids"]
        with torch.no_grad():
            states = model.encoder(input_ids=ids).last_hidden_state[0].double().numpy()
        masked = ids[0].tolist().index(model.tokenizer.mask_token_id)
        assert vectors["first"][row] == pytest.approx(states[0], abs=1e-4)
        assert vectors["mask"][row] == pytest.approx(states[masked], abs=1e-4)
        assert vectors["mean"][row] == pytest.approx(states[1:-1].mean(axis=0), abs=1e-4)


def test_hidden_states_keep_the_order_and_do_not_depend_on_the_batch(load):
    """One text per batch, a few with a smaller last batch, and all at once."""
    model = load()
    alone = hidden_states(model, TEXTS, POSITIONS, batch_tokens=1)
    for batch_tokens in (20, 45, 10**6):
        together = hidden_states(model, TEXTS, POSITIONS, batch_tokens)
        for position in POSITIONS:
            assert together[position].shape == (len(TEXTS), 16)
            assert together[position] == pytest.approx(alone[position], abs=1e-5)
    assert len(np.unique(alone["first"].round(6), axis=0)) == len(TEXTS)


def test_a_state_that_is_not_finite_is_returned_and_spreads_to_no_other_text(load):
    model = load()
    with torch.no_grad():
        model.encoder.embeddings.word_embeddings.weight[model.tokenizer("the dog")["input_ids"][2]] = float("nan")
    vectors = hidden_states(model, TEXTS, POSITIONS)
    for position in POSITIONS:
        assert np.isnan(vectors[position]).all(axis=1).tolist() == [False, False, False, True, False]


def test_a_text_without_a_token_at_the_position_is_refused(load):
    with pytest.raises(ValueError, match="'mask'"):
        hidden_states(load(), ["the cat is {mask}.", "the cat is."], ["mask"])
    with pytest.raises(ValueError, match="'mean'"):
        hidden_states(load(), [""], ["mean"])


def test_the_mask_and_unknown_words_are_a_part_of_the_text(tokenizer):
    framing = framing_ids(tokenizer)
    assert {tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id} <= framing
    assert not framing & {tokenizer.mask_token_id, tokenizer.unk_token_id}
