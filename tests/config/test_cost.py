"""The estimate of GPU-hours agrees with a calculation by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bias_transfer.config import cost
from bias_transfer.models import gguf
from bias_transfer.spec import Trial


def wiki(model: str, **fields: object) -> Trial:
    return Trial(task="wiki", model=model, epochs=2.0, **fields)


def test_known_answer_by_hand():
    """Training: 6 x 84,934,656 x 2 x 95,692 x 56; prediction: 2 x the same x (63,994 x 56 + 85,648 x 8.5)."""
    parameters = 12 * 12 * 768 * 768
    by_hand = parameters * (6 * 2 * 95_692 * 56 + 2 * (63_994 * 56 + 85_648 * 8.5))
    assert cost.operations(wiki("some/model")) == pytest.approx(by_hand, rel=1e-12)
    estimate = cost.gpu_hours([wiki("some/model"), wiki("some/model", seed=1)], teraflops=10.0)
    assert estimate is not None
    assert estimate.hours == pytest.approx(2 * by_hand / 1e13 / 3600)
    assert (estimate.per_trial, estimate.unknown) == (estimate.hours / 2, ("some/model",))


def test_operations_grow_with_epochs_tokens_and_model_size(tmp_path: Path):
    """Tokens count up to the texts' own length; a checkpoint folder's size is read from its configuration."""
    (tmp_path / "config.json").write_text(json.dumps({"num_hidden_layers": 24, "hidden_size": 1024}))
    base = cost.operations(wiki("some/model"))
    assert cost.operations(wiki(str(tmp_path))) == pytest.approx(base * 24 * 1024**2 / (12 * 768**2))
    assert cost.operations(wiki("some/model", max_tokens=28)) < 0.6 * base
    assert cost.operations(wiki("some/model", max_tokens=512)) == base
    estimate = cost.gpu_hours([wiki(str(tmp_path))], 100.0)
    assert estimate is not None
    assert estimate.unknown == ()


def test_a_prompt_trains_nothing_and_reads_its_question_with_each_text():
    """Prediction: 2 x 84,934,656 x (63,994 x (56 + 11) + 85,648 x (8.5 + 11)), whatever the epochs."""
    by_hand = 2 * 12 * 12 * 768 * 768 * (63_994 * (56 + 11) + 85_648 * (8.5 + 11))
    asked = wiki("some/model", tuning="prompt")
    assert cost.operations(asked) == pytest.approx(by_hand, rel=1e-12)
    assert cost.operations(asked.with_fields(epochs=9.0)) == cost.operations(asked)


def test_an_upstream_arm_that_trains_adds_its_tokens():
    """6 operations per parameter and token, for 200 steps of 1,200 tokens."""
    arm = {"upstream.steps": 200, "upstream.tokens_per_step": 1200}
    added = cost.operations(wiki("some/model", options=arm)) - cost.operations(wiki("some/model"))
    assert added == pytest.approx(6 * 12 * 12 * 768 * 768 * 240_000)


def test_copies_of_augment_are_trained_on_and_other_arms_take_as_long_as_none():
    fields = {"task": "bios", "model": "some/model", "epochs": 1.0, "downstream": "augment"}
    none, half, full = (Trial(**{**fields, **arm}) for arm in ({"downstream": "none"}, {"downstream_dose": 0.5}, {}))
    trained = 6 * 12 * 12 * 768**2 * 257_478 * 73
    assert cost.operations(full) - cost.operations(none) == pytest.approx(trained)
    assert cost.operations(half) - cost.operations(none) == pytest.approx(trained / 2)
    assert cost.operations(Trial(**{**fields, "downstream": "reweight"})) == cost.operations(none)


def test_evaluation_sets_are_predicted_by_every_trial_and_bbq_is_asked_once_per_treated_model():
    """By hand, with 1.4 tokens per word; a text has at most max_tokens, and a prompt adds 11 tokens to each. BBQ: 7 words, once
    for both seeds of the untouched model, and once for each seed of perturb."""
    parameters, further = 12 * 12 * 768**2, cost.FurtherTexts((10, 200), (7,))
    for tuning, added in ((None, 14 + 100), ("prompt", 14 + 100 + 2 * 11)):
        trial = wiki("some/model", max_tokens=100, tuning=tuning)
        more = cost.operations(trial, further) - cost.operations(trial)
        assert more == pytest.approx(2 * parameters * added)
    arms = [{}, {"upstream": "perturb", "upstream_dose": 0.5}]
    trials = [wiki("some/model", seed=seed, **arm) for arm in arms for seed in (0, 1)]
    with_further, without = (
        cost.gpu_hours(trials, 1.0, lambda trial, each=each: each) for each in (further, cost.NOTHING_FURTHER)
    )
    predicted, asked = 4 * (14 + 128), 3 * 7 * 1.4
    assert (with_further.hours - without.hours) * 3600e12 == pytest.approx(
        2 * parameters * (predicted + asked), rel=1e-6
    )


def test_words_of_several_tokens_are_counted_once_per_treated_model():
    """By hand: 255 texts with beginnings of 3,153 tokens in all."""
    trials = [wiki("some/model", seed=seed, options={"metric.multi_token": True}) for seed in (0, 1)]
    hours = [cost.gpu_hours(each, 1.0).hours for each in (trials, [wiki("some/model", seed=seed) for seed in (0, 1)])]
    assert (hours[0] - hours[1]) * 3600e12 == pytest.approx(2 * 12 * 12 * 768**2 * 255 * 3153, rel=1e-6)


def test_tiny_models_and_other_tasks_have_no_estimate():
    assert cost.gpu_hours([wiki("tiny")], 100.0) is None
    assert cost.gpu_hours([Trial(task="own.yaml", model="some/model")], 100.0) is None


def test_a_gguf_file_has_the_size_of_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """And is not taken for a base model."""
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(gguf, "parameters", lambda file: 106_203_456)
    trial = wiki(str(tmp_path / "m.gguf"))
    assert cost.operations(trial) == pytest.approx(
        cost.operations(wiki("some/model")) * 106_203_456 / (12 * 12 * 768**2)
    )
    estimate = cost.gpu_hours([trial], 100.0)
    assert estimate is not None
    assert estimate.unknown == ()
