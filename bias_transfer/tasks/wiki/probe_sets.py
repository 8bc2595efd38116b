"""WIKI's sets of examples by term: identity phrases, neutral phrases and natural comments."""

from __future__ import annotations

import functools

import numpy as np
from datasets import Dataset

from bias_transfer.metrics.error_rates import Key, Rows
from bias_transfer.tasks.base import Predicted, Splits
from bias_transfer.tasks.grouped_predictions import GroupedPredictions, grouped, rows_by, rows_by_group
from bias_transfer.tasks.wiki.identity_phrases import Phrase, identity_phrases, neutral_phrases
from bias_transfer.tasks.wiki.identity_terms import TERMS, identities, mentioned

NO_TERM: Key = ("", "no_term")
"""The identity phrases, or the natural comments, that name no term."""

EXPECTED: tuple[Key, ...] = (*((term, "") for term in TERMS), NO_TERM)
"""Parts that are reported even if no example belongs to them."""


def probes(splits: Splits) -> dict[str, Dataset]:
    """The sets that are predicted in addition to `dev` and `test`: the published phrases, or those of synthetic comments."""
    if splits.phrases is None:
        return {"phrases": phrases(), "neutral": neutral()}
    is_neutral = np.array(splits.phrases["term"][:]) == ""
    return {"phrases": splits.phrases, "neutral": splits.phrases.select(np.flatnonzero(is_neutral))}


@functools.cache  # 76,564 rows take a while to build, and no trial changes them
def phrases() -> Dataset:
    """The identity phrases as examples, with the columns term ("" for none) and family."""
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
