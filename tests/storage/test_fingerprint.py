"""All that decides a value is in its key, and nothing else."""

from __future__ import annotations

import torch

from bias_transfer import hashing
from bias_transfer.storage import fingerprint
from bias_transfer.storage.fingerprint import before_training
from bias_transfer.storage.fingerprint import untreated
from bias_transfer.spec import Trial
from bias_transfer.spec import parse_trial
from bias_transfer.pipeline import resolve

FULL = {
    "task": "wiki", "data": "synthetic", "data.size": 300, "model": "tiny", "model.steps": 5, "upstream": "perturb",
    "upstream_dose": 0.5, "downstream": "scrub", "tuning": "lora", "metric.top_k": 5,
}  # fmt: skip
CHANGED = {
    "task": "bios", "data": "other", "model": "other", "upstream": "permute", "upstream_dose": 0.25, "seed": 1,
    "downstream": "rebalance", "downstream_dose": 0.5, "epochs": 1.0, "batch_size": 8, "micro_batch_size": 4,
    "learning_rate": 1e-5, "warmup": 0.2, "weight_decay": 0.1, "clip": 2.0, "max_tokens": 32, "precision": "bf16",
    "threads": 2, "tuning": None, "task_digest": "x", "data_digest": "x", "model_digest": "x",
}  # fmt: skip
DECIDES = {
    "task", "task_digest", "data_digest", "model_digest", "upstream", "upstream_dose", "seed", "max_tokens", "precision",
    "threads",
}  # fmt: skip


def test_every_field_that_decides_changes_the_key_and_no_other_does():
    """A field that is added to Trial needs a place here."""
    given = resolve(parse_trial(FULL))
    assert CHANGED.keys() | {"options"} == Trial.model_fields.keys()
    for name, value in CHANGED.items():
        same = before_training(given.model_copy(update={name: value}), "cpu") == before_training(given, "cpu")
        assert same == (name not in DECIDES), name
    for name in given.options:
        other = given.model_copy(update={"options": {**given.options, name: "other"}})
        same = before_training(other, "cpu") == before_training(given, "cpu")
        assert same == name.startswith(("downstream.", "tuning.")), name
    options = {**given.options, "upstream.corpus": "here", "upstream.corpus_digest": "x"}
    placed = [given.model_copy(update={"options": {**options, **own}}) for own in ({}, {"upstream.corpus": "there"})]
    assert before_training(placed[0], "cpu") == before_training(placed[1], "cpu") != before_training(given, "cpu")


def test_the_seed_decides_nothing_of_an_untreated_model():
    plain = [resolve(parse_trial({"seed": seed})) for seed in (0, 1)]
    treated = [resolve(parse_trial({"seed": seed, "upstream": "perturb"})) for seed in (0, 1)]
    assert before_training(plain[0], "cpu") == before_training(plain[1], "cpu")
    assert before_training(treated[0], "cpu") != before_training(treated[1], "cpu")


def forget() -> None:
    fingerprint._code.cache_clear()
    fingerprint._packages.cache_clear()


def test_trials_that_share_their_upstream_stage_take_turns():
    arms = [{"upstream": arm, "downstream": own} for arm in ("none", "permute") for own in ("none", "scrub")]
    trials = [resolve(parse_trial({**arm, "data.size": size, "seed": 3})) for size in (300, 200) for arm in arms]
    found = fingerprint.in_turn(trials)
    assert [(trial.upstream, trial.downstream) for trial in found[:4]] == [
        ("none", "none"), ("permute", "none"), ("none", "scrub"), ("permute", "scrub"),
    ]  # fmt: skip
    assert {trial.options["data.size"] for trial in found[:4]} == {300}
    assert sorted(trial.id for trial in found) == sorted(trial.id for trial in trials)


def test_the_code_the_packages_and_the_machine_decide(monkeypatch, tmp_path):
    given, texts = resolve(parse_trial(FULL)), ("a text",)

    def keys() -> list[str]:
        return [fingerprint.digest(own) for own in (before_training(given, "cpu"), untreated(given, "cpu", texts))]

    before = keys()
    for target, name, value in (
        (deciding, "NUMERICS", -1),
        (deciding, "version", lambda name: "0"),
        (deciding, "CODE", tmp_path),
        (torch.backends.cpu, "get_cpu_capability", lambda: "ABACUS"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(target, name, value)
            forget()
            assert not {*before} & {*keys()}, name
    forget()
    assert keys() == before
    for other in ({"threads": 2}, {"model_digest": "x"}, {"options": {**given.options, "model.steps": 6}}):
        assert untreated(given.model_copy(update=other), "cpu", texts) != untreated(given, "cpu", texts)
    assert untreated(given, "cpu", texts) != untreated(given, "cpu", ("another",))
    assert hashing.text_digest(["ab", "c"]) != hashing.text_digest(["a", "bc"])
