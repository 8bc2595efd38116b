"""An own task's downstream bias: whose harmless examples are called harmful?

Two sets are read: the test set, whose examples are about some groups or none (metrics `natural_...`, as WIKI's natural
comments), and the task's phrases, where it has any (the same names without `natural_`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from bias_transfer.metrics import auc
from bias_transfer.metrics import error_rates
from bias_transfer.metrics.error_rates import Key
from bias_transfer.metrics.error_rates import Rows
from bias_transfer.metrics.thresholds import HALF
from bias_transfer.metrics.thresholds import equal_error
from bias_transfer.metrics.thresholds import margin
from bias_transfer.spec import Measure
from bias_transfer.tasks.grouped_predictions import WHOLE
from bias_transfer.tasks.grouped_predictions import Answers
from bias_transfer.tasks.grouped_predictions import rows_by
from bias_transfer.tasks.base import Groups
from bias_transfer.tasks.custom.data import by_column
from bias_transfer.tasks.base import Predicted

NO_GROUP: Key = ("", "no_group")

LEAST_FOR_RANKS = 10
"""A group's examples are ranked where it has so many of each label that is compared (ours)."""


def harm(groups: Groups, predicted: Mapping[str, Predicted]) -> list[Measure]:
    """All measures of downstream bias. predicted: dev, test and, if there are any, phrases."""
    dev = about(groups, predicted["dev"], [()] * len(predicted["dev"].logits))
    equal = equal_error(dev.margins, dev.labels)
    natural = about(groups, predicted["test"], groups.of(predicted["test"].examples))
    sets = {"natural_": natural}
    if "phrases" in predicted:
        sets[""] = about(groups, predicted["phrases"], by_column(predicted["phrases"].examples))
    measures = [
        Measure("downstream", "eer_threshold", "", "", equal.threshold, equal.n),
        Measure("downstream", "eer", "", "", equal.rate, equal.n),
    ]
    for prefix, own in sets.items():
        measures += _errors(prefix, own, natural, HALF, "")
        measures += _errors(prefix, own, natural, equal.threshold, "_eer")
        measures += _ranks(prefix, own)
    return measures


def about(groups: Groups, predicted: Predicted, members: list[tuple[str, ...]]) -> Answers:
    """Of a set: by each group, those of no group, and for each group those of the others alone, under (group, "others")."""
    found = rows_by([(name, "") for name in own] or [NO_GROUP] for own in members)
    nothing = np.array([], dtype=np.intp)
    rows: dict[Key, Rows] = {key: found.get(key, nothing) for key in (*((name, "") for name in groups.names), NO_GROUP)}
    every = np.unique(np.concatenate([rows[name, ""] for name in groups.names]))
    others = {(name, "others"): np.setdiff1d(every, rows[name, ""]) for name in groups.names}
    labels = (np.array(predicted.examples["label"][:]) == groups.harmful).astype(int)
    whole = {WHOLE: np.arange(len(labels))}
    return Answers(margin(predicted.logits, groups.harmful), labels, rows | others | whole)


def _errors(prefix: str, own: Answers, natural: Answers, threshold: float, suffix: str) -> Iterator[Measure]:
    """At one threshold, `_eer` (the dev set's equal-error threshold) or the classifier's own call:

    fpr, fnr: of the harmful class, per group and for the whole set.
    log_fpr_ratio: against the examples of the other groups; _no_group: against test examples of no group.
    fped, fned: the equality differences over the groups.
    """
    for label, name in enumerate(("fpr", "fnr")):
        found = error_rates.tallies(own.margins, own.labels, own.rows, threshold, label)
        terms = error_rates.by_group(found)
        yield from error_rates.rates(
            f"{prefix}{name}{suffix}", {key: tally for key, tally in found.items() if not key[1] or key == NO_GROUP}
        )
        yield error_rates.equality_difference(f"{prefix}{name[:2]}ed{suffix}", terms, found[WHOLE])
        if name == "fpr":
            outside = error_rates.tallies(natural.margins, natural.labels, natural.rows, threshold, label)[NO_GROUP]
            others = {group: found[group, "others"] for group in terms}
            yield from error_rates.log_ratios(f"{prefix}log_fpr_ratio{suffix}", terms, others)
            yield from error_rates.log_ratios(f"{prefix}log_fpr_ratio_no_group{suffix}", terms, dict.fromkeys(terms, outside))


def _ranks(prefix: str, own: Answers) -> Iterator[Measure]:
    """logit_gap: of the harmless, against those of the set that are about no group; _others: against those of the other
    groups, where a rise that all groups share cancels out.

    And AUCs and average equality gaps (`ranking.rankings`).
    """
    margins = {group: own.negatives((group, "")) for group in own.terms}
    yield from auc.logit_gaps(f"{prefix}logit_gap", margins, own.negatives(NO_GROUP))
    for group, found in margins.items():
        yield from auc.logit_gaps(f"{prefix}logit_gap_others", {group: found}, own.negatives((group, "others")))
    yield from auc.rankings(own.margins, own.labels, own.terms, LEAST_FOR_RANKS if prefix else 1, prefix)
