"""Stacked models are trained as one after another."""

from __future__ import annotations

import pytest
import torch
from typer.testing import CliRunner

from benchmarks.performance import stacked_seeds
from benchmarks.performance.stacked_seeds import difference
from benchmarks.performance.stacked_seeds import made_up
from benchmarks.performance.stacked_seeds import one_after_another
from benchmarks.performance.stacked_seeds import ready
from benchmarks.performance.stacked_seeds import stacked


@pytest.fixture
def models(load):
    found = [load(seed=seed).classifier for seed in range(3)]
    for model in found:
        ready(model)
    return found


def test_they_end_with_the_same_logits(models):
    given = made_up(300, seeds=3, batch=4, tokens=12, steps=5, device="cpu")
    before = [{name: weight.clone() for name, weight in model.named_parameters()} for model in models]
    separate, together = one_after_another(models, given), stacked(models, given)
    assert difference(models[0], separate, together, given) < 1e-5
    assert difference(models[0], before, together, given) > 1e-3  # both have learned
    mixed = [(ids.roll(1, 0), labels.roll(1, 0)) for ids, labels in given]
    assert difference(models[0], separate, stacked(models, mixed), given) > 1e-3  # each seed by its own texts
    assert all(torch.equal(was[name], weight) for model, was in zip(models, before, strict=True)
               for name, weight in model.named_parameters())  # fmt: skip


def test_the_command_writes_a_row_a_cell():
    told = CliRunner().invoke(stacked_seeds.app, ["--seeds", "2", "--batch-size", "2", "--tokens", "8", "--steps", "1"])
    assert told.exit_code == 0, told.output
    assert "tiny" in told.stdout
    wrong = CliRunner().invoke(stacked_seeds.app, ["--precision", "fp8"])
    assert (wrong.exit_code, "allowed are bf16, fp32" in wrong.stderr) == (2, True)
