"""Texts -> token ids -> batches of similar length, in an order that depends on the seed and the examples alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import torch

CHUNK = 50
"""Batches that are sorted by length together: wide enough for little padding, narrow enough to stay shuffled."""

Tokens = list[list[int]]


def encode(tokenizer: object, texts: Sequence[str], max_tokens: int) -> Tokens:
    """Token ids of each text with the model's special tokens, cut to `max_tokens`, not padded."""
    return list(tokenizer(list(texts), truncation=True, max_length=max_tokens)["input_ids"]) if texts else []  # type: ignore[operator]


def pad(rows: Sequence[Sequence[int]], padding: int) -> dict[str, torch.Tensor]:
    """input_ids and attention_mask: (rows, longest row), both int64."""
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[padding] * (width - len(row))] for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    return {"input_ids": ids, "attention_mask": (torch.arange(width) < lengths[:, None]).long()}


def shuffled(names: Sequence[str], seed: int, epoch: int) -> list[int]:
    """Positions of the examples, sorted by a hash of (seed, epoch, name).

    An example that an arm removes leaves the order of the others as it was, so arms stay paired.
    """
    keys = [hashlib.blake2b(f"{seed}\0{epoch}\0{name}".encode(), digest_size=8).digest() for name in names]
    return sorted(range(len(names)), key=lambda index: (keys[index], names[index]))


def train_batches(names: Sequence[str], lengths: Sequence[int], size: int, seed: int) -> Iterator[list[int]]:
    """Batches of positions without end: an epoch's order is cut in chunks, a chunk is sorted by length and cut in
    batches, and the chunk's batches are shuffled. The last batch of an epoch is filled from the next epoch."""
    epoch, queue = 0, list[int]()
    while True:
        while len(queue) < CHUNK * size:
            queue += shuffled(names, seed, epoch)
            epoch += 1
        chunk, queue = sorted(queue[: CHUNK * size], key=lambda index: lengths[index]), queue[CHUNK * size :]
        for batch in shuffled([str(number) for number in range(CHUNK)], seed, epoch + len(queue)):
            yield chunk[batch * size : (batch + 1) * size]


def length_batches(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Batches of positions, sorted by length, of at most `tokens` tokens with padding (and at least one row)."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        if batch and (len(batch) + 1) * lengths[index] > tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
