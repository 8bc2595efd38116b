"""A trial that was killed in mid-training and starts again ends with the bits of one that was not."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import multiprocessing
import time
from pathlib import Path

import pytest
import torch

from bias_transfer.training import checkpoint as training_checkpoint
from bias_transfer.training import finetune
from bias_transfer import determinism
from bias_transfer.models import language_model
from bias_transfer.training import state as training_state
from bias_transfer.models.batching import encode
from bias_transfer.training.checkpoint import Place
from bias_transfer.training.checkpoint import State
from bias_transfer.spec import Trial

TEXTS = ["a good cat", "a bad dog", "my kind neighbor and her friend", "a terrible person is sad"] * 8
LABELS = [0, 1, 0, 1] * 8
NAMES = [str(number) for number in range(32)]
TOTAL = 33
"""Optimiser steps: of the curve's points the last is about fewer steps than the others."""

CASES = (
    ("roberta", {}),
    ("bert", {"precision": "bf16", "batch_size": 5}),
    ("roberta", {"micro_batch_size": 3, "seed": 1}),
    ("modernbert", {"precision": "bf16", "micro_batch_size": 4}),
    ("bert", {"tuning": "frozen"}),
    ("roberta", {"tuning": "lora", "options": {"tuning.rank": 2, "tuning.dropout": 0.3}}),
    ("bert", {"tuning": "lora", "precision": "bf16", "micro_batch_size": 3}),
)


class Stopped(Exception):
    """Raised in the place of a kill."""


def train(folder: str, fields: dict, place: Place | None, report=lambda *_: None) -> tuple[tuple, str, bytes]:
    """(curve, digest of all weights, logits) after `TOTAL` steps. The models' configurations have dropout."""
    own = Trial(**{"batch_size": 8, "learning_rate": 1e-2, "max_tokens": 16, **fields})
    model = language_model.load(folder, None, labels=2, seed=own.seed)
    rows = encode(model.tokenizer, TEXTS, own.max_tokens)
    curve = finetune.finetune(model, rows, LABELS, NAMES, own, TOTAL, "cpu", report, place)
    weights = b"".join(value.numpy().tobytes() for value in model.classifier.state_dict().values())
    return curve, hashlib.sha256(weights).hexdigest(), finetune.predict(model, rows, own, "cpu").tobytes()


def until_killed(folder: str, fields: dict, place: Place) -> None:
    """The child's: trains, slowly enough to be killed in time."""
    torch.set_num_threads(1)
    train(folder, fields, place, report=lambda *_: time.sleep(0.2))


