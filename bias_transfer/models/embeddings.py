"""Hidden states after the encoder's last layer, as vectors of texts or of tokens.

Two kinds of position are in use, and their means differ. A `PoolingPosition` says how a whole text becomes one vector, as
SentDebias and the classification head pool it: its mean counts special tokens. A `TokenPosition` says which tokens a metric
reads: its mean leaves out the special tokens around the text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch

from bias_transfer.models.batching import MOST_TOKENS, encode, length_batches, pad
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.models.lm_head import SLOT, TokenPosition, framing_ids

BATCH_TOKENS = 4096

PoolingPosition = Literal["mean", "classifier"]
"""mean: the mean over all tokens of the text, special tokens included. classifier: the state that the classification head
reads, which is the first token, that same mean for a head with mean pooling (ModernBERT), or the last token of a causal
model."""


def embeddings(model: LanguageModel, texts: Sequence[str], position: PoolingPosition, max_tokens: int) -> np.ndarray:
    """One vector per text, (texts, width), fp64, in the order of the texts, each truncated to `max_tokens` tokens."""
    mean = position == "mean" or getattr(model.classifier.config, "classifier_pooling", "") == "mean"
    one = _last if model.kind == "causal" else _first
    return _gather(model, texts, max_tokens, _mean if mean else one)


def token_states(model: LanguageModel, texts: Sequence[str], max_tokens: int) -> np.ndarray:
    """One vector per token, (tokens of all texts, width), fp64, text by text, special tokens included."""
    return _gather(model, texts, max_tokens, lambda hidden, attended: hidden[attended])


def _mean(hidden: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
    return hidden[attended].mean(dim=0, keepdim=True)


def _first(hidden: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
    return hidden[:1]


def _last(hidden: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
    return hidden[attended][-1:]


def _gather(
    model: LanguageModel, texts: Sequence[str], max_tokens: int,
    pool: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> np.ndarray:  # fmt: skip
    """What `pool` makes of each text, concatenated. pool: (tokens, width), (tokens,) bool, true for tokens -> (k, width)."""
    vectors: list[np.ndarray] = [np.empty(0)] * len(texts)
    for chosen, batch, hidden in batches(model, texts, max_tokens):
        attended = batch["attention_mask"].to(hidden.device).bool()
        for row, index in enumerate(chosen):
            vectors[index] = pool(hidden[row], attended[row]).double().cpu().numpy()
    return np.concatenate(vectors)


@torch.no_grad()
def hidden_states(
    model: LanguageModel, texts: Sequence[str], positions: Sequence[TokenPosition], batch_tokens: int = BATCH_TOKENS
) -> dict[TokenPosition, np.ndarray]:
    """One vector per text and position: position -> (texts, width), fp64, in the order of the texts.

    A text may contain one {mask}, and must for the position `mask`. A causal model reads the text before the {mask}. States
    that are not finite are returned as they are. batch_tokens: tokens per batch, padding included; it bounds memory and changes
    no result beyond rounding. Raises ValueError for a text that has no token at a position.
    """
    tokenizer = model.tokenizer
    if model.kind == "causal":
        filled = [text.partition(SLOT)[0].rstrip() for text in texts]
    else:
        filled = [text.format(mask=tokenizer.mask_token) for text in texts]
    vectors = {position: np.full((len(texts), model.encoder.config.hidden_size), np.nan) for position in positions}
    for chosen, batch, hidden in batches(model, filled, MOST_TOKENS, batch_tokens):
        states = hidden.double()
        for position in positions:
            read = _tokens_at(batch, tokenizer, position).to(states.device)
            # masked_fill instead of a product: 0 x NaN would spread to texts that do not read the token.
            total = states.masked_fill(~read[:, :, None], 0).sum(dim=1)
            vectors[position][chosen] = (total / read.sum(dim=1, keepdim=True)).cpu().numpy()
    return vectors


def _tokens_at(batch: dict[str, torch.Tensor], tokenizer: Any, position: TokenPosition) -> torch.Tensor:
    """(texts, tokens), bool: the tokens whose states are averaged. Raises ValueError for a text that has none."""
    ids = batch["input_ids"]
    if position == "first":
        read = torch.zeros_like(ids, dtype=torch.bool)
        read[:, 0] = True
    elif position == "last":
        read = torch.nn.functional.one_hot(batch["attention_mask"].sum(dim=1) - 1, ids.shape[1]).bool()
    elif position == "mask":
        read = ids == tokenizer.mask_token_id
    else:
        read = (batch["attention_mask"] == 1) & ~torch.isin(ids, torch.tensor(sorted(framing_ids(tokenizer))))
    if not bool(read.any(dim=1).all()):
        raise ValueError(f"a text has no token to read at position {position!r}")
    return read


@torch.no_grad()
def batches(
    model: LanguageModel, texts: Sequence[str], max_tokens: int, batch_tokens: int = BATCH_TOKENS
) -> Iterator[tuple[list[int], dict[str, torch.Tensor], torch.Tensor]]:
    """Run the encoder over all texts in batches of similar length, on the device where it is.

    Yields the batch's positions in `texts`, its `pad`ded input on the CPU, and its last hidden states (texts, tokens, width).
    """
    rows = encode(model.tokenizer, texts, max_tokens)
    encoder = model.encoder.eval()
    for chosen in length_batches([*map(len, rows)], batch_tokens):
        batch = pad([rows[index] for index in chosen], model.tokenizer.pad_token_id)
        inputs = {name: value.to(model.masked_lm.device) for name, value in batch.items()}
        options = {"use_cache": False} if model.kind == "causal" else {}
        yield chosen, batch, encoder(**inputs, **options).last_hidden_state
