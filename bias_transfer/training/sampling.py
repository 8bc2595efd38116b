"""The order in which fine-tuning sees its examples: a function of the seed and the examples' ids alone."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence

CHUNK = 50
"""Batches per chunk. Examples are sorted by length within a chunk: large chunks save padding, small ones keep the shuffling."""


def shuffled(names: Sequence[str], seed: int, epoch: int) -> list[int]:
    """Positions of `names` in a random order: sorted by a hash of (seed, epoch, name).

    Removing an example leaves the order of the others as it was, so arms that share a seed stay paired.
    """
    keys = [hashlib.blake2b(f"{seed}\0{epoch}\0{name}".encode(), digest_size=8).digest() for name in names]
    return sorted(range(len(names)), key=lambda index: (keys[index], names[index]))


def train_batches(
    names: Sequence[str], lengths: Sequence[int], size: int, seed: int, skip: int = 0
) -> Iterator[list[int]]:
    """Endless batches of `size` positions, without the first `skip` batches. names, lengths: id and tokens of each example.

    Each epoch contains every example once: its shuffled order is cut into chunks, each chunk is sorted by length and cut into
    batches (the epoch's last one may be smaller), and the chunk's batches are shuffled.
    """
    epochs, within = divmod(skip, -(-len(names) // size))
    yield from itertools.islice(_train_batches(names, lengths, size, seed, epochs), within, None)


def _train_batches(
    names: Sequence[str], lengths: Sequence[int], size: int, seed: int, first_epoch: int
) -> Iterator[list[int]]:
    for epoch in itertools.count(first_epoch):
        order = shuffled(names, seed, epoch)
        for start in range(0, len(order), CHUNK * size):
            chunk = sorted(order[start : start + CHUNK * size], key=lambda index: lengths[index])
            batches = [chunk[first : first + size] for first in range(0, len(chunk), size)]
            for place in shuffled([f"{start} {number}" for number in range(len(batches))], seed, epoch):
                yield batches[place]
