"""Shuffled weights: the distribution of each weight matrix stays, all else that was learned goes."""

from __future__ import annotations

import torch

from bias_transfer.models.language_model import LanguageModel
from bias_transfer.models.language_model import encoder_parameters
from bias_transfer.models.language_model import padding_rows
from bias_transfer.spec import Options
from bias_transfer.errors import UserError
from bias_transfer.hashing import derive_seed
from bias_transfer.tasks.base import Context


class PermuteOptions(Options):
    """It has none."""


def check(model: LanguageModel, dose: float, options: PermuteOptions) -> None:
    """Raises UserError for any dose but 0 and 1: weights are shuffled or not."""
    if dose not in (0, 1):
        raise UserError(f"upstream_dose {dose:g} of permute: its entries are shuffled or not. Allowed: 1.")


def apply(model: LanguageModel, dose: float, options: PermuteOptions, seed: int, context: Context) -> None:
    """Shuffle the entries of each weight matrix and embedding of the encoder; not norms, biases and the padding row."""
    if not dose:
        return
    padding = padding_rows(model.encoder)
    with torch.no_grad():
        for name, weight in encoder_parameters(model).items():
            if weight.ndim < 2:
                continue
            generator = torch.Generator().manual_seed(derive_seed(seed, "upstream", "permute", name))
            kept = torch.ones(len(weight), dtype=torch.bool)
            if name in padding:
                kept[padding[name]] = False
            entries = weight[kept].flatten()
            order = torch.randperm(len(entries), generator=generator).to(weight.device)
            weight[kept] = entries[order].reshape(-1, *weight.shape[1:])
