"""`refit` of SentDebias: fine-tuned as with `kept`, and predicted with a subspace of the fine-tuned model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bias_transfer.errors import UserError
from bias_transfer.interventions.upstream import projection, sent_debias
from bias_transfer.interventions.upstream.attribute_states import attribute_states
from bias_transfer.interventions.upstream.sent_debias import SentDebiasOptions, ShamDebiasOptions, subspace
from bias_transfer.models.embeddings import token_states
from bias_transfer.models.language_model import encoder_parameters, top
from bias_transfer.pipeline import refit, run_trial
from bias_transfer.resolved import Places, resolve
from bias_transfer.spec import parse_trial
from bias_transfer.tasks.base import Context
from bias_transfer.tasks.registry import TASKS
from bias_transfer.tasks.wiki.synthetic import SyntheticOptions

CONTEXT = Context(TASKS["wiki"], TASKS["wiki"].load("synthetic", SyntheticOptions(size=200, pretraining_sentences=300)))
SMALL = {
    "data.size": 200, "data.pretraining_sentences": 300, "epochs": 0.5, "max_tokens": 16, "model.steps": 4,
    "model.width": 16, "model.layers": 1, "model.vocabulary": 1200,
}  # fmt: skip


def trained(model) -> None:
    """In the place of fine-tuning: the weights below the projection move."""
    for name, weight in encoder_parameters(model).items():
        if "projection" not in name:
            weight.data.mul_(1.3 if weight.ndim > 1 else 1.0)


@pytest.mark.parametrize(
    ("apply", "options", "words"),
    [
        (sent_debias.debias, SentDebiasOptions(refit=True, components=2), "gender"),
        (sent_debias.sham, ShamDebiasOptions(refit=True, components=2), "neutral"),
    ],
)
def test_the_subspace_of_the_fine_tuned_model_takes_the_place_of_the_old_one(apply, options, words, load, sentences):
    model, plain = load(), load()
    apply(model, 1.0, options, 0, CONTEXT)
    first = top(model).projection.weight.detach().numpy().copy()
    for each in (model, plain):
        trained(each)
    sent_debias.refit(model, 1.0, options, CONTEXT)
    # `plain` has the same weights and no projection: what its states give is what the refit has to find.
    expected = subspace(attribute_states(plain, options, words, CONTEXT), 2)
    states, texts = token_states(plain, list(sentences), 32), list(sentences)
    after = token_states(model, texts, 32)
    np.testing.assert_allclose(after, states - states @ expected.T @ expected, atol=1e-4 * np.abs(states).max())
    assert np.abs(top(model).projection.weight.detach().numpy() - first).max() > 1e-2
    assert not top(model).projection.weight.requires_grad


def test_a_model_is_bypassed_for_the_time_of_the_context_alone(load, sentences):
    model, texts = load(), list(sentences)
    untreated = token_states(model, texts, 32)
    sent_debias.debias(model, 1.0, SentDebiasOptions(), 0, CONTEXT)
    treated = token_states(model, texts, 32)
    with projection.bypassed(model):
        assert np.array_equal(token_states(model, texts, 32), untreated)
    assert np.array_equal(token_states(model, texts, 32), treated)


def test_a_trial_is_fine_tuned_alike_and_predicts_otherwise(tmp_path, few_phrases):
    places = Places(cache=tmp_path, device="cpu")
    first, second = (
        run_trial(parse_trial({**SMALL, "upstream": "sent_debias", **more}), places)
        for more in ({}, {"upstream.refit": True})
    )
    assert second.curve == first.curve
    rows = [{row for row in result.measures if row.value == row.value} for result in (first, second)]  # without NaN
    assert {row.stage for row in rows[0] ^ rows[1]} <= {"downstream", "utility"}
    assert any(row.stage == "downstream" for row in rows[0] ^ rows[1])


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_all_weights_are_handed_on_again_to_be_kept(tuning, load):
    """They were copied from a GPU before the refit; on a CPU they are the model's own. Adapters do not include the layer."""
    model, kept = load(), dict[str, torch.Tensor]()
    sent_debias.debias(model, 1.0, SentDebiasOptions(), 0, CONTEXT)
    trial = parse_trial({**SMALL, "upstream": "sent_debias", "upstream.refit": True, "tuning": tuning})
    refit(resolve(trial), model, CONTEXT.splits, kept.update)
    layers = [value for name, value in kept.items() if name.endswith("projection.weight")]
    assert len(layers) == (tuning == "full")
    assert all(torch.equal(layer, top(model).projection.weight) for layer in layers)


def test_refit_goes_with_kept_and_false_is_the_trial_without_it():
    with pytest.raises(UserError, match="leave out kept=false"):
        resolve(parse_trial({**SMALL, "upstream": "sent_debias", "upstream.refit": True, "upstream.kept": False}))
    ids = [
        resolve(parse_trial({**SMALL, "upstream": "sham_debias", **more})).id
        for more in ({}, {"upstream.refit": False})
    ]
    assert ids[0] == ids[1]
