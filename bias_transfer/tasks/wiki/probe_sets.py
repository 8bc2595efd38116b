"""WIKI's sets of examples by term: identity phrases, neutral phrases and natural comments."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping

import numpy as np
from datasets import Dataset

from bias_transfer.metrics.error_rates import Key
from bias_transfer.metrics.error_rates import Rows
from bias_transfer.metrics.thresholds import margin
from bias_transfer.tasks.grouped_predictions import WHOLE
from bias_transfer.tasks.grouped_predictions import Answers
from bias_transfer.tasks.grouped_predictions import rows_by
from bias_transfer.tasks.wiki.identity_phrases import Phrase
from bias_transfer.tasks.wiki.identity_phrases import identity_phrases
from bias_transfer.tasks.wiki.identity_phrases import neutral_phrases
from bias_transfer.tasks.base import Predicted
from bias_transfer.tasks.base import Splits
from bias_transfer.tasks.wiki.identity_terms import TERMS
from bias_transfer.tasks.wiki.identity_terms import mentioned

NO_TERM: Key = ("", "no_term")
"""The identity phrases, or the natural comments, that name no term."""


def probes(splits: Splits) -> dict[str, Dataset]:
    """The sets that are predicted beside `dev` and `test`: the published phrases, or those of synthetic comments."""
    own = splits.phrases
    if own is None:
        return {"phrases": phrases(), "neutral": neutral()}
    plain = np.array(own["term"][:]) == ""
    return {"phrases": own, "neutral": own.select(np.flatnonzero(plain))}


@functools.cache
def phrases() -> Dataset:
    """The identity phrases as examples, with the columns term ("" for none) and family."""
    return _examples("", identity_phrases())


@functools.cache
def neutral() -> Dataset:
    """The neutral phrases, with the same columns."""
    return _examples("neutral:", neutral_phrases())


def _examples(prefix: str, own: tuple[Phrase, ...]) -> Dataset:
    return Dataset.from_dict(
        {
            "id": [f"{prefix}{number}" for number in range(len(own))],
            "text": [phrase.text for phrase in own],
            "label": [phrase.label for phrase in own],
            "term": [phrase.term or "" for phrase in own],
            "family": [phrase.family for phrase in own],
        }
    )


def about_identities(predicted: Predicted) -> Answers:
    """Of identity phrases: by term, by term and family, and those that name none."""
    pairs = zip(predicted.examples["term"][:], predicted.examples["family"][:], strict=True)
    rows = rows_by([(term, family), (term, "")] if term else [NO_TERM] for term, family in pairs)
    return _answers(predicted, rows, (*_TERMS, NO_TERM))


def about_neutral(predicted: Predicted) -> Answers:
    """Of neutral phrases: by family."""
    families = predicted.examples["family"][:]  # whole: a column is slow to iterate
    return _answers(predicted, rows_by([("", family)] for family in families), ())


def about_comments(predicted: Predicted) -> Answers:
    """Of natural comments: by each term that they mention, and those that mention none."""
    return _answers(predicted, _mentions(predicted.examples), (*_TERMS, NO_TERM))


_TERMS: tuple[Key, ...] = tuple((term, "") for term in TERMS)


@functools.lru_cache(maxsize=1)  # trials in a warm worker share their test set
def _mentions(examples: Dataset) -> dict[Key, Rows]:
    found = (mentioned(text) for text in examples["text"][:])
    return rows_by([(term, "") for term in terms] or [NO_TERM] for terms in found)


def _answers(predicted: Predicted, rows: Mapping[Key, Rows], expected: Iterable[Key]) -> Answers:
    """expected: what has a place, empty if need be."""
    filled = (
        dict.fromkeys(expected, np.array([], dtype=np.intp)) | dict(rows) | {WHOLE: np.arange(len(predicted.logits))}
    )
    return Answers(margin(predicted.logits), np.array(predicted.examples["label"][:]), filled)
