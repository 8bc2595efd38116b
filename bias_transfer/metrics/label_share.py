"""Bias of the fine-tuning set, measured after the downstream intervention."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bias_transfer.spec import Measure


def label_share(
    metric: str, labels: Sequence[int], members: Sequence[Sequence[str]], groups: Sequence[str]
) -> list[Measure]:
    """P(label = 1 | group) for each group, and over all examples.

    labels: 0 or 1; members: the groups that each example belongs to (any number). value: rate in [0, 1]; NaN with n = 0 for
    a group that no example belongs to.
    """
    pairs = list(zip(labels, members, strict=True))
    by_group = {group: [label for label, own in pairs if group in own] for group in groups}
    return [_share(metric, group, chosen) for group, chosen in {**by_group, "": list(labels)}.items()]


def _share(metric: str, group: str, labels: Sequence[int]) -> Measure:
    value = sum(labels) / len(labels) if labels else math.nan
    return Measure("dataset", metric, group, "", value, len(labels))
