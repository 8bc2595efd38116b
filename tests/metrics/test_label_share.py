"""Dataset bias by hand."""

from __future__ import annotations

import math

from bias_transfer.metrics.label_share import label_share


def test_shares_by_hand():
    rows = label_share("toxic_share", [1, 0, 1, 1], [["gay"], ["gay", "old"], ["old"], []], ["gay", "old", "deaf"])
    found = {row.group: (row.value, row.n) for row in rows}
    assert found["gay"] == (0.5, 2)
    assert found["old"] == (0.5, 2)
    assert found[""] == (0.75, 4)
    assert {row.stage for row in rows} == {"dataset"}


def test_weighted_shares_by_hand():
    """n counts examples, whatever they weigh."""
    rows = label_share("toxic_share", [1, 0, 1], [["gay"], ["gay"], []], ["gay"], [0.5, 1.5, 1.0])
    assert [(row.value, row.n) for row in rows] == [(0.25, 2), (0.5, 3)]


def test_a_group_that_is_never_mentioned_is_missing_not_0():
    (row, _) = label_share("toxic_share", [1], [["gay"]], ["deaf"])
    assert math.isnan(row.value)
    assert row.n == 0
