"""Perturb: Gaussian noise on the weights of the encoder (distribution and scale are ours)."""

from __future__ import annotations

import torch
from pydantic import Field

from bias_transfer.errors import UserError
from bias_transfer.hashing import derive_seed
from bias_transfer.models.language_model import LanguageModel, encoder_parameters, padding_rows
from bias_transfer.spec import Options
from bias_transfer.tasks.base import Context


class PerturbOptions(Options):
    """`upstream.NAME` for `upstream: perturb`."""

    draw: int | None = Field(default=None, ge=0)
    """Seed of the noise, to cross draws with fine-tuning seeds; None: the trial's seed."""


def check(model: LanguageModel, dose: float, options: PerturbOptions) -> None:
    """Raises UserError for a negative dose."""
    if not dose >= 0:
        raise UserError(
            f"upstream_dose {dose:g} of perturb: it is the scale of the noise. Allowed: any number above 0."
        )


def apply(model: LanguageModel, dose: float, options: PerturbOptions, seed: int, context: Context) -> None:
    """Add dose x SD(W) x noise to each weight matrix and embedding W, but not to norms, biases and padding rows.

    noise: standard normal. It depends on the seed and the parameter's name alone, so it is the same at every dose.
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
