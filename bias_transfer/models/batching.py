"""Texts -> token ids -> batches of similar length, in an order that depends on the seed and the examples alone."""

from __future__ import annotations

import hashlib
import itertools
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


def train_batches(
    names: Sequence[str], lengths: Sequence[int], size: int, seed: int, skip: int = 0
) -> Iterator[list[int]]:
    """Batches of positions without end, but for the first `skip`. Each epoch holds every example once: its order is cut in
    chunks, a chunk is sorted by length and cut in batches (the epoch's last one may be smaller), and the chunk's batches
    are shuffled."""
    epochs, within = divmod(skip, -(-len(names) // size))
    yield from itertools.islice(_train_batches(names, lengths, size, seed, epochs), within, None)


def _train_batches(
    names: Sequence[str], lengths: Sequence[int], size: int, seed: int, first: int
) -> Iterator[list[int]]:
    for epoch in itertools.count(first):
        order = shuffled(names, seed, epoch)
        for start in range(0, len(order), CHUNK * size):
            chunk = sorted(order[start : start + CHUNK * size], key=lambda index: lengths[index])
            batches = [chunk[at : at + size] for at in range(0, len(chunk), size)]
            for place in shuffled([f"{start} {number}" for number in range(len(batches))], seed, epoch):
                yield batches[place]


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