@pytest.fixture(scope="module")
def processes():
    """Children of a server that has loaded all once, each of which can be killed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bias_transfer.finetune", "peft"])
    return context


@pytest.fixture
def place(tmp_path) -> Place:
    return Place(str(tmp_path), "t", 0.0, "cpu")


def written(place: Place) -> int:
    """When the checkpoint was written, in ns."""
    path = Path(place.storage) / "checkpoints" / place.trial / training_checkpoint.NAME
    return path.stat().st_mtime_ns if path.exists() else 0


@pytest.mark.parametrize(("family", "fields"), CASES, ids=[f"{family} {fields}" for family, fields in CASES])
def test_killed_and_started_again_it_ends_with_the_same_bits(processes, checkpoint, family, fields, place):
    expected = train(checkpoint(family), fields, None)
    kills, done = 0, list[int]()
    for _ in range(2):
        child = processes.Process(target=until_killed, args=(checkpoint(family), fields, place))
        child.start()
        before = written(place)
        while written(place) == before and child.is_alive():
            time.sleep(0.001)
        time.sleep(0.1)
        child.kill()
        child.join()
        kills += child.exitcode == -9
    found = train(checkpoint(family), fields, place, report=lambda what, step, total: done.append(step))
    assert kills == 2
    assert 0 < done[0] < TOTAL
    assert found == expected


def test_every_step_can_be_the_last_before_a_kill(checkpoint, place):
    """Without a process for each: an exception after the checkpoint of that step."""
    expected = train(checkpoint("roberta"), {}, None)

    def stop(*_) -> None:
        raise Stopped

    with pytest.MonkeyPatch.context() as patch:
        keep = training_checkpoint.save_state
        patch.setattr(training_checkpoint, "save_state", lambda *own: (keep(*own), stop()))
        for step in range(1, TOTAL + 1):
            with pytest.raises(Stopped):
                train(checkpoint("roberta"), {}, place)
            assert training_checkpoint.load_state(place).facts["step"] == step
    assert train(checkpoint("roberta"), {}, place) == expected


FORGOTTEN = {
    "generators": lambda state: changed(state, "generator.", torch.Generator().manual_seed(5).get_state()),
    "moments": lambda state: changed(state, "adam.0.exp_avg", None),
    "adam's steps": lambda state: changed(state, "adam.1.step", torch.tensor(1.0)),
    "weights": lambda state: changed(state, "weight.", None),
    "losses": lambda state: changed(state, "losses", None),
    "rates": lambda state: State(state.tensors, {**state.facts, "rates": [0.0, 0.0]}),
    "schedule": lambda state: State(
        state.tensors, {**state.facts, "schedule": {**state.facts["schedule"], "last_epoch": 1}}
    ),
    "step": lambda state: State(state.tensors, {**state.facts, "step": 1}),
}


def changed(state: State, prefix: str, value: torch.Tensor | None) -> State:
    """The tensors of that prefix replaced, by zeros where there is no value."""
    own = {
        name: (torch.zeros_like(old) if value is None else value) if name.startswith(prefix) else old
        for name, old in state.tensors.items()
    }
    return State(own, state.facts)


@pytest.mark.parametrize("part", FORGOTTEN)
def test_each_part_of_the_state_is_needed(checkpoint, place, part, monkeypatch):
    """The control of the tests above: with one part not put back, some bit differs."""
    expected = train(checkpoint("roberta"), {}, None)

    def stop(what: str, step: int, total: int) -> None:
        if step == 20:
            raise Stopped

    with pytest.raises(Stopped):
        train(checkpoint("roberta"), {}, place, stop)
    load, unchanged = training_checkpoint.load_state, dataclasses.replace(place, seconds=math.inf)
    monkeypatch.setattr(training_checkpoint, "load_state", lambda place: FORGOTTEN[part](load(place)))
    assert train(checkpoint("roberta"), {}, unchanged) != expected
    monkeypatch.undo()
    assert train(checkpoint("roberta"), {}, unchanged) == expected


def test_a_damaged_checkpoint_is_told_and_training_starts_anew(checkpoint, place):
    expected = train(checkpoint("roberta"), {}, place)
    path = Path(place.storage) / "checkpoints" / place.trial / training_checkpoint.NAME
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="starts anew"):
        assert train(checkpoint("roberta"), {}, place) == expected


def test_a_short_trial_never_pays(checkpoint, tmp_path, monkeypatch):
    """Nothing is prepared, let alone written, before its time."""
    monkeypatch.setattr(training_state, "capture", lambda now: pytest.fail("a state was prepared"))
    train(checkpoint("roberta"), {}, Place(str(tmp_path), "t", 600.0, "cpu"))
    assert not [*tmp_path.iterdir()]


def test_checkpoints_are_as_far_apart_as_is_said(checkpoint, place, monkeypatch):
    """On a clock that goes a second each time it is looked at."""
    now, kept = iter(range(10_000)), list[int]()
    monkeypatch.setattr(finetune.time, "monotonic", lambda: next(now))
    monkeypatch.setattr(training_checkpoint, "save_state", lambda place, state: kept.append(state.facts["step"]))
    train(checkpoint("roberta"), {}, Place(place.storage, "t", 10.0, "cpu"))
    assert kept == [10, 20, 30]


def scaled(steps: int, place: Place, kept: State | None = None) -> tuple[training_state.Training, list]:
    """A linear layer trained with fp16's scaler, which halves its scale at an overflow in step 1."""
    with determinism.seeded(0):
        layer = torch.nn.Linear(2, 1)
        adam = torch.optim.AdamW(layer.parameters(), fused=True)
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=3)
        schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: 1 / (1 + step))
        now = training_state.Training(layer, adam, schedule, scaler, torch.device("cpu"))
        if kept:
            training_state.restore(now, kept)
        for step in range(now.step, steps):
            loss = layer(torch.full((1, 2), math.inf if step == 1 else step + 1.0)).sum()
            scaler.scale(loss).backward()
            scaler.step(adam)
            scaler.update()
            schedule.step()
            adam.zero_grad()
            now.step += 1
        return now, [value.tolist() for value in layer.parameters()]


@pytest.mark.parametrize("cut", [1, 2, 4, 6])
def test_the_scaler_of_fp16_goes_on(place, cut):
    """On the processor, where accelerate has no fp16."""
    whole, weights = scaled(8, place)
    half, _ = scaled(cut, place)
    training_checkpoint.save_state(place, training_state.capture(half))
    resumed, found = scaled(8, place, training_checkpoint.load_state(place))
    assert found == weights
    assert resumed.scaler.state_dict() == whole.scaler.state_dict()
    assert resumed.scaler.get_scale() not in (8.0, 65536.0)
