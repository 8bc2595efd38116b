"""A linear map behind the encoder's last layer, read by both heads."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from bias_transfer.models.embeddings import token_states
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.models.language_model import top
from bias_transfer.errors import UserError

PROBE = ("The person is here.", "It is a good day, and everyone knows it.")


def project_out(model: LanguageModel, directions: np.ndarray, strength: float, kept: bool) -> None:
    """Put P = I - s V'V behind the last layer (and the final norm of pre-norm architectures), without a bias.

    directions V: (k, width), orthonormal rows; strength s in (0, 1]; kept: P stays as it is in fine-tuning, else it trains.
    Hidden states are not normalised again. Raises UserError for a family in which the heads do not read this place.
    """
    place, width = top(model), directions.shape[1]
    layer = nn.utils.skip_init(nn.Linear, width, width, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.eye(width) - strength * directions.T @ directions))
    layer.weight.requires_grad_(not kept)
    before = token_states(model, PROBE, 32)
    place.projection = layer.to(model.masked_lm.device)
    place.register_forward_hook(_through_projection)
    expected = before @ layer.weight.detach().double().cpu().numpy().T
    if not np.allclose(token_states(model, PROBE, 32), expected, atol=1e-4 * np.abs(before).max()):
        raise UserError(f"a projection cannot be put into a model of the family {model.family!r}: something follows it")


def _through_projection(module: Any, inputs: Any, output: Any) -> Any:
    if isinstance(output, tuple):
        return (module.projection(output[0]), *output[1:])
    return module.projection(output)
