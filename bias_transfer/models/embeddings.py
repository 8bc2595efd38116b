"""Hidden states of the encoder: one vector a text, or one a token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
import torch

from bias_transfer.models.batching import encode
from bias_transfer.models.batching import length_batches
from bias_transfer.models.batching import pad
from bias_transfer.models.language_model import LanguageModel

BATCH_TOKENS = 4096

Position = Literal["mean", "classifier"]
"""Which hidden states stand for a text: the mean over its tokens, or what the classification head reads."""


def embeddings(model: LanguageModel, texts: Sequence[str], position: Position, max_tokens: int) -> np.ndarray:
    """(texts, width), fp64: last hidden states at a position, in the order of the texts."""
    mean = position == "mean" or getattr(model.classifier.config, "classifier_pooling", "") == "mean"
    return _gather(model, texts, max_tokens, _mean if mean else _first)


def token_states(model: LanguageModel, texts: Sequence[str], max_tokens: int) -> np.ndarray:
    """(tokens, width), fp64: last hidden states of every token, special ones too, text by text."""
    return _gather(model, texts, max_tokens, lambda hidden, kept: hidden[kept])


def _mean(hidden: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    return hidden[kept].mean(dim=0, keepdim=True)


def _first(hidden: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    return hidden[:1]


def _gather(
    model: LanguageModel, texts: Sequence[str], max_tokens: int,
    pool: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> np.ndarray:  # fmt: skip
    found: list[np.ndarray] = [np.empty(0)] * len(texts)
    for chosen, batch, hidden in batches(model, texts, max_tokens):
        kept = batch["attention_mask"].to(hidden.device).bool()
        for row, index in enumerate(chosen):
            found[index] = pool(hidden[row], kept[row]).double().cpu().numpy()
    return np.concatenate(found)


@torch.no_grad()
def batches(
    model: LanguageModel, texts: Sequence[str], max_tokens: int, batch_tokens: int = BATCH_TOKENS
) -> Iterator[tuple[list[int], dict[str, torch.Tensor], torch.Tensor]]:
    """(positions of the texts, their padded batch, last hidden states (texts, tokens, width)) for each batch of similar
    length. The encoder is read where it lies; no text is left out."""
    rows = encode(model.tokenizer, texts, max_tokens)
    encoder = model.encoder.eval()
    for chosen in length_batches([*map(len, rows)], batch_tokens):
        batch = pad([rows[index] for index in chosen], model.tokenizer.pad_token_id)
        inputs = {name: value.to(model.masked_lm.device) for name, value in batch.items()}
        yield chosen, batch, encoder(**inputs).last_hidden_state
