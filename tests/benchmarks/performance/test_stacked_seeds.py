"""Stacked models are trained to the same result as separate ones."""

from __future__ import annotations

import pytest
import torch
from typer.testing import CliRunner

from benchmarks.performance import stacked_seeds
from benchmarks.performance.stacked_seeds import difference, one_after_another, random_steps, ready, stacked
from bias_transfer.console import application


@pytest.fixture
def models(load):
    classifiers = [load(seed=seed).classifier for seed in range(3)]
    for model in classifiers:
        ready(model)
    return classifiers


def test_stacked_and_separate_models_end_with_the_same_logits(models):
    steps = random_steps(300, seeds=3, batch=4, tokens=12, steps=5, device="cpu")
    before = [{name: weight.clone() for name, weight in model.named_parameters()} for model in models]
    separate, together = one_after_another(models, steps), stacked(models, steps)
    assert difference(models[0], separate, together, steps) < 1e-5
    assert difference(models[0], before, together, steps) > 1e-3  # both have changed
    mixed = [(ids.roll(1, 0), labels.roll(1, 0)) for ids, labels in steps]
    assert difference(models[0], separate, stacked(models, mixed), steps) > 1e-3  # each seed learns from its own texts
    assert all(torch.equal(was[name], weight) for model, was in zip(models, before, strict=True)
               for name, weight in model.named_parameters())  # fmt: skip


def test_the_command_prints_one_row_per_cell():
    result = CliRunner().invoke(
        application(stacked_seeds.main), ["--seeds", "2", "--batch-size", "2", "--tokens", "8", "--steps", "1"]
    )
    assert result.exit_code == 0, result.output
    assert "tiny" in result.stdout
    wrong = CliRunner().invoke(application(stacked_seeds.main), ["--precision", "fp8"])
    assert (wrong.exit_code, "Allowed are bf16, fp32" in wrong.stderr) == (2, True)
