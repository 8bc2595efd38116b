"""The order in which fine-tuning sees its examples: a function of the seed and the untreated set, whatever the arm."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

CHUNK = 50
"""Batches per chunk. Examples are sorted by length within a chunk: large chunks save padding, small ones keep the shuffling."""


@dataclass(frozen=True)
class Untreated:
    """The training set before the downstream arm, as far as batches depend on it."""

    ids: Sequence[str]
    lengths: Sequence[int]
    """Tokens of each example."""


def shuffled(names: Sequence[str], seed: int, epoch: int) -> list[int]:
    """Positions of `names` in a random order: sorted by a hash of (seed, epoch, name).

    Removing an example leaves the order of the others as it was, so arms that share a seed stay paired.
    """
    keys = [_key(seed, epoch, name) for name in names]
    return sorted(range(len(names)), key=lambda index: (keys[index], names[index]))


def _key(seed: int, epoch: int, name: str) -> bytes:
    return hashlib.blake2b(f"{seed}\0{epoch}\0{name}".encode(), digest_size=8).digest()


def paired_batches(
    untreated: Untreated, names: Sequence[str], size: int, seed: int, skip: int = 0
) -> Iterator[list[int]]:
    """Endless batches of positions in the treated set, without the first `skip`. names: ids of the treated set.

    They are the untreated set's batches (`train_batches`), less the examples that the arm removed. Each example that it added
    goes into one batch per epoch, drawn by the hash of (seed, epoch, id). So batch n has in every arm the same examples, as far
    as the arm left them in the set, and arms differ in the sizes of batches. A batch of which nothing is left has one example
    of the treated set, drawn by the same hash.
    """
    per_epoch = -(-len(untreated.ids) // size)
    position, added = _places(untreated.ids, names)
    numbered = enumerate(train_batches(untreated.ids, untreated.lengths, size, seed, skip), start=skip)
    for epoch, batches in itertools.groupby(numbered, key=lambda entry: entry[0] // per_epoch):
        dealt = _dealt([names[place] for place in added], per_epoch, seed, epoch)
        for number, batch in batches:
            remaining = [place for index in batch if (place := position[index]) is not None]
            remaining += [added[place] for place in dealt.get(number % per_epoch, ())]
            yield remaining or [_draw(seed, epoch, f"empty {number}", len(names))]


def _places(untreated: Sequence[str], names: Sequence[str]) -> tuple[list[int | None], list[int]]:
    """(position in the treated set of each untreated example, None if it was removed; positions of the added examples)."""
    known, place, added = set(untreated), dict[str, int](), list[int]()
    for position, name in enumerate(names):
        # A second example of the same id is an added one, so that none is lost.
        if name in known and name not in place:
            place[name] = position
        else:
            added.append(position)
    return [place.get(name) for name in untreated], added


def _dealt(names: Sequence[str], batches: int, seed: int, epoch: int) -> dict[int, list[int]]:
    """Number of a batch within its epoch -> positions of the names that go into it."""
    dealt = dict[int, list[int]]()
    for position, name in enumerate(names):
        dealt.setdefault(_draw(seed, epoch, name, batches), []).append(position)
    return dealt


def _draw(seed: int, epoch: int, name: str, count: int) -> int:
    """A number below `count`."""
    return int.from_bytes(_key(seed, epoch, name)) % count


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
