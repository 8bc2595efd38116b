"""The last layer computes no more than the classification head reads: each text's first token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bias_transfer.models.language_model import LanguageModel
from bias_transfer.models.language_model import layer_names

BEFORE_FEED_FORWARD = {
    **dict.fromkeys(("bert", "deberta-v2", "electra", "roberta", "roberta-prelayernorm", "xlm-roberta"), "attention"),
    "distilbert": "sa_layer_norm",
}
"""Family -> the part of a layer whose output is all that its feed-forward part reads, the residual included. ModernBERT has no
such part, and its head may read every token."""


@contextmanager
def first_token(model: LanguageModel) -> Iterator[None]:
    """Within it, the classifier's last feed-forward part acts on first tokens alone: the same logits and gradients with two
    thirds of a layer's products less. Nothing that reads other tokens of the last layer may run."""
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


def _first(part: Any, given: Any, output: Any) -> Any:
    return (output[0][:, :1], *output[1:]) if isinstance(output, tuple) else output[:, :1]
