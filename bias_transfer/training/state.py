"""Everything that a step of fine-tuning changes, as a value that can be kept and put back bit for bit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from bias_transfer.training.checkpoint import State
from bias_transfer.spec import Step


@dataclass
class Training:
    """Fine-tuning between two optimiser steps. The order of examples is not in it: it is a function of the step."""

    classifier: nn.Module
    adam: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LambdaLR
    scaler: Any
    """The GradScaler of fp16, else None."""
    device: torch.device
    step: int = 0
    """Optimiser steps done."""
    curve: list[Step] = field(default_factory=list)
    losses: list[torch.Tensor] = field(default_factory=list)
    """Of the steps since the curve's last point."""


def capture(now: Training) -> State:
    """What trains, all buffers, the optimiser, the schedule, the scaler and the generators that dropout draws from."""
    optimiser = now.adam.state_dict()
    tensors = {f"weight.{name}": value for name, value in _changing(now.classifier)}
    tensors |= {
        f"adam.{number}.{name}": value for number, own in optimiser["state"].items() for name, value in own.items()
    }
    tensors |= {f"generator.{name}": value for name, value in _generators(now.device).items()}
    if now.losses:
        tensors["losses"] = torch.stack(now.losses)
    facts = {
        "step": now.step,
        "curve": [asdict(point) for point in now.curve],
        "rates": [group["lr"] for group in optimiser["param_groups"]],
        "schedule": {key: value for key, value in now.schedule.state_dict().items() if key != "lr_lambdas"},
        "scaler": now.scaler.state_dict() if now.scaler else None,
    }
    return State(tensors, facts)


def restore(now: Training, state: State) -> None:
    """Put it back, in place."""
    facts, tensors = state.facts, state.tensors
    with torch.no_grad():
        for name, value in _changing(now.classifier):
            value.copy_(tensors[f"weight.{name}"])
    groups = now.adam.state_dict()["param_groups"]
    for group, rate in zip(groups, facts["rates"], strict=True):
        group["lr"] = rate
    now.adam.load_state_dict({"state": _by_number(tensors), "param_groups": groups})
    now.schedule.load_state_dict({**facts["schedule"], "lr_lambdas": [None] * len(groups)})
    if now.scaler:
        now.scaler.load_state_dict(facts["scaler"])
    torch.set_rng_state(tensors["generator.cpu"])
    if now.device.type == "cuda":
        torch.cuda.set_rng_state(tensors["generator.cuda"], now.device)
    now.step, now.curve = facts["step"], [Step(**point) for point in facts["curve"]]
    now.losses = [*tensors["losses"].to(now.device)] if "losses" in tensors else []


def _changing(classifier: nn.Module) -> Iterable[tuple[str, torch.Tensor]]:
    yield from ((name, value) for name, value in classifier.named_parameters() if value.requires_grad)
    yield from classifier.named_buffers()


def _generators(device: torch.device) -> dict[str, torch.Tensor]:
    own = {"cpu": torch.get_rng_state()}
    return own if device.type != "cuda" else {**own, "cuda": torch.cuda.get_rng_state(device)}


def _by_number(tensors: Mapping[str, torch.Tensor]) -> dict[int, dict[str, torch.Tensor]]:
    states: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        owner, _, rest = key.partition(".")
        if owner == "adam":
            number, _, name = rest.partition(".")
            states.setdefault(int(number), {})[name] = value
    return states
