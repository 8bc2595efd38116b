"""Hidden states after the encoder's last layer, as vectors of texts or of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from bias_transfer.models.batching import MOST_TOKENS, encode, length_batches, pad
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.models.lm_head import SLOT, Position, framing_ids

BATCH_TOKENS = 4096


def embeddings(model: LanguageModel, texts: Sequence[str], position: Position, max_tokens: int) -> np.ndarray:
    """One vector per text, (texts, width), fp64, in the order of the texts, each truncated to `max_tokens` tokens. Unlike those
    of `hidden_states`, texts are taken as they are, braces included."""
    return _vectors(model, texts, [position], max_tokens, BATCH_TOKENS)[position]


def token_states(model: LanguageModel, texts: Sequence[str], max_tokens: int) -> np.ndarray:
    """One vector per token, (tokens of all texts, width), fp64, text by text, special tokens included."""
    states: list[np.ndarray] = [np.empty(0)] * len(texts)
    for chosen, batch, hidden in batches(model, texts, max_tokens):
        attended = batch["attention_mask"].to(hidden.device).bool()
        for row, index in enumerate(chosen):
            states[index] = hidden[row][attended[row]].double().cpu().numpy()
    return np.concatenate(states)


def hidden_states(
    model: LanguageModel, texts: Sequence[str], positions: Sequence[Position], batch_tokens: int = BATCH_TOKENS
) -> dict[Position, np.ndarray]:
    """One vector per text and position: position -> (texts, width), fp64, in the order of the texts.

    A text may contain one {mask}, and must for the position `mask`. A causal model reads the text before the {mask}. States
    that are not finite are returned as they are. batch_tokens: tokens per batch, padding included; it bounds memory and changes
    no result beyond rounding. Raises ValueError for a text that has no token at a position.
    """
    if model.kind == "causal":
        filled = [text.partition(SLOT)[0].rstrip() for text in texts]
    else:
        filled = [text.format(mask=model.tokenizer.mask_token) for text in texts]
    return _vectors(model, filled, positions, MOST_TOKENS, batch_tokens)


@torch.no_grad()
def _vectors(
    model: LanguageModel, texts: Sequence[str], positions: Sequence[Position], max_tokens: int, batch_tokens: int
) -> dict[Position, np.ndarray]:
    vectors = {position: np.full((len(texts), model.encoder.config.hidden_size), np.nan) for position in positions}
    for chosen, batch, hidden in batches(model, texts, max_tokens, batch_tokens):
        states = hidden.double()
        for position in positions:
            read = _tokens_at(batch, model, position).to(states.device)
            # masked_fill instead of a product: 0 x NaN would spread to texts that do not read the token.
            total = states.masked_fill(~read[:, :, None], 0).sum(dim=1)
            vectors[position][chosen] = (total / read.sum(dim=1, keepdim=True)).cpu().numpy()
    return vectors


def _tokens_at(batch: dict[str, torch.Tensor], model: LanguageModel, position: Position) -> torch.Tensor:
    """(texts, tokens), bool: the tokens whose states are averaged. Raises ValueError for a text that has none."""
    ids, attended = batch["input_ids"], batch["attention_mask"] == 1
    pools_all = getattr(model.encoder.config, "classifier_pooling", "") == "mean"
    if position == "classifier" and pools_all:
        read = attended
    elif position == "last" or (position == "classifier" and model.kind == "causal"):
        read = torch.nn.functional.one_hot(attended.sum(dim=1) - 1, ids.shape[1]).bool()
    elif position in ("first", "classifier"):
        read = torch.zeros_like(attended)
        read[:, 0] = True
    elif position == "mask":
        read = ids == model.tokenizer.mask_token_id
    else:
        read = attended & ~torch.isin(ids, torch.tensor(sorted(framing_ids(model.tokenizer))))
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
        inputs = {name: value.to(model.lm.device) for name, value in batch.items()}
        options = {"use_cache": False} if model.kind == "causal" else {}
        yield chosen, batch, encoder(**inputs, **options).last_hidden_state
