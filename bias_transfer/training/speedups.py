"""Faster ways to compute the same fine-tuning: on a CPU, where some of torch's kernels are slow, and in the last layer.

docs/performance.md has the measurements.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.nn import functional

from bias_transfer.models.language_model import LanguageModel, layer_names
from bias_transfer.spec import Trial

LEVELS = 2**16
"""The rate of dropout is rounded to a multiple of 1 / LEVELS: 0.1 becomes 0.100006."""


@contextmanager
def tuned(classifier: Any, trial: Trial, device: str) -> Iterator[None]:
    """Within the context, on a CPU: dropout draws 16 bits per value, and attention in bf16 is computed by plain matrix
    products, since torch's fused kernel takes up to five times as long there. On leaving, everything is restored."""
    with ExitStack() as stack:
        if device == "cpu":
            stack.enter_context(_faster_dropout())
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
def _faster_dropout() -> Iterator[None]:
    """Replace `torch.nn.functional.dropout` in the whole process."""
    # A TorchFunctionMode would be narrower, but slows down every torch call, which a small model notices.
    stock = functional.dropout
    functional.dropout = dropout
    try:
        yield
    finally:
        functional.dropout = stock


def dropout(input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    """torch's dropout with the rate `p` rounded to a multiple of 1 / LEVELS; never in place. At a rate of 1 all is 0."""
    return _Drop.apply(input, round(p * LEVELS)) if training and p else input


class _Drop(torch.autograd.Function):
    """Multiplies each value, and its gradient, by 0 or 1 / (1 - rate)."""

    @staticmethod
    def forward(context: Any, value: torch.Tensor, dropped: int) -> torch.Tensor:
        if dropped == LEVELS:  # the factor of what survives would be infinite
            factor = torch.zeros_like(value)
            context.save_for_backward(factor)
            return factor.clone()
        count = value.numel()
        # One draw of 64 bits serves four values: drawing is what makes torch's dropout slow on a CPU.
        drawn = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        surviving = drawn.view(torch.int16)[:count].view(value.shape) >= dropped - LEVELS // 2
        factor = surviving.to(value.dtype).mul_(LEVELS / (LEVELS - dropped))
        context.save_for_backward(factor)
        return value * factor

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (factor,) = context.saved_tensors
        return gradient * factor, None


BEFORE_FEED_FORWARD = {
    **dict.fromkeys(("bert", "deberta-v2", "electra", "roberta", "roberta-prelayernorm", "xlm-roberta"), "attention"),
    "distilbert": "sa_layer_norm",
}
"""Family -> the module of a layer whose output is all that its feed-forward part reads, residual included. ModernBERT has no
such module, and its head may read every token."""


@contextmanager
def first_token(model: LanguageModel) -> Iterator[None]:
    """Within the context, the feed-forward part of the last layer is computed for first tokens alone.

    The classification head reads nothing else, so logits and gradients are the same, for a third of that layer's products.
    Nothing that reads other tokens of the last layer may run within it.
    """
    part = BEFORE_FEED_FORWARD.get(model.family)
    if part is None:
        yield
        return
    last = model.encoder.get_submodule(layer_names(model)[-1].rstrip("."))
    hook = last.get_submodule(part).register_forward_hook(_first)
    try:
        yield
    finally:
        hook.remove()


def _first(part: Any, inputs: Any, output: Any) -> Any:
    return (output[0][:, :1], *output[1:]) if isinstance(output, tuple) else output[:, :1]
