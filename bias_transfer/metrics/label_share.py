"""Bias of the fine-tuning set, measured after the downstream intervention: the share of a label per group."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bias_transfer.spec import Measure


def label_share(
    metric: str, labels: Sequence[int], members: Sequence[Sequence[str]], groups: Sequence[str],
    weights: Sequence[float] | None = None,
) -> list[Measure]:  # fmt: skip
    """P(label = 1 | group) for each group, and over all examples.

    labels: 0 or 1, per example; members: the groups of each example, any number; weights: how much each example counts, None
    for all alike. value: rate in [0, 1]; n: the group's examples, whatever they weigh. NaN with n = 0 for a group without
    examples.
    """
    weighed = list(zip(labels, weights or [1] * len(labels), strict=True))
    pairs = list(zip(weighed, members, strict=True))
    labels_of = {group: [label for label, names in pairs if group in names] for group in groups}
    return [
        Measure("dataset", metric, group, "", _share(chosen), len(chosen))
        for group, chosen in {**labels_of, "": weighed}.items()
    ]


def _share(weighed: Sequence[tuple[int, float]]) -> float:
    """The share of the weight that has the label 1. weighed: (label, weight) of each example."""
    if not weighed:
        return math.nan
    return sum(label * weight for label, weight in weighed) / sum(weight for _, weight in weighed)
