"""A linear map after the encoder's last layer, whose output both heads read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from bias_transfer.errors import UserError
from bias_transfer.models.embeddings import token_states
from bias_transfer.models.language_model import LanguageModel, top

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
