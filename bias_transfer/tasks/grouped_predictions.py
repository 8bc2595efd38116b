"""What a classifier said of a set of examples, by whom they are about."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from bias_transfer.metrics.error_rates import Key
from bias_transfer.metrics.error_rates import Rows
from bias_transfer.metrics.error_rates import by_group

WHOLE: Key = ("", "")
"""All examples of a set."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What the classifier said of one set, and whom its examples are about."""

    margins: np.ndarray
    """(examples,), in logits: above 0 is a call of harmful."""
    labels: np.ndarray
    """(examples,), 1 = harmful."""
    rows: Mapping[Key, Rows]
    """`WHOLE`; (group, "") for a group; (group, family) and ("", part) for parts of the set."""

    @property
    def terms(self) -> dict[str, Rows]:
        """Group -> its examples."""
        return by_group(self.rows)

    def negatives(self, key: Key) -> np.ndarray:
        """(members,): the margins of the harmless ones."""
        rows = self.rows[key]
        own: np.ndarray = self.margins[rows[self.labels[rows] == 0]]
        return own


def rows_by(keys: Iterable[Iterable[Key]]) -> dict[Key, Rows]:
    """keys: those of each example in turn."""
    found = defaultdict[Key, list[int]](list)
    for row, own in enumerate(keys):
        for key in own:
            found[key].append(row)
    return {key: np.array(rows, dtype=np.intp) for key, rows in found.items()}
