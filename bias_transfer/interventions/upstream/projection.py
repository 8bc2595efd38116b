"""A linear map after the encoder's last layer, whose output both heads read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from bias_transfer.errors import UserError
from bias_transfer.models.batching import encode, pad
from bias_transfer.models.embeddings import token_states
from bias_transfer.models.language_model import LanguageModel, encoder_parameters, top

PROBE_TEXTS = ("The person is here.", "It is a good day, and everyone knows it.")


def project_out(model: LanguageModel, directions: np.ndarray, strength: float, kept: bool) -> None:
    """Insert P = I - s V'V, without a bias, after the last layer and the final norm of pre-norm architectures, in place.

    directions V: (k, width), orthonormal rows; strength s in (0, 1]; kept, and errors: as in `insert`.
    """
    insert(model, _projection(directions, strength), None, kept)


def insert(model: LanguageModel, weight: np.ndarray, bias: np.ndarray | None, kept: bool) -> None:
    """Insert the map x -> weight x + bias after the last layer and the final norm of pre-norm architectures, in place.

    weight: (width, width); bias: (width,) or None; kept: the map is frozen in fine-tuning, otherwise it trains. Hidden states
    are not normalised again. Raises UserError for a family whose heads do not read this place.
    """
    layer = _layer(len(weight), bias is not None)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        if bias is not None:
            layer.bias.copy_(torch.from_numpy(bias))
    layer.requires_grad_(not kept)
    # The hook is not enough: an architecture may apply another module after it. What the heads read is compared.
    before = token_states(model, PROBE_TEXTS, 32)
    _insert(model, layer)
    expected = before @ layer.weight.detach().double().cpu().numpy().T + (0 if bias is None else bias)
    if not np.allclose(token_states(model, PROBE_TEXTS, 32), expected, atol=1e-4 * np.abs(before).max()):
        raise UserError(
            f"a projection cannot be inserted into a model of the family {model.family!r}: its heads do not read the last layer"
        )


def insert_empty(model: LanguageModel, bias: bool) -> None:
    """Insert a map whose weights are still to be loaded, into a model that had one when its weights were stored."""
    _insert(model, _layer(int(model.lm.config.hidden_size), bias))


def inserted(model: LanguageModel) -> nn.Linear | None:
    """The map that an arm inserted and that still acts; None if there is none."""
    layer = getattr(top(model), "projection", None)
    return layer if isinstance(layer, nn.Linear) else None


@torch.no_grad()
def fold(model: LanguageModel, arm: str) -> None:
    """Move the map into the first linear layer of the classification head, in place: W h becomes (W P) h. Nothing happens
    without a map. arm: the name of the arm that inserted it.

    The classifier computes the same; the encoder's states, and the language-model head, are then those without the map. Raises
    UserError for a head to which that cannot be done exactly.
    """
    layer = inserted(model)
    if layer is None:
        return
    before, reader = _logits(model), _first_reader(model)
    if reader is not None and (layer.bias is None or reader.bias is not None):
        weight = reader.weight.double()
        if layer.bias is not None:
            reader.bias.add_((weight @ layer.bias.double()).to(reader.bias.dtype))
        reader.weight.copy_(weight @ layer.weight.double())
        top(model).projection = nn.Identity()
    if inserted(model) or not np.allclose(_logits(model), before, rtol=0, atol=1e-5 * max(1.0, np.abs(before).max())):
        why = "its first layer does not read the projection alone"
        if reader is not None and reader.bias is None and layer.bias is not None:
            why = "the arm's map has a constant part, and the head's first layer has no bias to take it"
        raise UserError(
            f"the upstream arm {arm} inserts a projection behind the last layer, which no architecture of transformers has "
            f"and which cannot be folded into the classification head of the family {model.family!r}: {why}. The trial "
            "cannot be exported."
        )


def _logits(model: LanguageModel) -> np.ndarray:
    batch = pad(encode(model.tokenizer, PROBE_TEXTS, 32), model.tokenizer.pad_token_id)
    logits = model.classifier.eval()(**{name: value.to(model.lm.device) for name, value in batch.items()}).logits
    return np.asarray(logits.double().cpu().numpy())


def _first_reader(model: LanguageModel) -> nn.Linear | None:
    """The linear layer of the classification head that is called first."""
    encoder, called = {id(weight) for weight in encoder_parameters(model).values()}, list[nn.Linear]()
    layers = [
        part for part in model.classifier.modules() if isinstance(part, nn.Linear) and id(part.weight) not in encoder
    ]
    hooks = [layer.register_forward_hook(lambda part, *_: called.append(part)) for layer in layers]
    _logits(model)
    for hook in hooks:
        hook.remove()
    return called[0] if called else None


@contextmanager
def bypassed(model: LanguageModel) -> Iterator[None]:
    """Within the context, the model's heads and states are those without its projection."""
    place = top(model)
    layer, place.projection = place.projection, nn.Identity()
    try:
        yield
    finally:
        place.projection = layer


@torch.no_grad()
def replace(model: LanguageModel, directions: np.ndarray, strength: float) -> None:
    """Let the projection that the model has project out these directions, in place. Both arguments as in `project_out`."""
    top(model).projection.weight.copy_(torch.from_numpy(_projection(directions, strength)))


def removed_rank(model: LanguageModel) -> int:
    """The number of dimensions in which the model's inserted map differs from the identity."""
    weight = top(model).projection.weight.detach().double().cpu().numpy()
    return int(np.linalg.matrix_rank(np.eye(len(weight)) - weight, tol=1e-4))


def _projection(directions: np.ndarray, strength: float) -> np.ndarray:
    return np.asarray(np.eye(directions.shape[1]) - strength * directions.T @ directions)


def _layer(width: int, bias: bool) -> nn.Linear:
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, width, width, bias=bias)
    return layer


def _insert(model: LanguageModel, layer: nn.Linear) -> None:
    place = top(model)
    place.projection = layer.to(model.lm.device)
    place.register_forward_hook(_through_projection)


def _through_projection(module: Any, inputs: Any, output: Any) -> Any:
    if isinstance(output, tuple):
        return (module.projection(output[0]), *output[1:])
    return module.projection(output)
