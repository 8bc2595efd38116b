"""Augment: counterfactual copies in the training set, with the group swapped and the label kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset

from bias_transfer import rounding
from bias_transfer.errors import UserError
from bias_transfer.hashing import derive_seed
from bias_transfer.interventions.counterfactual import SWAPPED, counterfactual
from bias_transfer.interventions.upstream.attribute_words import cased
from bias_transfer.spec import Options
from bias_transfer.tasks.base import Groups
from bias_transfer.training.sampling import shuffled

COPY = "#copy"
"""The end of a copy's id. An arm and its control give their copies the same ids, so that these go into the same batches."""


class AugmentOptions(Options):
    """`downstream.NAME` for `downstream: augment`."""

    control: bool = False
    """Copy the same texts as they are."""


def pronouns(train: Dataset, dose: float, options: AugmentOptions, seed: int) -> Dataset:
    """BIOS: copies of round(dose x count) of the biographies with a gendered word, with these words (`counterfactual`) and the
    pronoun column swapped. The seed draws them; a smaller dose copies a subset of what a larger one copies."""
    texts = [counterfactual(text, SWAPPED["gender"]) for text in train["text"][:]]
    eligible = [row for row, (text, twin) in enumerate(zip(train["text"][:], texts, strict=True)) if text != twin]
    other = ["he" if pronoun == "she" else "she" for pronoun in train["pronoun"][:]]
    rows = _drawn(train, eligible, dose, seed)
    return _with_copies(train, rows, {} if options.control else {"text": texts, "pronoun": other})


def terms(groups: Groups, train: Dataset, dose: float, options: AugmentOptions, seed: int) -> Dataset:
    """WIKI and custom tasks: copies of round(dose x count) of the texts that mention a group, with one group's term replaced by
    another's wherever it stands. A hash of seed and id draws both, whatever the dose.

    Raises UserError where a column gives the groups: nothing in a text could be replaced.
    """
    if groups.spans is None:
        raise UserError(
            "downstream augment replaces the term of a group in the text, and the groups of this task are given by a column. "
            "Use another downstream arm (scrub, rebalance, reweight), or a task whose groups are terms."
        )
    texts = [
        _replaced(groups, text, derive_seed(seed, "downstream", "augment", identifier))
        for text, identifier in zip(train["text"][:], train["id"][:], strict=True)
    ]
    rows = _drawn(train, [row for row, text in enumerate(texts) if text is not None], dose, seed)
    return _with_copies(train, rows, {} if options.control else {"text": texts})


def _replaced(groups: Groups, text: str, key: int) -> str | None:
    """The text with one of its groups' terms replaced; None if it mentions none. key: the seed of the draw."""
    if groups.spans is None or not (spans := groups.spans(text)):
        return None
    names = [name for _, _, name in spans]
    mentioned, others = sorted(set(names)), [name for name in groups.names if name not in names]
    old = mentioned[shuffled(mentioned, key, 0)[0]]
    for new in (others[place] for place in shuffled(others, key, 1)):
        twin = _with_term(text, [(start, end) for start, end, name in spans if name == old], new)
        # "indian american" with "african" for "indian" would mention a group of its own: then the next term is taken.
        if [name for _, _, name in groups.spans(twin)] == [new if name == old else name for name in names]:
            return twin
    return None


def _with_term(text: str, places: Sequence[tuple[int, int]], term: str) -> str:
    for start, end in reversed(places):
        text = text[:start] + cased(term, text[start:end]) + text[end:]
    return text


def _drawn(train: Dataset, eligible: Sequence[int], dose: float, seed: int) -> list[int]:
    """The rows that get a copy, in the set's order."""
    identifiers = train["id"][:]
    order = shuffled([identifiers[row] for row in eligible], derive_seed(seed, "downstream", "augment"), 0)
    return sorted(eligible[place] for place in order[: rounding.part(dose, len(eligible))])


def _with_copies(train: Dataset, rows: Sequence[int], changed: Mapping[str, Sequence[Any]]) -> Dataset:
    """The set with copies of these rows appended. changed: column -> its values in the copies, for all rows of the set."""
    columns = train.to_dict()
    copies = {name: [changed.get(name, values)[row] for row in rows] for name, values in columns.items()}
    copies["id"] = [f"{identifier}{COPY}" for identifier in copies["id"]]
    return Dataset.from_dict(
        {name: [*values, *copies[name]] for name, values in columns.items()}, features=train.features
    )
