"""What fine-tuning does otherwise on a processor, where torch's stock kernels are slow: to the same mathematics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.nn import functional

from bias_transfer.spec import Trial

LEVELS = 2**16
"""Dropout's rate is rounded to a multiple of its inverse: 0.1 is 0.100006."""


@contextmanager
def tuned(classifier: Any, trial: Trial, device: str) -> Iterator[None]:
    """Within it, on a processor: dropout draws 16 bits a value, and attention in bf16 is plain matrix products, since
    torch's fused kernel takes up to five times as long there (docs/performance.md). The model is then as it was."""
    with ExitStack() as stack:
        if device == "cpu":
            stack.enter_context(_own_dropout())
            if trial.precision == "bf16":
                stack.enter_context(_eager(classifier))
        yield


@contextmanager
def _eager(classifier: Any) -> Iterator[None]:
    configs = {id(part.config): part.config for part in classifier.modules() if hasattr(part, "config")}.values()
    before = [config._attn_implementation for config in configs]
    classifier.set_attn_implementation("eager")
    try:
        yield
    finally:
        for config, name in zip(configs, before, strict=True):
            config._attn_implementation = name


@contextmanager
def _own_dropout() -> Iterator[None]:
    """In the whole process: `torch.nn.functional.dropout` is `dropout`. (A TorchFunctionMode slows every call of tiny's.)"""
    stock = functional.dropout
    functional.dropout = dropout
    try:
        yield
    finally:
        functional.dropout = stock


def dropout(input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    """As torch's, with the rate rounded to 1/65536; never in place."""
    return _Drop.apply(input, round(p * LEVELS)) if training and p else input


class _Drop(torch.autograd.Function):
    """Each value times 0 or 1/(1 - rate), and its gradient likewise."""

    @staticmethod
    def forward(context: Any, value: torch.Tensor, dropped: int) -> torch.Tensor:
        count = value.numel()
        drawn = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        kept = drawn.view(torch.int16)[:count].view(value.shape) >= dropped - LEVELS // 2
        scaled = kept.to(value.dtype).mul_(LEVELS / (LEVELS - dropped))
        context.save_for_backward(scaled)
        return value * scaled

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (scaled,) = context.saved_tensors
        return gradient * scaled, None
