"""WIKI's downstream bias: which identity terms does the classifier call toxic in innocuous text?

Three sets are measured next to each other: the identity phrases of Dixon et al. 2018; the same templates with neutral words in
the term's place (metrics `neutral_...`); the comments of the test set, some of which mention a term (metrics `natural_...`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bias_transfer.metrics import auc, calibration, error_rates
from bias_transfer.spec import Measure
from bias_transfer.tasks import shared_metrics
from bias_transfer.tasks.base import Predicted
from bias_transfer.tasks.grouped_predictions import WHOLE, GroupedPredictions
from bias_transfer.tasks.harmful_class import dev_equal_error, equal_error_measures, errors, operating_points
from bias_transfer.tasks.wiki.probe_sets import (
    NO_TERM,
    PhraseOptions,
    about_comments,
    about_identities,
    about_neutral,
)


def harm(predicted: Mapping[str, Predicted], options: PhraseOptions) -> list[Measure]:
    """All measures of downstream bias. predicted: dev, test, and the sets of `probe_sets.probes`."""
    identity, neutral = about_identities(predicted["phrases"]), about_neutral(predicted["neutral"])
    natural, equal = about_comments(predicted["test"]), dev_equal_error(predicted["dev"])
    sets = {"": identity, "neutral_": neutral, "natural_": natural}
    return [
        *(row for point in operating_points(equal) for row in _errors(sets, *point)),
        *equal_error_measures(equal),
        *_logit_gaps(identity, neutral),
        *shared_metrics.harmful_class(identity, "", options),
        *shared_metrics.harmful_class(natural, "natural_", options),
        *_calibrations("", identity),
        *_calibrations("natural_", natural),
    ]


def harm_sets(predicted: Mapping[str, Predicted]) -> dict[str, GroupedPredictions]:
    """Prefix -> the identity phrases, and the comments of the test set."""
    return {"": about_identities(predicted["phrases"]), "natural_": about_comments(predicted["test"])}


def _errors(sets: Mapping[str, GroupedPredictions], threshold: float, suffix: str) -> Iterator[Measure]:
    """At one threshold, with its suffix after each name:

    fpr: per term, per term and family, and for the whole set; neutral_fpr and natural_fpr on the other two sets.
    fnr, neutral_fnr, natural_fnr: the same, but not per term and family.
    log_fpr_ratio: to the other terms; log_fpr_ratio_occupation: to the phrases of the set that name no term; ..._neutral: to
    neutral words in the same templates; ..._natural: to natural comments that mention no term.
    fpr_families: mean over the families that are large enough.
    fped, fned: the equality differences over the terms.
    """
    identity, neutral, natural = (errors(prefix, sets[prefix], threshold, suffix) for prefix in sets)
    for each in (identity, neutral, natural):
        yield from (*each.rates("fpr", by_family=True), *each.rates("fnr"))
    terms = error_rates.pooled_by_group(identity.false_positives)
    bases = {
        "_occupation": identity.false_positives[NO_TERM],
        "_neutral": neutral.false_positives[WHOLE],
        "_natural": natural.false_positives[NO_TERM],
    }
    yield from identity.log_fpr_ratios("", error_rates.others(terms))
    for name, base in bases.items():
        yield from identity.log_fpr_ratios(name, dict.fromkeys(terms, base))
    yield from error_rates.family_means(f"fpr_families{suffix}", identity.false_positives)
    yield identity.equality_difference("fpr")
    yield identity.equality_difference("fnr")


def _logit_gaps(identity: GroupedPredictions, neutral: GroupedPredictions) -> list[Measure]:
    """logit_gap: to the identity phrases that name no term; logit_gap_neutral: to the neutral phrases."""
    by_term = identity.negatives_by_group()
    return [
        *auc.logit_gaps("logit_gap", by_term, identity.negatives(NO_TERM)),
        *auc.logit_gaps("logit_gap_neutral", by_term, neutral.negatives(WHOLE)),
    ]


def _calibrations(prefix: str, predictions: GroupedPredictions) -> list[Measure]:
    """Calibration for each term, and for the whole set."""
    groups = predictions.groups | {"": predictions.rows[WHOLE]}
    return calibration.calibrations(predictions.margins, predictions.labels, groups, prefix)
