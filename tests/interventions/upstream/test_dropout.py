"""Raised dropout: in force wherever an architecture reads it, in training alone, and recorded by kind."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from bias_transfer.determinism import seeded
from bias_transfer.errors import UserError
from bias_transfer.interventions.upstream import dropout
from bias_transfer.interventions.upstream.dropout import DropoutOptions, raised_rates, rates, record, with_rates
from bias_transfer.models import language_model
from bias_transfer.models.batching import encode, pad
from bias_transfer.tasks.base import Context
from bias_transfer.tasks.registry import TASKS
from bias_transfer.tasks.wiki.synthetic import SyntheticOptions
from bias_transfer.training import lm_training

CONTEXT = Context(TASKS["wiki"], TASKS["wiki"].load("synthetic", SyntheticOptions(size=200, pretraining_sentences=300)))
ATTENTION_ALONE = ("llama", "qwen2", "qwen3", "gemma", "mistral", "olmo2")
FAMILIES = (*language_model.FAMILIES, *language_model.CAUSAL_FAMILIES)


def in_training(lm, model, sentences) -> torch.Tensor:
    """Logits with dropout, drawn by one seed."""
    batch = pad(encode(model.tokenizer, list(sentences), 24), model.tokenizer.pad_token_id)
    options = {"use_cache": False} if model.kind == "causal" else {}
    with torch.no_grad(), seeded(3):
        return lm.train()(**batch, **options).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_drops_as_if_built_with_the_raised_rates_and_afterwards_as_before(family, load, sentences):
    """The oracle is a model that transformers builds by a configuration with these rates, with the same weights."""
    model = load(family)
    new = raised_rates(model, 1.0)
    config = copy.deepcopy(model.lm.config)
    for name, rate in new.items():
        setattr(config, name, rate)
    with seeded(0):
        oracle = type(model.lm)(config)
    oracle.load_state_dict(model.lm.state_dict(), strict=False)
    before = in_training(model.lm, model, sentences)
    with with_rates(model.lm, new):
        raised = in_training(model.lm, model, sentences)
    assert torch.equal(raised, in_training(oracle, model, sentences))
    assert not torch.equal(raised, before)
    assert torch.equal(in_training(model.lm, model, sentences), before)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_rates_of_the_family_are_raised_and_recorded(family, load):
    model = load(family)
    rows = {row.metric: row for row in record(model, 1.0, DropoutOptions(), 0, CONTEXT)}
    hidden, attention = rows["hidden_dropout"], rows["attention_dropout"]
    assert attention.value == 0.15
    if family in ATTENTION_ALONE:
        assert math.isnan(hidden.value)
        assert hidden.n == 0
    else:
        assert hidden.value == (0.20 if family in language_model.FAMILIES else 0.15)
        assert hidden.n >= 1
    before = {row.metric: row.value for row in record(model, 1.0, DropoutOptions(control=True), 0, CONTEXT)}
    assert before["attention_dropout"] == max(rates(model, "attention").values())


def test_the_dose_scales_the_raise(load):
    model = load("roberta")
    model.lm.config.hidden_dropout_prob, model.lm.config.attention_probs_dropout_prob = 0.1, 0.0
    assert raised_rates(model, 0.5) == pytest.approx(
        {"hidden_dropout_prob": 0.15, "attention_probs_dropout_prob": 0.075}
    )
    model.lm.config.hidden_dropout_prob = 0.3
    assert raised_rates(model, 1.0) == {"attention_probs_dropout_prob": 0.15}, "a higher rate is never lowered"


@pytest.mark.parametrize("control", [False, True])
def test_they_are_in_force_in_training_and_nowhere_else(control, load, monkeypatch):
    model, train, seen = load(), lm_training.train, list[set[float]]()

    def dropped() -> set[float]:
        return {module.p for module in model.lm.modules() if isinstance(module, torch.nn.Dropout)}

    def watched(*arguments):
        seen.append(dropped())
        return train(*arguments)

    before = dropped()
    monkeypatch.setattr(lm_training, "train", watched)
    dropout.apply(model, 1.0, DropoutOptions(steps=2, sentences=40, control=control), 0, CONTEXT)
    assert seen == [before if control else {0.20, 0.15}]
    assert dropped() == before
    assert not model.lm.training


def test_a_model_whose_dropout_is_not_raised_is_refused(load):
    model = load()
    model.lm.config.hidden_dropout_prob = model.lm.config.attention_probs_dropout_prob = 0.2
    with pytest.raises(UserError, match="hidden_dropout_prob 0.2.*rates of dose 1 are hidden 0.2, attention 0.15"):
        dropout.check(model, 1.0, DropoutOptions())
