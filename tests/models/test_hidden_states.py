"""Hidden states at the first token, at the mask and as the mean of a text's own tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bias_transfer.models.hidden_states import framing_ids
from bias_transfer.models.hidden_states import hidden_states

POSITIONS = ("first", "mean", "mask")
TEXTS = [
    "the cat is {mask}.",
    "my neighbor and her good old friend say that every person is {mask} and kind.",
    "{mask} people",
    "the black dog ran after a {mask} cat",
    "she is {mask}.",
]


@pytest.mark.parametrize("family", ["roberta", "bert", "modernbert", "distilbert", "deberta-v2"])
def test_places_by_hand(load, family):
    """Each text alone and unpadded, its places found from the whole sentence."""
    model = load(family)
    found = hidden_states(model, TEXTS, POSITIONS)
    for row, text in enumerate(TEXTS):
        ids = model.tokenizer(text.format(mask=model.tokenizer.mask_token), return_tensors="pt")["input_ids"]
        with torch.no_grad():
            states = model.encoder(input_ids=ids).last_hidden_state[0].double().numpy()
        at = ids[0].tolist().index(model.tokenizer.mask_token_id)
        assert found["first"][row] == pytest.approx(states[0], abs=1e-4)
        assert found["mask"][row] == pytest.approx(states[at], abs=1e-4)
        assert found["mean"][row] == pytest.approx(states[1:-1].mean(axis=0), abs=1e-4)


def test_states_do_not_depend_on_the_batch(load):
    """One text at a time, some at a time with a smaller last batch, all at once: as many, in the same order."""
    model = load()
    alone = hidden_states(model, TEXTS, POSITIONS, batch_tokens=1)
    for batch_tokens in (20, 45, 10**6):
        together = hidden_states(model, TEXTS, POSITIONS, batch_tokens)
        for position in POSITIONS:
            assert together[position].shape == (len(TEXTS), 16)
            assert together[position] == pytest.approx(alone[position], abs=1e-5)
    assert len(np.unique(alone["first"].round(6), axis=0)) == len(TEXTS)


def test_a_state_that_is_not_finite_stays(load):
    model = load()
    with torch.no_grad():
        model.encoder.embeddings.word_embeddings.weight[model.tokenizer("the dog")["input_ids"][2]] = float("nan")
    found = hidden_states(model, TEXTS, POSITIONS)
    for position in POSITIONS:
        assert np.isnan(found[position]).all(axis=1).tolist() == [False, False, False, True, False]


def test_a_text_without_the_place_is_refused(load):
    with pytest.raises(ValueError, match="'mask'"):
        hidden_states(load(), ["the cat is {mask}.", "the cat is."], ["mask"])
    with pytest.raises(ValueError, match="'mean'"):
        hidden_states(load(), [""], ["mean"])


def test_the_mask_and_unknown_words_are_a_part_of_the_text(tokenizer):
    framing = framing_ids(tokenizer)
    assert {tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id} <= framing
    assert not framing & {tokenizer.mask_token_id, tokenizer.unk_token_id}
