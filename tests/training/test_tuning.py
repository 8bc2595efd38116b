"""What each tuning trains and what it leaves, on every family; adapters end in the encoder that both heads read."""

from __future__ import annotations

import types

import numpy as np
import pytest
import torch

from bias_transfer.errors import UserError
from bias_transfer.interventions.registry import UPSTREAM
from bias_transfer.interventions.upstream.projection import project_out
from bias_transfer.models import language_model
from bias_transfer.models.batching import encode
from bias_transfer.resolved import resolve
from bias_transfer.spec import Trial, parse, parse_trial
from bias_transfer.training import finetune, tuning
from bias_transfer.training.sampling import Untreated

TEXTS = ["a good cat", "a bad dog", "my kind neighbor and her friend", "a terrible person is sad"] * 4
LABELS = [0, 1, 0, 1] * 4
NAMES = [str(number) for number in range(16)]
PARTIAL = ("frozen", "lora")


def make_trial(name: str | None, **changes) -> Trial:
    options = {"tuning.rank": 2} if name == "lora" else {}
    fields = {"batch_size": 8, "learning_rate": 1e-2, "max_tokens": 16, "tuning": name, "options": options}
    return Trial(**{**fields, **changes})


def settings(trial: Trial) -> finetune.Settings:
    kind = tuning.TUNING[trial.tuning or "full"]
    return finetune.Settings(trial, parse(kind, trial.options_of("tuning"), "tuning."))


def adapted(model, trial: Trial):
    return tuning.trainable(model, settings(trial).tuning, trial)


def fit(model, trial: Trial, steps: int = 6) -> np.ndarray:
    rows = encode(model.tokenizer, TEXTS, trial.max_tokens)
    finetune.finetune(
        model,
        finetune.TrainingData(rows, LABELS, NAMES, steps, Untreated(NAMES, [*map(len, rows)])),
        settings(trial),
        finetune.Runtime(),
    )
    return finetune.predict(model, rows, trial, "cpu")


def weights(module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.named_parameters()}


def changed(before: dict[str, torch.Tensor], module) -> set[str]:
    after = weights(module)
    assert list(before) == list(after), "no adapter is left behind, and nothing is renamed"
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


def of_the_head(model, name: str) -> bool:
    return name.removeprefix(f"{model.classifier.base_model_prefix}.") not in language_model.encoder_parameters(model)


@pytest.mark.parametrize("family", language_model.FAMILIES)
def test_frozen_trains_the_head_and_not_a_bit_of_the_encoder(family, load):
    model = load(family)
    before, digest = weights(model.classifier), language_model.encoder_digest(model)
    fit(model, make_trial("frozen"))
    assert language_model.encoder_digest(model) == digest
    trained = changed(before, model.classifier)
    assert trained == {name for name in before if of_the_head(model, name)}
    assert trained


@pytest.mark.parametrize("family", language_model.FAMILIES)
def test_full_changes_the_encoder(family, load):
    """The control of the test above; and that it is what a trial does that says nothing."""
    one, other = load(family), load(family)
    digest = language_model.encoder_digest(one)
    first, second = fit(one, make_trial(None)), fit(other, make_trial("full"))
    assert language_model.encoder_digest(one) == language_model.encoder_digest(other) != digest
    assert np.array_equal(first, second)


@pytest.mark.parametrize("family", language_model.FAMILIES)
def test_lora_trains_adapters_and_head_alone_and_merges_them(family, load, outputs):
    model = load(family)
    before, spoken = weights(model.classifier), outputs(model)[0]
    trial = make_trial("lora", options={"tuning.rank": 2})
    fit(model, trial)
    trained = changed(before, model.classifier)
    adapted = {name for name in trained if not of_the_head(model, name)}
    projections = tuning.PROJECTIONS[family]
    assert adapted
    assert {name.split(".")[-2] for name in adapted} == set(projections)
    assert len(adapted) == 2 * len(projections), "each layer, and no bias"
    assert trained - adapted == {name for name in before if of_the_head(model, name)}
    for name in adapted:
        update = model.classifier.get_parameter(name).detach() - before[name]
        assert torch.linalg.matrix_rank(update.double(), rtol=1e-4) <= 2
    assert (outputs(model)[0] - spoken).abs().max() > 1e-4, "the masked-LM head reads the merged weights"


@pytest.mark.parametrize("family", language_model.FAMILIES)
@pytest.mark.parametrize("name", PARTIAL)
def test_what_requires_a_gradient_is_what_trains_and_is_put_back(name, family, load):
    model = load(family)
    flags = {key: value.requires_grad for key, value in model.classifier.named_parameters()}
    head = [key for key in flags if of_the_head(model, key)]
    with adapted(model, make_trial(name)):
        free = [key for key, value in model.classifier.named_parameters() if value.requires_grad]
        assert any("lora_" in key for key in free) == (name == "lora")
        assert [key for key in free if "lora_" not in key] == head
    assert {key: value.requires_grad for key, value in model.classifier.named_parameters()} == flags


