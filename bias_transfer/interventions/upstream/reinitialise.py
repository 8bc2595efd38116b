"""Reinitialise: fresh weights from the architecture's own initialiser, as if the model were not pre-trained."""

from __future__ import annotations

import torch

from bias_transfer import rounding
from bias_transfer.determinism import seeded
from bias_transfer.errors import UserError
from bias_transfer.hashing import derive_seed
from bias_transfer.models.language_model import (
    AUTO,
    FINAL_NORMS,
    LanguageModel,
    encoder_parameters,
    head_parameters,
    layer_names,
)
from bias_transfer.spec import Options
from bias_transfer.tasks.base import Context

TOLERANCE = 0.01
"""How far a dose may be from k/(L+1), so that 0.33 is read as a third."""


class ReinitialiseOptions(Options):
    """No options."""


def check(model: LanguageModel, dose: float, options: ReinitialiseOptions) -> None:
    """Raises UserError for a dose that is not k/(L+1), with L the number of layers, or that rounds to k = 0."""
    if dose and not _units(model, dose):
        raise UserError(f"upstream_dose {dose:g} of reinitialise resets nothing. Use upstream: none.")


def apply(model: LanguageModel, dose: float, options: ReinitialiseOptions, seed: int, context: Context) -> None:
    """Reset the top k = dose (L + 1) of L + 1 units: the encoder's L layers and, at the bottom, its embeddings.

    Only dose 1 resets the embeddings. Any dose above 0 also resets what follows the layers: the final norm of pre-norm models
    and the language-model head, unless its weights are tied to the embeddings, which follow the rule for embeddings. The
    initial weights are drawn by the seed.
    """
    units = _units(model, dose)
    if not units:
        return
    with seeded(derive_seed(seed, "upstream", "reinitialise")):
        fresh = AUTO[model.kind].from_config(model.lm.config, dtype=torch.float32)
    layers = layer_names(model) if units <= model.lm.config.num_hidden_layers else []
    reset = (*layers[len(layers) - units :], *FINAL_NORMS)
    source = dict(fresh.base_model.named_parameters())
    with torch.no_grad():
        for name, parameter in encoder_parameters(model).items():
            if not layers or name.startswith(reset):
                parameter.copy_(source[name])
        head = dict(fresh.named_parameters())
        for name, parameter in head_parameters(model).items():
            parameter.copy_(head[name])


def _units(model: LanguageModel, dose: float) -> int:
    """k, the number of units that the dose resets."""
    layers = int(model.lm.config.num_hidden_layers)
    units = rounding.part(dose, layers + 1)
    if not 0 <= units <= layers + 1 or abs(dose - units / (layers + 1)) > TOLERANCE:
        allowed = ", ".join(f"{k / (layers + 1):.3g}" for k in range(1, layers + 2))
        raise UserError(
            f"upstream_dose {dose:g} of reinitialise is not k/{layers + 1} (the model has {layers} layers). Allowed: {allowed}."
        )
    return units
