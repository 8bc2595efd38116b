"""Gaussian noise on the weights of the encoder (distribution and scale are ours)."""

from __future__ import annotations

import torch
from pydantic import Field

from bias_transfer.models.language_model import LanguageModel
from bias_transfer.models.language_model import encoder_parameters
from bias_transfer.models.language_model import padding_rows
from bias_transfer.spec import Options
from bias_transfer.errors import UserError
from bias_transfer.hashing import derive_seed
from bias_transfer.tasks.base import Context


class PerturbOptions(Options):
    """`upstream.NAME` for `upstream: perturb`."""

    draw: int | None = Field(default=None, ge=0)
    """Names the draw of the noise, to cross draws with fine-tuning seeds; None draws by the trial's seed."""


def check(model: LanguageModel, dose: float, options: PerturbOptions) -> None:
    """Raises UserError for a negative dose."""
    if not dose >= 0:
        raise UserError(f"upstream_dose {dose:g} of perturb: it is a scale of noise. Allowed: any number above 0.")


def apply(model: LanguageModel, dose: float, options: PerturbOptions, seed: int, context: Context) -> None:
    """W + dose x SD(W) x noise for weight matrices and embeddings; not on norms, biases and the padding row.

    The noise of a parameter is the same at every dose, and depends on seed and name alone.
    """
    draw = seed if options.draw is None else options.draw
    padding = padding_rows(model.encoder)
    with torch.no_grad():
        for name, weight in encoder_parameters(model).items():
            if weight.ndim < 2 or not dose:
                continue
            generator = torch.Generator().manual_seed(derive_seed(draw, "upstream", "perturb", name))
            noise = torch.randn(weight.shape, generator=generator).to(weight.device)
            if name in padding:
                noise[padding[name]] = 0
            weight.add_(noise, alpha=dose * float(weight.std()))
