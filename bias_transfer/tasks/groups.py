"""Whom a task's examples are about and which of its classes does harm: what scrub and rebalance act on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from datasets import Dataset

from bias_transfer.tasks.wiki.identity_terms import TERMS
from bias_transfer.tasks.wiki.identity_terms import mentioned


@dataclass(frozen=True)
class Groups:
    """The groups of a task with one harmful class."""

    names: tuple[str, ...]
    of: Callable[[Dataset], list[tuple[str, ...]]]
    """The groups of each example in turn: none, one or several."""
    harmful: int
    """The label whose false positives harm."""
    examples: str
    """What messages call examples of that label."""
    outside: str
    """How messages go on for examples that belong to no group."""


def _identities(examples: Dataset) -> list[tuple[str, ...]]:
    return [mentioned(text) for text in examples["text"][:]]


IDENTITIES = Groups(TERMS, _identities, 1, "toxic comments", "that mention no term")
"""WIKI's."""
