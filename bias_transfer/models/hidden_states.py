"""What the encoder makes of texts: hidden states after its last layer, at the places that are compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch

from bias_transfer.models.embeddings import batches
from bias_transfer.models.language_model import LanguageModel

Position = Literal["first", "mean", "mask"]
"""first: the first token, which the classifier reads; mean: over the text's own tokens; mask: the text's {mask}."""

MOST_TOKENS = 512


@torch.no_grad()
def hidden_states(
    model: LanguageModel, texts: Sequence[str], positions: Sequence[Position], batch_tokens: int = 4096
) -> dict[Position, np.ndarray]:
    """Position -> (texts, width), fp64, in the order of the texts; what is not finite stays as it is.

    A text may hold one {mask}; for position mask it must. batch_tokens: tokens a batch with padding, on which no result
    depends. The encoder is read where it lies.
    """
    tokenizer = model.tokenizer
    filled = [text.format(mask=tokenizer.mask_token) for text in texts]
    found = {position: np.full((len(texts), model.encoder.config.hidden_size), np.nan) for position in positions}
    for chosen, batch, hidden in batches(model, filled, MOST_TOKENS, batch_tokens):
        states = hidden.double()
        for position in positions:
            read = _read(batch, tokenizer, position).to(states.device)
            total = states.masked_fill(~read[:, :, None], 0).sum(dim=1)
            found[position][chosen] = (total / read.sum(dim=1, keepdim=True)).cpu().numpy()
    return found


def _read(batch: dict[str, torch.Tensor], tokenizer: Any, position: Position) -> torch.Tensor:
    """(texts, tokens), bool: the tokens whose states are averaged. Raises ValueError for a text that has none."""
    ids = batch["input_ids"]
    if position == "first":
        read = torch.zeros_like(ids, dtype=torch.bool)
        read[:, 0] = True
    elif position == "mask":
        read = ids == tokenizer.mask_token_id
    else:
        read = (batch["attention_mask"] == 1) & ~torch.isin(ids, torch.tensor(sorted(framing_ids(tokenizer))))
    if not bool(read.any(dim=1).all()):
        raise ValueError(f"a text has no token to read at position {position!r}")
    return read


def framing_ids(tokenizer: Any) -> set[int]:
    """Ids of the tokens that are put around a text. The mask and the unknown token stand for a part of it."""
    return {*tokenizer.all_special_ids} - {tokenizer.mask_token_id, tokenizer.unk_token_id}
