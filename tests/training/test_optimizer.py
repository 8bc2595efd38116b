"""AdamW's groups and the schedule."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bias_transfer.training import optimizer


def rates(steps: int, warmup: float) -> list[float]:
    adam = optimizer.build(nn.Linear(1, 1), 1.0, 0.0)
    schedule = optimizer.schedule(adam, steps, warmup)
    rates = []
    for _ in range(steps):
        rates.append(schedule.get_last_lr()[0])
        adam.step()
        schedule.step()
    return rates


@pytest.mark.parametrize("family", ["bert", "modernbert", "roberta-prelayernorm"])
def test_norms_and_biases_are_not_decayed(load, family):
    model = load(family).classifier
    decayed, free = optimizer.build(model, 1e-3, 0.01).param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.01, 0.0)
    not_decayed = {id(weight) for weight in free["params"]}
    expected = {
        id(weight)
        for module in model.modules()
        for name, weight in module.named_parameters(recurse=False)
        if name == "bias" or isinstance(module, nn.LayerNorm)
    }
    assert expected
    assert not_decayed == expected
    assert len(decayed["params"]) + len(not_decayed) == len([*model.parameters()])


def test_decay_shrinks_a_matrix_and_leaves_a_bias():
    layer = nn.Linear(2, 2)
    before = {name: weight.detach().clone() for name, weight in layer.named_parameters()}
    for weight in layer.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.build(layer, 0.1, 0.5).step()
    torch.testing.assert_close(layer.weight, before["weight"] * (1 - 0.1 * 0.5))
    assert torch.equal(layer.bias, before["bias"])


def test_frozen_weights_are_left_out():
    layer = nn.Linear(2, 2)
    layer.weight.requires_grad_(False)
    decayed, free = optimizer.build(layer, 1e-3, 0.01).param_groups
    assert (decayed["params"], len(free["params"])) == ([], 1)


def test_the_rate_rises_and_falls_in_straight_lines():
    assert rates(10, 0.4) == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0.1), (1, 0.0), (2, 0.9), (7, 0.0), (100, 0.1)])
def test_the_rate_is_never_0_nor_above_its_peak(steps, warmup):
    values = rates(steps, warmup)
    assert all(0 < rate <= 1 for rate in values)
    assert max(values) == pytest.approx(1.0)
