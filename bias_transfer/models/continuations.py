"""How likely a causal language model finds a few continuations of many texts that begin alike.

Keys and values of the common beginning are computed once for all texts, and those of the rest of a text once for all of its
continuations. Only texts of one length are read together, so nothing is padded before a continuation, and no mask is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import Cache, DynamicLayer

from bias_transfer.errors import UserError, first_line
from bias_transfer.models.batching import Tokens, equal_length_batches, pad
from bias_transfer.models.causal_head import LOGITS

SHARED = 16
"""A forward pass attends to at most this many times the tokens that it may read: each text of a batch has its own copy of the
common beginning while a layer attends to it."""

TOLERANCE = 1e-3
"""Largest difference, in nats, between answers with reused keys and values and answers without (`check`)."""


KeysValues = tuple[torch.Tensor, torch.Tensor]
"""Of one layer, (1, heads, tokens, width of a head) each."""


class _Layer(DynamicLayer):
    """One layer's keys and values of a batch of texts: those of the common beginning, stored once, and each text's own."""

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, beginning: KeysValues) -> None:
        super().__init__()
        self.beginning = beginning

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """All keys and values, (texts, heads, tokens, width of a head), after the new ones were stored."""
        keys, values = super().update(key_states, value_states, *args, **kwargs)
        return _after(self.beginning[0], keys), _after(self.beginning[1], values)

    def get_seq_length(self) -> int:
        """Tokens read so far, per text."""
        return self.beginning[0].shape[-2] + super().get_seq_length()

    def repeated(self, texts: slice, times: int) -> _Layer:
        """Some of the texts, each of them `times` times in a row."""
        layer = _Layer(self.beginning)
        layer.lazy_initialization(self.keys, self.values)
        layer.keys, layer.values = (own[texts].repeat_interleave(times, dim=0) for own in (self.keys, self.values))
        return layer


def _after(beginning: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    return torch.cat([beginning.expand(len(own), -1, -1, -1), own], dim=-2)


@dataclass(frozen=True, eq=False)
class Beginning:
    """What several texts begin with, read by a model."""

    tokens: Sequence[int]
    layers: Sequence[KeysValues]


@torch.no_grad()
def read(lm: Any, tokens: Sequence[int]) -> Beginning:
    """Keys and values of the tokens, which are at least one."""
    cache = Cache(layer_class_to_replicate=DynamicLayer)
    lm(torch.tensor([[*tokens]], device=lm.device), past_key_values=cache, use_cache=True, logits_to_keep=1)
    layers: Sequence[Any] = cache.layers
    return Beginning(tokens, [(layer.keys, layer.values) for layer in layers])


@torch.no_grad()
def log_likelihoods(
    lm: Any, beginning: Beginning, rows: Tokens, tails: Sequence[Sequence[int]], tokens: int
) -> np.ndarray:
    """(rows, tails), in nats, fp32: the sum over the tokens of each tail of ln p(token | beginning, row, tail so far).

    rows: what follows the beginning in each text, at least one token; tokens: of the rows, per forward pass. No result depends
    on it beyond rounding.
    """

    def size(length: int) -> int:
        attended = SHARED * tokens // (len(beginning.tokens) + length)
        return max(1, min(tokens // length, attended, LOGITS // int(lm.config.vocab_size)))

    found = np.empty((len(rows), len(tails)), dtype=np.float32)
    for chosen in equal_length_batches([*map(len, rows)], size):
        batch = torch.tensor([rows[index] for index in chosen], device=lm.device)
        found[chosen] = _of_batch(lm, beginning, batch, tails).cpu().numpy()
    return found


def _of_batch(lm: Any, beginning: Beginning, batch: torch.Tensor, tails: Sequence[Sequence[int]]) -> torch.Tensor:
    """(rows, tails). batch: (rows, tokens)."""
    layers = [_Layer(layer) for layer in beginning.layers]
    logits = lm(batch, past_key_values=Cache([*layers]), use_cache=True, logits_to_keep=1).logits
    first = torch.tensor([[[tail[0] for tail in tails]]], device=batch.device).expand(len(batch), 1, -1)
    total = _log_p(logits, first)[:, 0]
    if longer := [number for number, tail in enumerate(tails) if len(tail) > 1]:
        total[:, longer] += _of_rest(lm, layers, len(batch), [tails[number] for number in longer])
    return total


def _of_rest(lm: Any, layers: Sequence[_Layer], rows: int, tails: Sequence[Sequence[int]]) -> torch.Tensor:
    """(rows, tails): the sum over all tokens of each tail but the first, of rows that `layers` have read."""
    read_, targets = (pad([tail[side] for tail in tails], 0) for side in (slice(0, -1), slice(1, None)))
    counted = targets["attention_mask"].to(lm.device)
    found = list[torch.Tensor]()
    step = max(1, LOGITS // (counted.numel() * lm.config.vocab_size))
    for start in range(0, rows, step):
        count = min(step, rows - start)
        ids, wanted = (
            side["input_ids"].to(lm.device).repeat(count, 1) for side in (read_, targets)
        )  # a row with each of its tails in turn
        cache = Cache([layer.repeated(slice(start, start + count), len(tails)) for layer in layers])
        log_p = _log_p(lm(ids, past_key_values=cache, use_cache=True).logits, wanted[:, :, None])[:, :, 0]
        found.append((log_p.reshape(count, *counted.shape) * counted).sum(dim=-1))
    return torch.cat(found)


def _log_p(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """(rows, places, tokens): ln p. logits: (rows, places, vocabulary); tokens: (rows, places, tokens)."""
    values = logits.float()
    return values.gather(-1, tokens) - values.logsumexp(dim=-1, keepdim=True)


@torch.no_grad()
def check(lm: Any, family: str) -> None:
    """Raises UserError for a model that does not give the same answers with reused keys and values as without."""
    beginning, row, tail = [5, 6, 7], [6, 5], [7, 6]
    try:
        plain = lm(torch.tensor([[*beginning, *row, *tail]]), use_cache=False).logits[:, -3:-1]
        wanted = float(_log_p(plain, torch.tensor([tail])[:, :, None]).sum())
        found = float(log_likelihoods(lm, read(lm, beginning), [row], [tail], 16)[0, 0])
    except Exception as error:  # every architecture raises its own error
        raise UserError(f"{_refusal(family)} ({first_line(error)}). {INSTEAD}") from error
    if not abs(found - wanted) < TOLERANCE:
        raise UserError(f"{_refusal(family)} ({found:.4f} nats with them, {wanted:.4f} without). {INSTEAD}")


def _refusal(family: str) -> str:
    return (
        f"tuning: prompt: a model of the family {family!r} does not answer alike when keys and values of what stands before a "
        f"text are reused"
    )


INSTEAD = "Allowed for it: full, frozen, lora."
