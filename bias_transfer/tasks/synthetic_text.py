"""Shared by the generators of synthetic texts: random streams, evenly spaced shares, exact counts, templates with slots."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import TypeVar

from bias_transfer.hashing import derive_seed

Group = TypeVar("Group")


def random_of(world: int, *names: str) -> Random:
    """The random generator of the stream with that name, in that world (`data.world`)."""
    return Random(derive_seed(world, "synthetic", *names))  # noqa: S311 - no secret


def spaced(groups: Sequence[str], mean: float, spread: float, order: Random) -> dict[str, float]:
    """Group -> its share: evenly spaced from mean - spread to mean + spread, in an order of the groups that `order` draws."""
    names = list(groups)
    order.shuffle(names)
    return {name: mean + spread * (2 * rank / (len(names) - 1) - 1) for rank, name in enumerate(names)}


def evenly(groups: Sequence[str], count: int) -> Iterable[tuple[str, int]]:
    """(group, its part of the count): whole numbers that differ by one at most."""
    return ((name, count // len(groups) + (rank < count % len(groups))) for rank, name in enumerate(groups))


def marked(group: Group, count: int, share: float) -> list[tuple[Group, bool]]:
    """`count` pairs of the group and a flag, which is true for the share of them, rounded to a whole number."""
    return [(group, number < round(count * share)) for number in range(count)]


def fill(random: Random, template: str, words: Mapping[str, Sequence[str]], given: Mapping[str, str]) -> str:
    """The template with each {slot} filled by the given word, or else by one of its words; "a" becomes "an" before a vowel."""
    text = re.sub(r"{(\w+)}", lambda slot: given.get(slot[1]) or random.choice(words[slot[1]]), template)
    return re.sub(r"\b([Aa])(?= [aeio])", r"\1n", text)
