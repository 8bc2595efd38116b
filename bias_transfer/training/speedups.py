"""Faster ways to compute the same fine-tuning: on a CPU, where some of torch's kernels are slow, and in the last layer.

docs/performance.md has the measurements.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from bias_transfer.models.language_model import LanguageModel, layer_names
from bias_transfer.spec import Trial

LEVELS = 2**16
"""The rate of dropout is rounded to a multiple of 1 / LEVELS: 0.1 becomes 0.100006."""


@contextmanager
def tuned(classifier: Any, trial: Trial, device: str) -> Iterator[None]:
    """Within the context, on a CPU: the model's dropout draws 16 bits per value, and its attention in bf16 is computed by plain
    matrix products, since torch's fused kernel takes up to five times as long there. On leaving, everything is restored."""
    with ExitStack() as stack:
        if device == "cpu":
            stack.enter_context(_faster_dropout(classifier))
            if trial.precision == "bf16":
                stack.enter_context(_plain_attention(classifier))
        yield


PLAIN = "bias_transfer_plain"
"""The name under which transformers knows `attend`."""


def attend(
    module: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: torch.Tensor | None,
    scaling: float | None = None, dropout: float = 0.0, **unused: Any,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Attention by plain matrix products with this file's dropout, in the form that transformers asks for.

    query: (texts, heads, tokens, width of a head); key, value: the same, or fewer heads, each of which serves as many
    neighbouring query heads; attention_mask: added to the scores. Returns (texts, tokens, heads, width of a head) and the
    weights.
    """
    scale = query.size(-1) ** -0.5 if scaling is None else scaling
    # The queries that share a key stand below each other in one product, so that no key is copied.
    shared = (query.size(0), key.size(1), -1, query.size(-1))
    scores = torch.matmul(query.reshape(shared), key.transpose(2, 3)).view(*query.shape[:3], -1) * scale
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = fast_dropout(functional.softmax(scores, dim=-1), dropout, module.training)
    attended = torch.matmul(weights.view(*shared[:3], weights.size(-1)), value).view(query.shape)
    return attended.transpose(1, 2).contiguous(), weights


@contextmanager
def _plain_attention(classifier: Any) -> Iterator[None]:
    configs = {id(part.config): part.config for part in classifier.modules() if hasattr(part, "config")}.values()
    before = [config._attn_implementation for config in configs]
    # Imported late: with SciPy it takes a second. To register again changes nothing.
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    AttentionInterface.register(PLAIN, attend)
    AttentionMaskInterface.register(PLAIN, eager_mask)
    # DeBERTa has attention of its own, in plain products and with modules for dropout.
    classifier.set_attn_implementation(PLAIN if classifier._supports_attention_backend else "eager")
    try:
        yield
    finally:
        for config, name in zip(configs, before, strict=True):
            config._attn_implementation = name


@contextmanager
def _faster_dropout(classifier: nn.Module) -> Iterator[None]:
    """Let the model's own dropout modules call `fast_dropout`, and no other's."""
    modules = [part for part in classifier.modules() if type(part) is nn.Dropout]
    for part in modules:
        part.forward = partial(_forward, part)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for part in modules:
            del part.forward


def _forward(part: nn.Dropout, value: torch.Tensor) -> torch.Tensor:
    return fast_dropout(value, part.p, part.training)


def fast_dropout(value: torch.Tensor, rate: float, training: bool = True) -> torch.Tensor:
    """torch's dropout with the rate rounded to a multiple of 1 / LEVELS; never in place. At a rate of 1 all is 0."""
    return _Drop.apply(value, round(rate * LEVELS)) if training and rate else value


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