def test_merged_adapters_answer_as_they_did_before(load):
    model, trial = load(), make_trial("lora")
    rows = encode(model.tokenizer, TEXTS, 16)
    with adapted(model, trial):
        with torch.no_grad():
            for key, value in model.encoder.named_parameters():
                if "lora_B" in key:
                    value.normal_(generator=torch.Generator().manual_seed(0))
        apart = finetune.predict(model, rows, trial, "cpu")
    np.testing.assert_allclose(finetune.predict(model, rows, trial, "cpu"), apart, atol=1e-4)
    assert abs(finetune.predict(load(), rows, trial, "cpu") - apart).max() > 1e-2


def adapters(model, seed: int = 0) -> list[torch.Tensor]:
    with adapted(model, make_trial("lora", seed=seed)):
        return [value.detach().clone() for key, value in model.encoder.named_parameters() if "lora_A" in key]


def test_the_adapters_first_bits_depend_on_the_seed_alone(load):
    treated = load()
    UPSTREAM["perturb"].apply(treated, 1.0, UPSTREAM["perturb"].options(), 0, None)
    torch.manual_seed(5)
    first, arm, other = adapters(load()), adapters(treated), adapters(load(), seed=1)
    assert all(torch.equal(one, two) for one, two in zip(first, arm, strict=True))
    assert not any(torch.equal(one, two) for one, two in zip(first, other, strict=True))
    assert len({str(one) for one in first}) == len(first), "and are drawn separately for each layer"


@pytest.mark.parametrize("name", PARTIAL)
def test_the_same_trial_gives_the_same_bits_whatever_ran_before(name, load):
    first = fit(load(), make_trial(name))
    torch.manual_seed(99)
    fit(load(), make_trial("lora", precision="bf16", seed=3))
    assert np.array_equal(fit(load(), make_trial(name)), first)
    assert not np.array_equal(fit(load(seed=1), make_trial(name, seed=1)), first)


@pytest.mark.parametrize("name", PARTIAL)
def test_an_upstream_arm_still_reaches_the_classifier(name, load):
    treated = load()
    UPSTREAM["reinitialise"].apply(treated, 1.0, UPSTREAM["reinitialise"].options(), 0, None)
    assert abs(fit(treated, make_trial(name)) - fit(load(), make_trial(name))).max() > 1e-2


@pytest.mark.parametrize("name", [None, *PARTIAL])
@pytest.mark.parametrize("kept", [True, False])
def test_sentdebiass_projection_trains_where_the_encoder_does(kept, name, load):
    """With `kept` never; without it like other weights of the encoder, and so neither under frozen nor under lora."""
    model = load()
    project_out(model, np.eye(16)[:1], 1.0, kept)
    projection = language_model.top(model).projection.weight
    before = projection.detach().clone()
    fit(model, make_trial(name))
    assert torch.equal(projection, before) == (kept or name is not None)
    assert projection.requires_grad == (not kept)


def test_options_of_lora_change_what_is_learned(load):
    plain = fit(load(), make_trial("lora"))
    for changes in ({"tuning.rank": 3}, {"tuning.alpha": 1}, {"tuning.dropout": 0.5}):
        assert not np.array_equal(fit(load(), make_trial("lora", options={"tuning.rank": 2, **changes})), plain)


def test_a_family_whose_projections_are_not_known_is_refused(load):
    model = load()
    stranger = types.SimpleNamespace(family="mpnet", lm=model.lm)
    with pytest.raises(UserError, match=r"family 'mpnet' .* Allowed: bert, deberta-v2, .*; or tuning: full or frozen"):
        tuning.check(stranger, settings(make_trial("lora")).tuning)
    tuning.check(stranger, settings(make_trial("frozen")).tuning)
    assert set(tuning.PROJECTIONS) == {*language_model.FAMILIES, *language_model.CAUSAL_FAMILIES}


def test_a_rank_above_the_width_is_refused(load):
    tuning.check(load(), settings(make_trial("lora", options={"tuning.rank": 16})).tuning)
    with pytest.raises(UserError, match=r"tuning.rank: 17; the model's width is 16. Allowed: 1 to 16"):
        tuning.check(load(), settings(make_trial("lora", options={"tuning.rank": 17})).tuning)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tuning": "lore"}, "unknown tuning 'lore'. Did you mean 'lora'"),
        ({"tuning": "lora", "tuning.ranks": 4}, "Did you mean 'tuning.rank'"),
        ({"tuning": "lora", "tuning.rank": 0}, "tuning.rank"),
        ({"tuning": "frozen", "tuning.rank": 4}, "unknown option 'tuning.rank'"),
        ({"tuning.rank": 4}, "unknown option 'tuning.rank'"),
    ],
)
def test_what_does_not_fit_is_reported(fields, message):
    with pytest.raises(UserError, match=message):
        resolve(parse_trial(fields))


def test_ids_and_names_of_tunings():
    plain, full, frozen, lora = (
        resolve(parse_trial(fields)).trial
        for fields in ({}, {"tuning": "full"}, {"tuning": "frozen"}, {"tuning": "lora", "tuning.rank": 4})
    )
    assert plain.id == full.id
    assert len({plain.id, frozen.id, lora.id}) == 3
    assert lora.id != resolve(parse_trial({"tuning": "lora"})).id
    assert (plain.name, frozen.name) == ("none + none s0 wiki tiny", "none + none s0 wiki tiny frozen")
    assert lora.name == "none + none s0 wiki tiny lora(alpha=16,dropout=0.0,rank=4)"
    assert lora.arm == plain.arm
