"""A projection that is folded into the head leaves the classifier's logits as they are, and no weight of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bias_transfer.errors import UserError
from bias_transfer.interventions.upstream import projection
from bias_transfer.models import language_model, plain
from bias_transfer.models.language_model import top


def projected(load, family: str, bias: bool = False):
    """A model with a map that removes half of a direction, or one that also shifts the states, as an affine arm does."""
    model = load(family)
    directions = np.linalg.qr(np.random.default_rng(0).normal(size=(16, 2)))[0].T
    projection.project_out(model, directions, 0.5, True)
    if bias:
        layer = nn.Linear(16, 16)
        layer.weight = top(model).projection.weight
        top(model).projection = layer
    return model


@pytest.mark.parametrize("family", [*language_model.FAMILIES, *language_model.CAUSAL_FAMILIES])
def test_the_classifier_computes_the_same_and_is_an_ordinary_checkpoint(load, outputs, family, tmp_path):
    model, untreated = projected(load, family), load(family)
    before, without = outputs(model)[1], outputs(untreated)[1]
    assert (before - without).abs().max() > 1e-3  # it acts
    projection.fold(model, "leace")
    torch.testing.assert_close(outputs(model)[1], before, atol=1e-5, rtol=0)
    assert projection.inserted(model) is None
    assert not any("projection" in name for name in model.classifier.state_dict())
    assert model.classifier.state_dict().keys() == untreated.classifier.state_dict().keys()
    assert language_model.encoder_digest(model) == language_model.encoder_digest(untreated)
    plain.save_classifier(model, ("a", "b"), 16, tmp_path)


def test_a_shift_goes_into_the_bias_of_the_layer_if_it_has_one(load, outputs):
    model = projected(load, "roberta", bias=True)
    before = outputs(model)[1]
    projection.fold(model, "leace")
    torch.testing.assert_close(outputs(model)[1], before, atol=1e-5, rtol=0)
    with pytest.raises(UserError, match="cannot be folded into the classification head of the family 'llama'"):
        projection.fold(projected(load, "llama", bias=True), "leace")  # its head has no bias


def test_nothing_happens_without_a_projection(load, outputs):
    model = load("bert")
    before = outputs(model)[1]
    projection.fold(model, "leace")
    assert torch.equal(outputs(model)[1], before)
