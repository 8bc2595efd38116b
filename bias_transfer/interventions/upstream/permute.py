"""Permute: shuffle the entries of each weight matrix, which keeps their distribution and destroys everything else."""

from __future__ import annotations

import torch

from bias_transfer.errors import UserError
from bias_transfer.hashing import derive_seed
from bias_transfer.models.language_model import LanguageModel, encoder_parameters, padding_rows
from bias_transfer.spec import Options
from bias_transfer.tasks.base import Context


class PermuteOptions(Options):
    """No options."""


def check(model: LanguageModel, dose: float, options: PermuteOptions) -> None:
    """Raises UserError for any dose but 0 and 1."""
    if dose not in (0, 1):
        raise UserError(f"upstream_dose {dose:g} of permute: weights are either shuffled or not. Allowed: 1.")


def apply(model: LanguageModel, dose: float, options: PermuteOptions, seed: int, context: Context) -> None:
    """Shuffle the entries of each weight matrix and embedding of the encoder, but not norms, biases and padding rows."""
    if not dose:
        return
    padding = padding_rows(model.encoder)
    with torch.no_grad():
        for name, weight in encoder_parameters(model).items():
            if weight.ndim < 2:
                continue
            generator = torch.Generator().manual_seed(derive_seed(seed, "upstream", "permute", name))
            shuffled = torch.ones(len(weight), dtype=torch.bool)
            if name in padding:
                shuffled[padding[name]] = False
            entries = weight[shuffled].flatten()
            order = torch.randperm(len(entries), generator=generator).to(weight.device)
            weight[shuffled] = entries[order].reshape(-1, *weight.shape[1:])
