"""Rebalance: of a group's examples, no larger a share is harmful than of all. Here by dropping harmful ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from datasets import Dataset

from bias_transfer.training.sampling import shuffled
from bias_transfer.spec import Options
from bias_transfer.errors import UserError
from bias_transfer.hashing import derive_seed
from bias_transfer.tasks.base import Groups


class RebalanceOptions(Options):
    """`downstream.NAME` for `downstream: rebalance` on an own task."""

    control: bool = False
    """Drop as many harmful examples that belong to no group instead."""


def stream_of(seed: int) -> int:
    """The arm's stream."""
    return derive_seed(seed, "downstream", "rebalance")


def harmful_shares(groups: Groups, train: Dataset, dose: float, options: RebalanceOptions, seed: int) -> Dataset:
    """With each group's harmful share brought towards the set's, by `dose` of the way. Only groups above it are treated.

    Which examples is drawn by the seed; a smaller dose drops a subset of what a larger one does. An example of several groups
    counts for each, so that some end a little below. Raises UserError if the control lacks examples.
    """
    dropped = _dropped(groups, train, dose, options.control, stream_of(seed))
    return train.select([row for row in range(len(train)) if row not in dropped])


def _dropped(groups: Groups, train: Dataset, dose: float, control: bool, key: int) -> set[int]:
    identifiers, named = train["id"][:], groups.of(train)
    harmful = [row for row, label in enumerate(train["label"][:]) if label == groups.harmful]
    members = [row for row in harmful if named[row]]
    chosen = choose(members, lambda row: named[row], surplus(groups, train), identifiers, dose, key)
    if not control:
        return set(chosen)
    others = in_order([row for row in harmful if not named[row]], identifiers, key)
    if len(others) < len(chosen):
        raise UserError(
            f"downstream rebalance, control: {len(chosen)} {groups.examples} are to go {groups.outside}, and there are "
            f"{len(others)}. Lower downstream_dose."
        )
    return set(others[: len(chosen)])


def counts(groups: Groups, train: Dataset) -> dict[str, tuple[int, int]]:
    """(harmful, other) examples of each group whose harmful share is above the set's."""
    harmful, other = Counter[str](), Counter[str]()
    labels = [label == groups.harmful for label in train["label"][:]]
    for own, label in zip(groups.of(train), labels, strict=True):
        (harmful if label else other).update(own)
    share = sum(labels) / len(train)
    return {
        name: (harmful[name], other[name]) for name in groups.names if harmful[name] * (1 - share) > other[name] * share
    }


def surplus(groups: Groups, train: Dataset) -> dict[str, int]:
    """Harmful examples of each group, beyond the set's share."""
    odds = _odds(groups, train)
    return {name: round(harmful - other * odds) for name, (harmful, other) in counts(groups, train).items()}


def lacking(groups: Groups, train: Dataset) -> dict[str, int]:
    """Other examples that each group lacks of the set's share."""
    odds = _odds(groups, train)
    return {name: round(harmful / odds - other) for name, (harmful, other) in counts(groups, train).items()}


def _odds(groups: Groups, train: Dataset) -> float:
    harmful = list(train["label"][:]).count(groups.harmful)
    return harmful / (len(train) - harmful)


def choose(
    rows: Sequence[int],
    groups_of: Callable[[int], Sequence[str]],
    wanted: Mapping[str, int],
    identifiers: Sequence[str] | None,
    dose: float,
    key: int,
) -> list[int]:
    """round(dose x) of the rows that together give each group as many as wanted, or all that there are."""
    found, given = list[int](), Counter[str]()
    for row in in_order(rows, identifiers, key):
        if any(given[name] < wanted.get(name, 0) for name in groups_of(row)):
            found.append(row)
            given.update(groups_of(row))
    return in_order(found, identifiers, key, 1)[: round(dose * len(found))]  # ordered anew: all groups go the same way


def in_order(rows: Sequence[int], identifiers: Sequence[str] | None, key: int, again: int = 0) -> list[int]:
    """The rows in an order that the key draws; one row's place does not depend on the others."""
    names = [str(row) if identifiers is None else identifiers[row] for row in rows]
    return [rows[place] for place in shuffled(names, key, again)]
