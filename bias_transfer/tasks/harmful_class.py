"""Downstream bias of tasks with one harmful class: whose harmless examples does the classifier call harmful?

WIKI and custom tasks build their measures from these parts; the measures that both take on every set of examples are entries
of the table `shared_metrics.HARMFUL_CLASS`. Error rates are reported at the classifier's own decision (a margin of 0) and, with
`_eer` after the metric's name, at the equal-error threshold of the dev set: one threshold alone can fake a ratio of groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bias_transfer.metrics import error_rates
from bias_transfer.metrics.error_rates import Key, Tally
from bias_transfer.metrics.thresholds import HALF, EqualError, equal_error, margin
from bias_transfer.spec import Measure
from bias_transfer.tasks.base import Predicted
from bias_transfer.tasks.grouped_predictions import WHOLE, GroupedPredictions

HARM_OUTCOMES = ("fpr", "log_fpr_ratio", "logit_gap")
"""The metrics of a set of examples that an analysis may take as its primary outcome."""


def dev_equal_error(dev: Predicted, harmful: int = 1) -> EqualError:
    """The equal-error threshold of the dev set. harmful: the label of the harmful class."""
    return equal_error(margin(dev.logits, harmful), (np.array(dev.examples["label"][:]) == harmful).astype(int))


def equal_error_measures(equal: EqualError) -> list[Measure]:
    """eer_threshold (a margin, in logits) and eer (a rate in [0, 1]); n: examples of the dev set."""
    return [
        Measure("downstream", "eer_threshold", "", "", equal.threshold, equal.n),
        Measure("downstream", "eer", "", "", equal.rate, equal.n),
    ]


def operating_points(equal: EqualError) -> tuple[tuple[float, str], ...]:
    """(threshold, suffix of the metrics' names) of each decision rule at which error rates are reported."""
    return ((HALF, ""), (equal.threshold, "_eer"))


@dataclass(frozen=True)
class Errors:
    """The errors on one set of examples at one threshold."""

    prefix: str
    """Before the metrics' names: the set."""
    suffix: str
    """After the metrics' names: the threshold."""
    tallies: Mapping[str, Mapping[Key, Tally]]
    """fpr: false positives among harmless examples; fnr: false negatives among harmful ones."""

    @property
    def false_positives(self) -> Mapping[Key, Tally]:
        """By key."""
        return self.tallies["fpr"]

    def rates(self, metric: str, by_family: bool = False) -> list[Measure]:
        """fpr or fnr per group, for parts of the set that are about no group, and for the whole set; if `by_family`, also per
        group and family."""
        shown = {key: tally for key, tally in self.tallies[metric].items() if by_family or not all(key)}
        return error_rates.rates(f"{self.prefix}{metric}{self.suffix}", shown)

    def log_fpr_ratios(self, name: str, base: Mapping[str, Tally]) -> list[Measure]:
        """log_fpr_ratio of each group to its base. name: of the base, in the metric's name."""
        groups = error_rates.pooled_by_group(self.false_positives)
        return error_rates.log_ratios(f"{self.prefix}log_fpr_ratio{name}{self.suffix}", groups, base)

    def equality_difference(self, metric: str) -> Measure:
        """fped or fned, over the groups."""
        tallies, name = self.tallies[metric], {"fpr": "fped", "fnr": "fned"}[metric]
        return error_rates.equality_difference(
            f"{self.prefix}{name}{self.suffix}", error_rates.pooled_by_group(tallies), tallies[WHOLE]
        )


def errors(prefix: str, predictions: GroupedPredictions, threshold: float, suffix: str) -> Errors:
    """The errors at a threshold, a margin in logits. At a threshold of NaN every n is 0."""
    margins, labels, rows = predictions.margins, predictions.labels, predictions.rows
    tallies = {
        metric: error_rates.tallies(margins, labels, rows, threshold, label)
        for metric, label in (("fpr", 0), ("fnr", 1))
    }
    return Errors(prefix, suffix, tallies)
