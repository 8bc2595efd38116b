"""Bias of the fine-tuning set, measured after the downstream intervention: the share of a label per group."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bias_transfer.spec import Measure


def label_share(
    metric: str, labels: Sequence[int], members: Sequence[Sequence[str]], groups: Sequence[str]
) -> list[Measure]:
    """P(label = 1 | group) for each group, and over all examples.

    labels: 0 or 1, per example; members: the groups of each example, any number. value: rate in [0, 1]; n: the group's
    examples. NaN with n = 0 for a group without examples.
    """
    pairs = list(zip(labels, members, strict=True))
    labels_of = {group: [label for label, names in pairs if group in names] for group in groups}
    return [
        Measure("dataset", metric, group, "", sum(chosen) / len(chosen) if chosen else math.nan, len(chosen))
        for group, chosen in {**labels_of, "": list(labels)}.items()
    ]
