"""WIKI's downstream bias: whose innocuous mention is called toxic?

Three sets are read beside each other: the identity phrases of Dixon et al. 2018; the same templates with neutral words in the
term's place (metrics `neutral_...`); the comments of the test set, some of which mention a term (metrics `natural_...`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from bias_transfer.metrics import calibration
from bias_transfer.metrics import auc
from bias_transfer.metrics import error_rates
from bias_transfer.metrics.thresholds import HALF
from bias_transfer.metrics.thresholds import equal_error
from bias_transfer.metrics.thresholds import margin
from bias_transfer.spec import Measure
from bias_transfer.tasks.grouped_predictions import WHOLE
from bias_transfer.tasks.grouped_predictions import Answers
from bias_transfer.tasks.base import Predicted
from bias_transfer.tasks.wiki.probe_sets import NO_TERM
from bias_transfer.tasks.wiki.probe_sets import about_comments
from bias_transfer.tasks.wiki.probe_sets import about_identities
from bias_transfer.tasks.wiki.probe_sets import about_neutral

LEAST_FOR_RANKS = 10
"""A term's natural comments are ranked where it has so many of each label that is compared (ours)."""


def harm(predicted: Mapping[str, Predicted]) -> list[Measure]:
    """All measures of downstream bias. predicted: dev, test and `wiki_probes.probes`."""
    identity, neutral = about_identities(predicted["phrases"]), about_neutral(predicted["neutral"])
    natural, dev = about_comments(predicted["test"]), predicted["dev"]
    equal = equal_error(margin(dev.logits), np.array(dev.examples["label"][:]))
    return [
        *_errors(identity, neutral, natural, HALF, ""),
        *_errors(identity, neutral, natural, equal.threshold, "_eer"),
        Measure("downstream", "eer_threshold", "", "", equal.threshold, equal.n),
        Measure("downstream", "eer", "", "", equal.rate, equal.n),
        *_ranks(identity, neutral, natural),
        *_probabilities("", identity),
        *_probabilities("natural_", natural),
    ]


def _errors(identity: Answers, neutral: Answers, natural: Answers, threshold: float, suffix: str) -> Iterator[Measure]:
    """At one threshold, `_eer` (the dev set's equal-error threshold) or 0.5:

    fpr: per term, per term and family, and for the whole set; neutral_fpr and natural_fpr on the other two sets.
    fnr, neutral_fnr, natural_fnr: the same, but not per term and family.
    fpr_families: mean over the families that are large enough.
    log_fpr_ratio: against the other terms; _occupation: against the phrases of the set that name no term; _neutral: against
    neutral words in the same templates; _natural: against natural comments that mention no term.
    fped, fned: the equality differences over the terms.
    """
    found = {}
    for prefix, own in (("", identity), ("neutral_", neutral), ("natural_", natural)):
        for label, metric in enumerate(("fpr", "fnr")):
            counts = error_rates.tallies(own.margins, own.labels, own.rows, threshold, label)
            shown = {key: tally for key, tally in counts.items() if metric == "fpr" or not all(key)}
            yield from error_rates.rates(f"{prefix}{metric}{suffix}", shown)
            found[prefix + metric] = counts
    terms = error_rates.by_group(found["fpr"])
    bases = {
        "": error_rates.others(terms),
        "_occupation": dict.fromkeys(terms, found["fpr"][NO_TERM]),
        "_neutral": dict.fromkeys(terms, found["neutral_fpr"][WHOLE]),
        "_natural": dict.fromkeys(terms, found["natural_fpr"][NO_TERM]),
    }
    for name, base in bases.items():
        yield from error_rates.log_ratios(f"log_fpr_ratio{name}{suffix}", terms, base)
    yield from error_rates.family_means(f"fpr_families{suffix}", found["fpr"])
    yield error_rates.equality_difference(f"fped{suffix}", terms, found["fpr"][WHOLE])
    yield error_rates.equality_difference(f"fned{suffix}", error_rates.by_group(found["fnr"]), found["fnr"][WHOLE])


def _ranks(identity: Answers, neutral: Answers, natural: Answers) -> Iterator[Measure]:
    """logit_gap: against the identity phrases that name no term; logit_gap_neutral: against the neutral phrases.

    And AUCs and average equality gaps (`ranking.rankings`), on identity phrases and on natural comments.
    """
    own = {term: identity.negatives((term, "")) for term in identity.terms}
    yield from auc.logit_gaps("logit_gap", own, identity.negatives(NO_TERM))
    yield from auc.logit_gaps("logit_gap_neutral", own, neutral.negatives(WHOLE))
    yield from auc.rankings(identity.margins, identity.labels, identity.terms)
    yield from auc.rankings(natural.margins, natural.labels, natural.terms, LEAST_FOR_RANKS, "natural_")


def _probabilities(prefix: str, own: Answers) -> list[Measure]:
    """Calibration for each term and for the whole set."""
    return calibration.calibrations(own.margins, own.labels, own.terms | {"": own.rows[WHOLE]}, prefix)
