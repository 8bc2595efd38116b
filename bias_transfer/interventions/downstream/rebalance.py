"""Rebalance for any task with a harmful class: lower each group's harmful share to the whole set's, by dropping examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from datasets import Dataset

from bias_transfer import rounding
from bias_transfer.errors import UserError
from bias_transfer.hashing import derive_seed
from bias_transfer.spec import Options
from bias_transfer.tasks.base import Groups
from bias_transfer.training.sampling import shuffled


class RebalanceOptions(Options):
    """`downstream.NAME` for `downstream: rebalance` on a custom task."""

    control: bool = False
    """Drop as many harmful examples, but ones that belong to no group."""


def stream_of(seed: int) -> int:
    """The seed of the arm's random stream."""
    return derive_seed(seed, "downstream", "rebalance")


def harmful_shares(groups: Groups, train: Dataset, dose: float, options: RebalanceOptions, seed: int) -> Dataset:
    """Drop harmful examples until each group's harmful share has moved towards the whole set's by `dose` of the distance.

    Groups below the set's share are left alone. The seed draws which examples are dropped; a smaller dose drops a subset of
    what a larger one drops. An example of several groups counts for each, so that some groups end slightly below the set's
    share. Raises UserError if the control lacks examples.
    """
    dropped = _dropped(groups, train, dose, options.control, stream_of(seed))
    return train.select([row for row in range(len(train)) if row not in dropped])


def _dropped(groups: Groups, train: Dataset, dose: float, control: bool, key: int) -> set[int]:
    identifiers, groups_of = train["id"][:], groups.of(train)
    harmful = [row for row, label in enumerate(train["label"][:]) if label == groups.harmful]
    members = [row for row in harmful if groups_of[row]]
    chosen = choose(members, lambda row: groups_of[row], surplus(groups, train), identifiers, dose, key)
    if not control:
        return set(chosen)
    others = in_order([row for row in harmful if not groups_of[row]], identifiers, key)
    if len(others) < len(chosen):
        raise UserError(
            f"downstream rebalance, control: {len(chosen)} {groups.examples} {groups.outside} are needed, and there are "
            f"{len(others)}. Lower downstream_dose."
        )
    return set(others[: len(chosen)])


def counts(groups: Groups, train: Dataset) -> dict[str, tuple[int, int]]:
    """Group -> numbers of (harmful, other) examples, for each group whose harmful share is above the set's."""
    harmful, other = Counter[str](), Counter[str]()
    labels = [label == groups.harmful for label in train["label"][:]]
    for names, label in zip(groups.of(train), labels, strict=True):
        (harmful if label else other).update(names)
    share = sum(labels) / len(train)
    return {
        name: (harmful[name], other[name]) for name in groups.names if harmful[name] * (1 - share) > other[name] * share
    }


def surplus(groups: Groups, train: Dataset) -> dict[str, int]:
    """Group -> harmful examples to drop until its harmful share is the set's."""
    odds = _odds(groups, train)
    return {name: round(harmful - other * odds) for name, (harmful, other) in counts(groups, train).items()}


def lacking(groups: Groups, train: Dataset) -> dict[str, int]:
    """Group -> examples that are not harmful to add until its harmful share is the set's."""
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
    """Draw rows that give each group its `wanted` number, or all that there are; returns the share `dose` of them."""
    chosen, given = list[int](), Counter[str]()
    for row in in_order(rows, identifiers, key):
        if any(given[name] < wanted.get(name, 0) for name in groups_of(row)):
            chosen.append(row)
            given.update(groups_of(row))
    # Shuffled again, so that a smaller dose takes the same share of every group, and not whole groups first.
    return in_order(chosen, identifiers, key, 1)[: rounding.part(dose, len(chosen))]


def in_order(rows: Sequence[int], identifiers: Sequence[str] | None, key: int, draw: int = 0) -> list[int]:
    """The rows in a random order. The relative order of two rows does not depend on the others.

    identifiers: of all rows; None: their positions. key, draw: the seed, and the number of the draw by that seed.
    """
    names = [str(row) if identifiers is None else identifiers[row] for row in rows]
    return [rows[place] for place in shuffled(names, key, draw)]
