"""A custom task's downstream bias: which groups' harmless examples does the classifier call harmful?

Two sets are measured: the test set, whose examples are about some groups or none (metrics `natural_...`, like WIKI's natural
comments), and the task's phrases, if its file has any (the same names without `natural_`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from bias_transfer.metrics import auc
from bias_transfer.metrics.error_rates import Key
from bias_transfer.metrics.options import MetricOptions
from bias_transfer.spec import Measure
from bias_transfer.tasks import shared_metrics
from bias_transfer.tasks.base import Groups, Predicted
from bias_transfer.tasks.custom.data import by_column
from bias_transfer.tasks.grouped_predictions import GroupedPredictions, grouped, rows_by_group
from bias_transfer.tasks.harmful_class import dev_equal_error, equal_error_measures, errors, operating_points

NO_GROUP: Key = ("", "no_group")
"""The examples that are about no group."""


def harm(groups: Groups, predicted: Mapping[str, Predicted], options: MetricOptions) -> list[Measure]:
    """All measures of downstream bias. predicted: dev, test and, if the task has them, phrases."""
    equal = dev_equal_error(predicted["dev"], groups.harmful)
    sets = harm_sets(groups, predicted)
    natural = sets["natural_"]
    measures = equal_error_measures(equal)
    for prefix, predictions in sets.items():
        for threshold, suffix in operating_points(equal):
            measures += errors_at(prefix, predictions, natural, threshold, suffix)
        measures += [*logit_gaps(prefix, predictions), *shared_metrics.harmful_class(predictions, prefix, options)]
    return measures


def harm_sets(groups: Groups, predicted: Mapping[str, Predicted]) -> dict[str, GroupedPredictions]:
    """Prefix -> the test set and, if the task has them, the phrases."""
    sets = {"natural_": about(groups, predicted["test"], groups.of(predicted["test"].examples))}
    if "phrases" in predicted:
        sets[""] = about(groups, predicted["phrases"], by_column(predicted["phrases"].examples))
    return sets


def about(groups: Groups, predicted: Predicted, members: list[tuple[str, ...]]) -> GroupedPredictions:
    """The predictions on a set by group; for examples of no group (`NO_GROUP`); and for each group, under (group, "others"),
    for the examples that other groups have and it has not."""
    expected: list[Key] = [*((name, "") for name in groups.names), NO_GROUP]
    by_group = grouped(predicted, rows_by_group(members, NO_GROUP), expected, groups.harmful)
    # An example can belong to several groups: those that also belong to a group are not among its "others".
    in_a_group = np.unique(np.concatenate([by_group.rows[name, ""] for name in groups.names]))
    others = {(name, "others"): np.setdiff1d(in_a_group, by_group.rows[name, ""]) for name in groups.names}
    return GroupedPredictions(by_group.margins, by_group.labels, {**by_group.rows, **others})


def errors_at(
    prefix: str, predictions: GroupedPredictions, natural: GroupedPredictions, threshold: float, suffix: str
) -> Iterator[Measure]:
    """At one threshold, with its suffix after each name:

    fpr, fnr: of the harmful class, per group and for the whole set.
    fped, fned: the equality differences over the groups.
    log_fpr_ratio: to the examples of the other groups; log_fpr_ratio_no_group: to the examples of `natural` of no group.
    """
    measured, groups = errors(prefix, predictions, threshold, suffix), predictions.groups
    others = {group: measured.false_positives[group, "others"] for group in groups}
    no_group = errors("", natural, threshold, suffix).false_positives[NO_GROUP]
    yield from (*measured.rates("fpr"), measured.equality_difference("fpr"))
    yield from measured.log_fpr_ratios("", others)
    yield from measured.log_fpr_ratios("_no_group", dict.fromkeys(groups, no_group))
    yield from (*measured.rates("fnr"), measured.equality_difference("fnr"))


def logit_gaps(prefix: str, predictions: GroupedPredictions) -> Iterator[Measure]:
    """logit_gap: of a group's harmless examples to those of the set that are about no group; logit_gap_others: to those of the
    other groups, where a rise that all groups share cancels out."""
    by_group = predictions.negatives_by_group()
    yield from auc.logit_gaps(f"{prefix}logit_gap", by_group, predictions.negatives(NO_GROUP))
    for group, margins in by_group.items():
        others = predictions.negatives((group, "others"))
        yield from auc.logit_gaps(f"{prefix}logit_gap_others", {group: margins}, others)
