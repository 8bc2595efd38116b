"""A trial that was killed during fine-tuning and starts again ends with the same bits as one that was not."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import multiprocessing
import time
from pathlib import Path

import pytest
import torch

from bias_transfer import determinism
from bias_transfer.models import language_model
from bias_transfer.models.batching import encode
from bias_transfer.spec import Trial, parse
from bias_transfer.training import checkpoint as training_checkpoint
from bias_transfer.training import finetune, tuning
from bias_transfer.training.checkpoint import Place, State
from bias_transfer.training.sampling import Untreated

TEXTS = ["a good cat", "a bad dog", "my kind neighbor and her friend", "a terrible person is sad"] * 8
LABELS = [0, 1, 0, 1] * 8
NAMES = [str(number) for number in range(32)]
UNTREATED = Untreated([*NAMES[3:], *(f"removed {number}" for number in range(9))], [number % 5 for number in range(38)])
"""The arm removed nine examples and added the first three, so that batches differ in size."""
WEIGHTS = [0.1, 0.4, 2.5, 1.0] * 8
"""Of the examples, with an arm that weighs them."""
TOTAL = 33
"""Optimiser steps: the last point of the curve covers fewer steps than the others."""

CASES = (
    ("roberta", {}),
    ("bert", {"precision": "bf16", "batch_size": 5}),
    ("roberta", {"micro_batch_size": 3, "seed": 1}),
    ("modernbert", {"precision": "bf16", "micro_batch_size": 4}),
    ("bert", {"tuning": "frozen"}),
    ("roberta", {"tuning": "lora", "options": {"tuning.rank": 2, "tuning.dropout": 0.3}}),
    ("bert", {"tuning": "lora", "precision": "bf16", "micro_batch_size": 3}),
    ("roberta", {"downstream": "reweight"}),
)


class Stopped(Exception):
    """Raised instead of killing the process."""


def settings(trial: Trial) -> finetune.Settings:
    kind = tuning.TUNING[trial.tuning or "full"]
    return finetune.Settings(trial, parse(kind, trial.options_of("tuning"), "tuning."))


def train(folder: str, fields: dict, place: Place | None, report=lambda *_: None) -> tuple[tuple, str, bytes]:
    """(curve, digest of all weights, logits) after `TOTAL` steps. The models' configurations have dropout."""
    trial = Trial(**{"batch_size": 8, "learning_rate": 1e-2, "max_tokens": 16, **fields})
    model = language_model.load(folder, None, labels=2, seed=trial.seed)
    rows = encode(model.tokenizer, TEXTS, trial.max_tokens)
    curve = finetune.finetune(
        model,
        finetune.TrainingData(rows, LABELS, NAMES, TOTAL, UNTREATED, WEIGHTS if "downstream" in fields else None),
        settings(trial),
        finetune.Runtime("cpu", report, place),
    )
    weights = b"".join(value.numpy().tobytes() for value in model.classifier.state_dict().values())
    return curve, hashlib.sha256(weights).hexdigest(), finetune.predict(model, rows, trial, "cpu").tobytes()


def until_killed(folder: str, fields: dict, place: Place) -> None:
    """What the child runs: training, slow enough to be killed in time."""
    torch.set_num_threads(1)
    train(folder, fields, place, report=lambda *_: time.sleep(0.2))


