"""A measure from outside the package: `plugins: [my_lab.measures]` adds it, and `metric: {margin_spread: true}` turns it on."""

from __future__ import annotations

import math

from bias_transfer.spec import Measure, Options
from bias_transfer.tasks.grouped_predictions import GroupedPredictions
from bias_transfer.tasks.plugin_metrics import Metric


def margin_spread(predictions: GroupedPredictions, prefix: str, options: Options) -> list[Measure]:
    """SD (n - 1) of the margins of each group's harmless examples, in logits; NaN with n = 0 for fewer than two."""
    rows = []
    for group, margins in predictions.negatives_by_group().items():
        n = len(margins) if len(margins) > 1 else 0
        value = float(margins.std(ddof=1)) if n else math.nan
        rows.append(Measure("downstream", f"{prefix}margin_spread", group, "", value, n))
    return rows


METRICS = {"margin_spread": Metric(harmful_class=margin_spread)}
