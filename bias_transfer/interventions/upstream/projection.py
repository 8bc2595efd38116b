"""A linear map after the encoder's last layer, whose output both heads read."""

from __future__ import annotations

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

    directions V: (k, width), orthonormal rows; strength s in (0, 1]; kept: P is frozen in fine-tuning, otherwise it trains.
    Hidden states are not normalised again. Raises UserError for a family whose heads do not read this place.
    """
    layer = _layer(directions.shape[1])
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.eye(len(layer.weight)) - strength * directions.T @ directions))
    layer.weight.requires_grad_(not kept)
    # The hook is not enough: an architecture may apply another module after it. What the heads read is compared.
    before = token_states(model, PROBE_TEXTS, 32)
    _insert(model, layer)
    expected = before @ layer.weight.detach().double().cpu().numpy().T
    if not np.allclose(token_states(model, PROBE_TEXTS, 32), expected, atol=1e-4 * np.abs(before).max()):
        raise UserError(
            f"a projection cannot be inserted into a model of the family {model.family!r}: its heads do not read the last layer"
        )


def insert_empty(model: LanguageModel) -> None:
    """Insert a map whose weights are still to be loaded, into a model that had one when its weights were stored."""
    _insert(model, _layer(int(model.lm.config.hidden_size)))


def _layer(width: int) -> nn.Linear:
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, width, width, bias=False)
    return layer


def _insert(model: LanguageModel, layer: nn.Linear) -> None:
    place = top(model)
    place.projection = layer.to(model.lm.device)
    place.register_forward_hook(_through_projection)


def _through_projection(module: Any, inputs: Any, output: Any) -> Any:
    if isinstance(output, tuple):
        return (module.projection(output[0]), *output[1:])
    return module.projection(output)
