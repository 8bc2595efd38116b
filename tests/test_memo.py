"""What is kept has the bits that were computed, and is found by all that decides it."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pytest
import torch

from bias_transfer import memo
from bias_transfer.memo import ARRAY, MEASURES, TOKENS, WEIGHTS, before_training, find, keep, remembered, untreated
from bias_transfer.spec import Measure, Trial, parse_trial
from bias_transfer.trial import resolve

TRICKY = (0.1 + 0.2, -0.0, math.nan, math.inf, 5e-324, 1 / 3)


def test_every_kind_comes_back_with_the_same_bits(tmp_path):
    measures = [Measure("upstream", "m", "gay", "The {mask} is ü.", value, 3) for value in TRICKY]
    assert [*map(repr, again(tmp_path, MEASURES, measures))] == [*map(repr, measures)]
    for rows in ([[0, 70_000], [], [5]], []):
        assert again(tmp_path, TOKENS, rows) == rows
    array = np.array([TRICKY, TRICKY])
    assert again(tmp_path, ARRAY, array).tobytes() == array.tobytes()
    weights = {"a": torch.tensor(TRICKY), "b": torch.randn(3, 2).t()}
    found = again(tmp_path, WEIGHTS, weights)
    assert found.keys() == weights.keys()
    assert all(
        torch.equal(found[name].view(torch.int32), value.contiguous().view(torch.int32))
        for name, value in weights.items()
    )


def again(folder, kind, value):
    keep(folder, kind, {"value": repr(value)}, value)
    return find(folder, kind, {"value": repr(value)})


def test_a_value_is_computed_once_and_may_be_deleted_or_damaged_at_any_time(tmp_path):
    computed = list[int]()

    def ask(folder=tmp_path) -> np.ndarray:
        return remembered(folder, ARRAY, {"of": "test"}, lambda: (computed.append(1), np.arange(3.0))[1])

    assert [ask().tolist() for _ in range(3)] == [[0.0, 1.0, 2.0]] * 3
    assert len(computed) == 1
    shutil.rmtree(tmp_path / "arrays")
    assert ask().tolist() == [0.0, 1.0, 2.0]
    assert len(computed) == 2
    (kept,) = tmp_path.rglob("array.npy")
    kept.write_bytes(b"torn")
    with pytest.warns(UserWarning, match="damaged and made again"):
        assert ask().tolist() == [0.0, 1.0, 2.0]
    assert ask().tolist() == [0.0, 1.0, 2.0]
    assert len(computed) == 3
    (tmp_path / "file").touch()
    assert ask(tmp_path / "file").tolist() == [0.0, 1.0, 2.0]  # no folder can be made there


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
    memo._code.cache_clear()
    memo._packages.cache_clear()


def test_trials_that_share_their_upstream_stage_take_turns():
    arms = [{"upstream": arm, "downstream": own} for arm in ("none", "permute") for own in ("none", "scrub")]
    trials = [resolve(parse_trial({**arm, "data.size": size, "seed": 3})) for size in (300, 200) for arm in arms]
    found = memo.in_turn(trials)
    assert [(trial.upstream, trial.downstream) for trial in found[:4]] == [
        ("none", "none"), ("permute", "none"), ("none", "scrub"), ("permute", "scrub"),
    ]  # fmt: skip
    assert {trial.options["data.size"] for trial in found[:4]} == {300}
    assert sorted(trial.id for trial in found) == sorted(trial.id for trial in trials)


def test_the_code_the_packages_and_the_machine_decide(monkeypatch, tmp_path):
    given, texts = resolve(parse_trial(FULL)), ("a text",)

    def keys() -> list[str]:
        return [memo.digest(own) for own in (before_training(given, "cpu"), untreated(given, "cpu", texts))]

    before = keys()
    for target, name, value in (
        (memo, "NUMERICS", -1),
        (memo, "version", lambda name: "0"),
        (memo, "CODE", tmp_path),
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
    assert memo.text_digest(["ab", "c"]) != memo.text_digest(["a", "bc"])
