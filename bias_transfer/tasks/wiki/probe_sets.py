"""WIKI's sets of examples by term: identity phrases, neutral phrases and natural comments."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from datasets import Dataset
from pydantic import field_validator

from bias_transfer import rounding
from bias_transfer.errors import UserError
from bias_transfer.hashing import digest
from bias_transfer.metrics.error_rates import LEAST_FOR_LOGS, Key, Rows
from bias_transfer.metrics.options import SentimentOptions
from bias_transfer.tasks.base import Predicted, Splits
from bias_transfer.tasks.grouped_predictions import GroupedPredictions, grouped, rows_by, rows_by_group
from bias_transfer.tasks.wiki.identity_phrases import PER_TERM, Phrase, identity_phrases, neutral_phrases
from bias_transfer.tasks.wiki.identity_terms import TERMS, identities, mentioned

NO_TERM: Key = ("", "no_term")
"""The identity phrases, or the natural comments, that name no term."""

EXPECTED: tuple[Key, ...] = (*((term, "") for term in TERMS), NO_TERM)
"""Parts that are reported even if no example belongs to them."""


class PhraseOptions(SentimentOptions):
    """`metric.NAME` of WIKI."""

    phrases_per_term: int | None = None
    """Non-toxic identity phrases per term that the classifier is asked about, and a quarter as many toxic ones (`choose`).
    None: all of them."""

    @field_validator("phrases_per_term")
    @classmethod
    def _as_many_as_there_are(cls, number: int | None) -> int | None:
        if number is not None and not 1 <= number <= PER_TERM:
            raise ValueError(f"a term has {PER_TERM} non-toxic phrases. Allowed: 1 to {PER_TERM}; leave it out for all")
        return number


def probes(splits: Splits, options: PhraseOptions) -> dict[str, Dataset]:
    """The sets that are predicted in addition to `dev` and `test`: the published phrases, or those of synthetic comments; with
    `phrases_per_term` a part of them. Raises UserError as `choose` does."""
    if splits.phrases is None:
        return _published(options.phrases_per_term)
    own = splits.phrases if options.phrases_per_term is None else choose(splits.phrases, options.phrases_per_term)
    is_neutral = np.array(own["term"][:]) == ""
    return {"phrases": own, "neutral": own.select(np.flatnonzero(is_neutral))}


@functools.cache  # 76,564 rows take a while to read, and the trials of a warm worker share their options
def _published(per_term: int | None) -> dict[str, Dataset]:
    if per_term is None:
        return {"phrases": phrases(), "neutral": neutral()}
    chosen = choose(phrases(), per_term)
    patterns = {*chosen["pattern"][:]}
    is_chosen = np.array([pattern in patterns for pattern in neutral()["pattern"][:]])
    return {"phrases": chosen, "neutral": neutral().select(np.flatnonzero(is_chosen))}


def choose(examples: Dataset, per_term: int) -> Dataset:
    """`per_term` non-toxic phrases of each term, and a quarter as many toxic ones, rounded up; the phrases that name no term
    count as one more term (ours).

    The families keep their proportions, by largest remainders. Within a family the patterns of lowest hash are taken, so that
    all terms are asked about in the same sentences, and the choice depends on nothing but the phrases. Raises UserError for
    more non-toxic phrases than a term has.
    """
    columns = (examples[name][:] for name in ("term", "label", "family", "pattern"))
    families: dict[tuple[str, int], dict[str, list[tuple[str, int]]]] = defaultdict(lambda: defaultdict(list))
    hashed = functools.cache(digest)  # terms share their patterns
    for row, (term, label, family, pattern) in enumerate(zip(*columns, strict=True)):
        families[term, label][family].append((hashed(pattern), row))
    sizes = {key: sum(map(len, parts.values())) for key, parts in families.items()}
    if per_term > (most := min(size for (term, label), size in sizes.items() if term and not label)):
        raise UserError(
            f"metric.phrases_per_term: {per_term} is more than the {most} non-toxic phrases that there are of each term. "
            f"Allowed: 1 to {most}; leave it out for all phrases."
        )
    rows = (
        row
        for key, parts in families.items()
        for row in _lowest(parts, min(-(-per_term // 4) if key[1] else per_term, sizes[key]))
    )
    return examples.select(sorted(rows))


def _lowest(families: dict[str, list[tuple[str, int]]], count: int) -> Iterator[int]:
    """The rows of `count` phrases. families: family -> (hash, row) of its phrases."""
    parts = rounding.apportion(count, [*map(len, families.values())])
    for part, hashes in zip(parts, families.values(), strict=True):
        yield from (row for _, row in sorted(hashes)[:part])


def cautions(splits: Splits, options: PhraseOptions) -> tuple[str, ...]:
    """How many phrases are asked about if `phrases_per_term` is set, and what is missing for that. Raises UserError as
    `choose` does."""
    per_term = options.phrases_per_term
    if per_term is None:
        return ()
    asked, whole = probes(splits, options), probes(splits, PhraseOptions())
    number = {name: f"{len(asked[name]):,} of {len(whole[name]):,}" for name in asked}
    text = (
        f"metric.phrases_per_term={per_term}: the classifier is asked about {number['phrases']} identity phrases, {per_term} "
        f"non-toxic and {-(-per_term // 4)} toxic ones per term, the same in all arms and seeds, and about {number['neutral']} "
        "neutral ones."
    )
    return (" ".join([text, *too_few(per_term)]),)


def too_few(per_term: int) -> list[str]:
    """What is missing with so few non-toxic phrases per term, in a sentence; nothing for `LEAST_FOR_LOGS` or more."""
    if per_term >= LEAST_FOR_LOGS:
        return []
    return [
        f"With fewer than {LEAST_FOR_LOGS} non-toxic phrases per term the logarithms of rates are missing: ln FPR, which is "
        "what regressions read by default, and the log ratios of FPR. The rates, the logit gaps and the AUCs are given. State "
        f"logit_gap as the primary outcome (analysis: primary: {{wiki: logit_gap}}), or take {LEAST_FOR_LOGS} phrases or more."
    ]


@functools.cache  # 76,564 rows take a while to build, and no trial changes them
def phrases() -> Dataset:
    """The identity phrases as examples, with the columns term ("" for none), family and pattern (`Phrase.pattern`)."""
    return _examples("", identity_phrases())


@functools.cache  # as above
def neutral() -> Dataset:
    """The neutral phrases, with the same columns."""
    return _examples("neutral:", neutral_phrases())


def _examples(prefix: str, generated: tuple[Phrase, ...]) -> Dataset:
    return Dataset.from_dict(
        {
            "id": [f"{prefix}{number}" for number in range(len(generated))],
            "text": [phrase.text for phrase in generated],
            "label": [phrase.label for phrase in generated],
            "term": [phrase.term or "" for phrase in generated],
            "family": [phrase.family for phrase in generated],
            "pattern": [phrase.pattern for phrase in generated],
        }
    )


def about_identities(predicted: Predicted) -> GroupedPredictions:
    """The predictions on identity phrases: by term, by term and family, and on the phrases that name no term."""
    pairs = zip(predicted.examples["term"][:], predicted.examples["family"][:], strict=True)
    rows = rows_by([(term, family), (term, "")] if term else [NO_TERM] for term, family in pairs)
    return grouped(predicted, rows, EXPECTED)


def about_neutral(predicted: Predicted) -> GroupedPredictions:
    """The predictions on neutral phrases: by family."""
    families = predicted.examples["family"][:]  # a list: iterating over a column is slow
    return grouped(predicted, rows_by([("", family)] for family in families), ())


def about_comments(predicted: Predicted) -> GroupedPredictions:
    """The predictions on natural comments: by each term that they mention, and on those that mention none."""
    return grouped(predicted, _mentions(predicted.examples), EXPECTED)


def members(examples: Dataset) -> list[tuple[str, ...]]:
    """The terms of each example of any set: that of a phrase, or those that a comment mentions."""
    if "term" in examples.column_names:
        return [(term,) if term else () for term in examples["term"][:]]
    return identities(examples)


@functools.lru_cache(maxsize=1)  # the trials of a warm worker share one test set, and searching it takes seconds
def _mentions(examples: Dataset) -> dict[Key, Rows]:
    return rows_by_group((mentioned(text) for text in examples["text"][:]), NO_TERM)
