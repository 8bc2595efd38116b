"""Keys and values that texts share: answers are those of the plain forward pass, and what is shared is read once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bias_transfer.errors import UserError
from bias_transfer.models import continuations, language_model

BEGINNING = [0, 12, 40, 77, 31, 9, 118]
ROWS = [[15, 60], [200, 7, 8, 30], [61], [15, 61], [9, 9, 9, 9], [33, 34]]
TAILS = [(50,), (51, 52), (51, 53, 54, 55), (7, 7)]


def plainly(lm) -> np.ndarray:
    """The same by one forward pass per text and tail."""
    found = np.empty((len(ROWS), len(TAILS)))
    for place, row in enumerate(ROWS):
        for number, tail in enumerate(TAILS):
            whole = torch.tensor([[*BEGINNING, *row, *tail]])
            with torch.no_grad():
                log_p = lm(whole, use_cache=False).logits[0].log_softmax(dim=-1)
            places = range(whole.shape[1] - len(tail) - 1, whole.shape[1] - 1)
            found[place, number] = sum(float(log_p[at, token]) for at, token in zip(places, tail, strict=True))
    return found


@pytest.mark.parametrize("family", language_model.CAUSAL_FAMILIES)
def test_they_are_those_of_the_plain_forward_pass(family, load, monkeypatch):
    lm = load(family).lm
    expected = plainly(lm)
    assert np.ptp(expected, axis=0).min() > 0.1, "the row matters"
    for tokens, logits in ((1000, 2**24), (3, 1), (8, 3000)):
        monkeypatch.setattr(continuations, "LOGITS", logits)
        found = continuations.log_likelihoods(lm, continuations.read(lm, BEGINNING), ROWS, TAILS, tokens)
        np.testing.assert_allclose(found, expected, atol=1e-4)
    other = continuations.read(lm, [*BEGINNING[:-1], BEGINNING[-1] + 1])
    assert abs(continuations.log_likelihoods(lm, other, ROWS, TAILS, 1000) - expected).max() > 1e-2


def test_the_beginning_is_read_once_and_each_row_once_for_all_tails(load):
    lm, read = load("llama").lm, list[int]()
    lm.get_input_embeddings().register_forward_hook(lambda part, inputs, output: read.append(inputs[0].numel()))
    continuations.log_likelihoods(lm, continuations.read(lm, BEGINNING), ROWS, TAILS, 1000)
    rest = len(TAILS[1:]) * (max(map(len, TAILS)) - 1)  # the last token of a tail is never read
    assert sum(read) == len(BEGINNING) + sum(map(len, ROWS)) + len(ROWS) * rest


class Forgetful:
    """Takes what follows a cached beginning for the beginning."""

    def __init__(self, lm):
        self.lm, self.device, self.config = lm, lm.device, lm.config

    def __call__(self, ids, past_key_values=None, **options):
        if past_key_values is not None:
            options["position_ids"] = torch.arange(ids.shape[1])[None]
        return self.lm(ids, past_key_values=past_key_values, **options)


def test_a_model_that_answers_otherwise_with_reused_keys_and_values_is_refused(load):
    lm = load("gpt2").lm
    continuations.check(lm, "gpt2")
    stranger = Forgetful(lm)
    with pytest.raises(UserError, match="family 'stranger' does not answer alike .* nats with them"):
        continuations.check(stranger, "stranger")
    del stranger.config
    with pytest.raises(UserError, match="no attribute 'config'.* Allowed for it: full, frozen, lora"):
        continuations.check(stranger, "stranger")
