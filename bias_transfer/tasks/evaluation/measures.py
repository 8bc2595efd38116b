"""What an evaluation set says of a classifier: rates and AUCs per group, and the accuracy per functionality.

The names of the metrics begin with the set's: `hatecheck_fpr`. Definitions are those of the task's own sets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from bias_transfer.metrics import utility
from bias_transfer.metrics.error_rates import Key, Rows
from bias_transfer.metrics.options import MetricOptions
from bias_transfer.metrics.tpr_gap import true_positives
from bias_transfer.spec import Measure
from bias_transfer.tasks import shared_metrics
from bias_transfer.tasks.base import Groups, Predicted, Task
from bias_transfer.tasks.custom import bias
from bias_transfer.tasks.evaluation.reading import FUNCTIONALITY, GROUPS, EvaluationSet
from bias_transfer.tasks.grouped_predictions import WHOLE, rows_by
from bias_transfer.tasks.harmful_class import dev_equal_error, operating_points

PRONOUNS = ("she", "he")


def measures(
    task: Task, sets: Mapping[str, EvaluationSet], predicted: Mapping[str, Predicted], options: Any
) -> list[Measure]:
    """All measures of all sets. predicted: `dev`, and each set under its name; options: `MetricOptions`."""
    rows = list[Measure]()
    for name, each in sets.items():
        if task.harm_groups:
            rows += _harm(f"{name}_", each, task, task.harm_groups, predicted[name], predicted["dev"], options)
        else:
            rows += _classes(f"{name}_", each, task, predicted[name])
    return rows


def _harm(
    prefix: str,
    each: EvaluationSet,
    task: Task,
    own: Groups,
    predicted: Predicted,
    dev: Predicted,
    options: MetricOptions,
) -> Iterator[Measure]:
    """In a task with a harmful class, per group of the set:

    the error rates, equality differences, log ratios, logit gaps and AUCs that a custom task has on its test set
    (`tasks.custom.bias`); groups are compared with the examples of the set that are about no group.
    accuracy: the share of examples that are rightly called harmful or harmless, also over all and per functionality.
    roc_auc: over all.
    """
    groups, members = replace(own, names=each.groups), [tuple(names) for names in predicted.examples[GROUPS][:]]
    predictions = bias.about(groups, predicted, members)
    for threshold, suffix in operating_points(dev_equal_error(dev, own.harmful)):
        yield from bias.errors_at(prefix, predictions, predictions, threshold, suffix)
    yield from bias.logit_gaps(prefix, predictions)
    yield from shared_metrics.harmful_class(predictions, prefix, options)
    yield from (row for metric in task.further_harm for row in metric(predictions, prefix, options))
    margins, labels = predictions.margins, predictions.labels
    yield from _accuracies(prefix, (margins > 0) == (labels == 1), each, predicted)
    two = np.stack([np.zeros_like(margins), margins], axis=1)
    yield from _summaries(prefix, two, labels, ("roc_auc",))


def _classes(prefix: str, each: EvaluationSet, task: Task, predicted: Predicted) -> Iterator[Measure]:
    """In a task without a harmful class:

    accuracy: per group, over all and per functionality. macro_f1, roc_auc: per group and over all.
    tpr: recall per group and class (the template).
    Where the groups are she and he, also the recall of each class (the group) by pronoun, with its gap and ratio, as on the
    task's own test set (`metrics.tpr_gap`).
    """
    labels, logits = np.array(predicted.examples["label"][:]), predicted.logits
    right, rows = logits.argmax(axis=1) == labels, _rows(each, predicted)
    yield from _accuracies(prefix, right, each, predicted)
    for group in each.groups:
        members = rows[group, ""]
        of_class = {name: right[members][labels[members] == label] for label, name in enumerate(task.labels)}
        yield from (_rate(f"{prefix}tpr", (group, name), hits) for name, hits in of_class.items())
        yield from _summaries(prefix, logits[members], labels[members], ("macro_f1", "roc_auc"), group)
    yield from _summaries(prefix, logits, labels, ("macro_f1", "roc_auc"))
    if set(each.groups) == set(PRONOUNS):
        she = np.array(["she" in names for names in predicted.examples[GROUPS][:]])
        yield from (
            replace(row, metric=f"{prefix}{row.metric}") for row in true_positives(logits, labels, she, task.labels, "")
        )


def _rows(each: EvaluationSet, predicted: Predicted) -> dict[Key, Rows]:
    """`WHOLE` and (group, "") for each group -> the rows of its examples; none for a group without examples."""
    empty: dict[Key, Rows] = {(group, ""): np.array([], dtype=np.intp) for group in each.groups}
    members = rows_by([(group, "") for group in names] for names in predicted.examples[GROUPS][:])
    return empty | members | {WHOLE: np.arange(len(predicted.examples))}


def _accuracies(prefix: str, right: np.ndarray, each: EvaluationSet, predicted: Predicted) -> Iterator[Measure]:
    """accuracy per group and over all; functionality_accuracy per functionality (the group). right: (examples,), bool."""
    for key, members in _rows(each, predicted).items():
        yield _rate(f"{prefix}accuracy", key, right[members])
    tests = np.array(predicted.examples[FUNCTIONALITY][:])
    for test in each.functionalities:
        yield _rate(f"{prefix}functionality_accuracy", (test, ""), right[tests == test])


def _rate(metric: str, key: Key, hits: np.ndarray) -> Measure:
    return Measure("downstream", metric, *key, float(hits.mean()) if len(hits) else math.nan, len(hits))


def _summaries(
    prefix: str, logits: np.ndarray, labels: np.ndarray, names: tuple[str, ...], group: str = ""
) -> Iterator[Measure]:
    """Measures of `utility.utility` on a part of a set; missing where it has no example."""
    found = {row.metric: row for row in utility.utility(logits, labels)} if len(labels) else {}
    for name in names:
        value, n = (found[name].value, found[name].n) if found else (math.nan, 0)
        yield Measure("downstream", f"{prefix}{name}", group, "", value, n)
