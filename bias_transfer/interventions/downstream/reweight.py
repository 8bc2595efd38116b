"""Reweight: each training example counts by how rare its group is among those of its label (Kamiran and Calders 2012)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from fractions import Fraction

from datasets import Dataset, Features, Value

from bias_transfer.errors import UserError
from bias_transfer.hashing import derive_seed
from bias_transfer.spec import Options
from bias_transfer.tasks.base import WEIGHT, Groups
from bias_transfer.training.sampling import shuffled

Membership = Callable[[Dataset], Sequence[Hashable]]
"""Training set -> the one group of each example."""


class ReweightOptions(Options):
    """`downstream.NAME` for `downstream: reweight`."""

    joint: bool = False
    """Weights 1 / P(g, y), by which all pairs of group and label count alike (Han et al. 2022). The default, P(g) P(y) /
    P(g, y), leaves the shares of groups and of labels as they are."""
    control: bool = False
    """The same weights, shuffled within each label."""


def weigh(membership: Membership, train: Dataset, dose: float, options: ReweightOptions, seed: int) -> Dataset:
    """The training set with the column `WEIGHT`, 1 + dose x (w - 1); without it where all weights are 1.

    w: `weights`. No example leaves the set or enters it. The seed draws the control's shuffle, which is the same at every dose.
    """
    labels = train["label"][:]
    full = weights(membership(train), labels, options.joint)
    if options.control:
        full = _shuffled_within(labels, full, train["id"][:], derive_seed(seed, "downstream", "reweight"))
    weighed = [1 + dose * (weight - 1) for weight in full]
    if all(weight == 1 for weight in weighed):
        return train
    features = Features({**train.features, WEIGHT: Value("float64")})
    return Dataset.from_dict(train.to_dict() | {WEIGHT: weighed}, features=features)


def weights(members: Sequence[Hashable], labels: Sequence[int], joint: bool) -> list[float]:
    """P(g) P(y) / P(g, y) of each example (Kamiran and Calders 2012), or 1 / P(g, y), divided by its mean over the
    set: above 0, mean 1. members, labels: (examples,).

    Without `joint`, group and label are independent in the weighted set; it equals 1 for all where they already are.
    """
    cells, of_group, of_label = Counter(zip(members, labels, strict=True)), Counter(members), Counter(labels)
    total = len(labels)
    # Fractions: where group and label are independent, each weight is exactly 1, and the arm is seen to change nothing.
    raw = {
        (group, label): Fraction(1 if joint else of_group[group] * of_label[label], count)
        for (group, label), count in cells.items()
    }
    mean = sum(raw[cell] * count for cell, count in cells.items()) / total
    return [float(raw[cell] / mean) for cell in zip(members, labels, strict=True)]


def _shuffled_within(labels: Sequence[int], full: Sequence[float], identifiers: Sequence[str], key: int) -> list[float]:
    result = list(full)
    for label in sorted(set(labels)):
        rows = [row for row, of_row in enumerate(labels) if of_row == label]
        order = shuffled([identifiers[row] for row in rows], key, 0)
        for row, place in zip(rows, order, strict=True):
            result[row] = full[rows[place]]
    return result


def pronouns(train: Dataset) -> Sequence[Hashable]:
    """BIOS: the pronoun."""
    return list(train["pronoun"][:])


def mentions(groups: Groups) -> Membership:
    """WIKI: whether the text mentions a group."""
    return lambda train: [bool(names) for names in groups.of(train)]


def disjoint(groups: Groups) -> Membership:
    """Custom tasks: the group, or none. Raises UserError where an example belongs to several."""

    def members(train: Dataset) -> Sequence[Hashable]:
        names = groups.of(train)
        if several := [number for number, of_row in enumerate(names) if len(of_row) > 1]:
            first, second = names[several[0]][:2]
            raise UserError(
                f"downstream reweight: {len(several)} examples belong to several groups ({first!r} and {second!r}, for "
                "one), and a weight is that of one group. Use another downstream arm, or groups that a column gives."
            )
        return names

    return members