@pytest.fixture(scope="module")
def processes():
    """Child processes that can be killed, of a server that has imported everything once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bias_transfer.training.finetune", "peft"])
    return context


@pytest.fixture
def place(tmp_path) -> Place:
    return Place(str(tmp_path), "t", 0.0, "cpu")


def written(place: Place) -> int:
    """When the checkpoint was written, in ns."""
    path = Path(place.storage) / "checkpoints" / place.trial / training_checkpoint.NAME
    return path.stat().st_mtime_ns if path.exists() else 0


@pytest.mark.parametrize(
    ("family", "fields"),
    # The plainest case and the one with the most parts run always, the rest in `make test-all`.
    [
        pytest.param(*case, id=f"{case[0]} {case[1]}", marks=[] if n in (0, 6) else pytest.mark.long)
        for n, case in enumerate(CASES)
    ],
)
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
    resumed = train(checkpoint(family), fields, place, report=lambda what, step, total: done.append(step))
    assert kills == 2
    assert 0 < done[0] < TOTAL
    assert resumed == expected


def test_every_step_can_be_the_last_before_a_kill(checkpoint, place):
    """Without a process for each: an exception after the checkpoint of that step."""
    expected = train(checkpoint("roberta"), {}, None)

    def stop(*_) -> None:
        raise Stopped

    with pytest.MonkeyPatch.context() as patch:
        save = training_checkpoint.save_state
        patch.setattr(training_checkpoint, "save_state", lambda *arguments: (save(*arguments), stop()))
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
    tensors = {
        name: (torch.zeros_like(old) if value is None else value) if name.startswith(prefix) else old
        for name, old in state.tensors.items()
    }
    return State(tensors, state.facts)


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


def test_a_damaged_checkpoint_is_reported_and_training_starts_from_the_beginning(checkpoint, place):
    expected = train(checkpoint("roberta"), {}, place)
    path = Path(place.storage) / "checkpoints" / place.trial / training_checkpoint.NAME
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="starts from the beginning"):
        assert train(checkpoint("roberta"), {}, place) == expected


def test_a_short_trial_pays_nothing(checkpoint, tmp_path, monkeypatch):
    """Before the first checkpoint is due, no state is even captured."""
    monkeypatch.setattr(training_checkpoint, "capture", lambda training: pytest.fail("a state was captured"))
    train(checkpoint("roberta"), {}, Place(str(tmp_path), "t", 600.0, "cpu"))
    assert not [*tmp_path.iterdir()]


def test_checkpoints_are_as_far_apart_as_requested(checkpoint, place, monkeypatch):
    """On a clock that advances by a second each time it is read."""
    clock, saved = iter(range(10_000)), list[int]()
    monkeypatch.setattr(finetune.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(training_checkpoint, "save_state", lambda place, state: saved.append(state.facts["step"]))
    train(checkpoint("roberta"), {}, Place(place.storage, "t", 10.0, "cpu"))
    assert saved == [10, 20, 30]


def scaled(steps: int, place: Place, state: State | None = None) -> tuple[training_checkpoint.Training, list]:
    """A linear layer trained with fp16's scaler, which halves its scale at an overflow in step 1."""
    with determinism.seeded(0):
        layer = torch.nn.Linear(2, 1)
        adam = torch.optim.AdamW(layer.parameters(), fused=True)
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=3)
        schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: 1 / (1 + step))
        training = training_checkpoint.Training(layer, adam, schedule, scaler, torch.device("cpu"))
        if state:
            training_checkpoint.restore(training, state)
        for step in range(training.step, steps):
            loss = layer(torch.full((1, 2), math.inf if step == 1 else step + 1.0)).sum()
            scaler.scale(loss).backward()
            scaler.step(adam)
            scaler.update()
            schedule.step()
            adam.zero_grad()
            training.step += 1
        return training, [value.tolist() for value in layer.parameters()]


@pytest.mark.parametrize("cut", [1, 2, 4, 6])
def test_the_scaler_of_fp16_goes_on(place, cut):
    """On the CPU, where accelerate has no fp16."""
    whole, weights = scaled(8, place)
    half, _ = scaled(cut, place)
    training_checkpoint.save_state(place, training_checkpoint.capture(half))
    resumed, resumed_weights = scaled(8, place, training_checkpoint.load_state(place))
    assert resumed_weights == weights
    assert resumed.scaler.state_dict() == whole.scaler.state_dict()
    assert resumed.scaler.get_scale() not in (8.0, 65536.0)
