"""A classifier's predictions on a set of examples, with the groups that the examples are about."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bias_transfer.metrics.error_rates import Key, Rows, pooled_by_group
from bias_transfer.metrics.thresholds import margin
from bias_transfer.tasks.base import Predicted

WHOLE: Key = ("", "")
"""All examples of a set."""


@dataclass(frozen=True, eq=False)
class GroupedPredictions:
    """The predictions on one set of examples of a task with a harmful class, and whom its examples are about."""

    margins: np.ndarray
    """(examples,), in logits: above 0 the classifier calls the example harmful."""
    labels: np.ndarray
    """(examples,): 1 = harmful, 0 = harmless."""
    rows: Mapping[Key, Rows]
    """`WHOLE`; (group, "") for a group; (group, family) and ("", part) for other parts of the set."""

    @property
    def groups(self) -> dict[str, Rows]:
        """Group -> the rows of its examples."""
        return pooled_by_group(self.rows)

    def negatives(self, key: Key) -> np.ndarray:
        """(members,): the margins of the harmless examples under this key."""
        rows = self.rows[key]
        return np.asarray(self.margins[rows[self.labels[rows] == 0]])

    def negatives_by_group(self) -> dict[str, np.ndarray]:
        """Group -> the margins of its harmless examples."""
        return {group: self.negatives((group, "")) for group in self.groups}


def grouped(
    predicted: Predicted, rows: Mapping[Key, Rows], expected: Iterable[Key], harmful: int = 1
) -> GroupedPredictions:
    """The predictions with their groups.

    expected: keys that are there even if no example has them, in this order; harmful: the label of the harmful class.
    """
    labels = (np.array(predicted.examples["label"][:]) == harmful).astype(int)
    # A group without examples must be reported as missing (NaN with n = 0) and not be left out.
    empty = dict.fromkeys(expected, np.array([], dtype=np.intp))
    return GroupedPredictions(
        margin(predicted.logits, harmful), labels, empty | dict(rows) | {WHOLE: np.arange(len(labels))}
    )


def rows_by(keys: Iterable[Iterable[Key]]) -> dict[Key, Rows]:
    """Key -> the rows of the examples that have it. keys: those of each example in turn."""
    rows = defaultdict[Key, list[int]](list)
    for row, keys_of_example in enumerate(keys):
        for key in keys_of_example:
            rows[key].append(row)
    return {key: np.array(numbers, dtype=np.intp) for key, numbers in rows.items()}


def rows_by_group(members: Iterable[Sequence[str]], outside: Key) -> dict[Key, Rows]:
    """(group, "") -> the rows of its examples; `outside` -> those of the examples that belong to no group.

    members: the groups of each example in turn.
    """
    return rows_by([(group, "") for group in groups] or [outside] for groups in members)
