"""The last layer on first tokens alone: the same logits and gradients, and the model is then as it was."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

from bias_transfer.models.batching import encode, pad
from bias_transfer.models.language_model import FAMILIES, top
from bias_transfer.training import speedups
from bias_transfer.training.speedups import BEFORE_FEED_FORWARD, first_token

TEXTS = ["the cat sat on the mat", "a bad dog", "people are kind"]


def forward(model, context) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Logits, and the gradients of a loss of them, of one padded batch."""
    batch = pad(encode(model.tokenizer, TEXTS, 16), model.tokenizer.pad_token_id)
    with context:
        logits = model.classifier.eval()(**batch).logits
        torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 1])).backward()
    weights = dict(model.classifier.named_parameters())
    return logits.detach(), {name: weight.grad for name, weight in weights.items() if weight.grad is not None}


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_and_gradients_are_the_same(load, family):
    logits, gradients = forward(load(family), nullcontext())
    model = load(family)
    own_logits, own_gradients = forward(model, first_token(model))
    torch.testing.assert_close(own_logits, logits, atol=1e-5, rtol=0)
    assert own_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(own_gradients[name], gradient, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_layer_is_cut_within_and_whole_afterwards(load, family):
    model, lengths = load(family), []
    hook = top(model).register_forward_hook(
        lambda part, given, out: lengths.append((out[0] if isinstance(out, tuple) else out).shape[-2])
    )
    forward(model, first_token(model))
    forward(model, nullcontext())
    hook.remove()
    assert (lengths[0] == 1) == (family in BEFORE_FEED_FORWARD)
    assert lengths[1] > 1


def test_another_token_gives_other_logits(load, monkeypatch):
    """The control of the first test."""
    logits, _ = forward(load(), nullcontext())
    monkeypatch.setattr(speedups, "_first", lambda part, given, output: (output[0][:, 1:2], *output[1:]))
    model = load()
    assert (forward(model, first_token(model))[0] - logits).abs().max() > 1e-3
