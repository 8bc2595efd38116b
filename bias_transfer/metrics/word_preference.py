"""How much rather a language model puts the words of one list than of another beside a group.

In the spirit of pronoun ranking (Kurita et al. 2019): what the template says without the group is taken off.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bias_transfer.metrics.pronoun_ranking import covering
from bias_transfer.metrics.mask_filling import probabilities
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.spec import Measure
from bias_transfer.errors import UserError


@dataclass(frozen=True)
class Slot:
    """One sentence as token ids, with its open place masked."""

    row: list[int]
    place: int
    ids: tuple[int, ...]
    """Of each word, as it is written at that place."""


def word_comparison(
    model: LanguageModel,
    groups: Mapping[str, str],
    templates: Mapping[str, str],
    first: Sequence[str],
    second: Sequence[str],
) -> list[Measure]:
    """ln[p(first | g, t) / p(second | g, t)], less the same for the template without the group, for each group and template.

    groups: name -> words in the template; templates: with {group} and {mask} -> without {group}; p(list) is the sum over its
    words at the mask. Three metrics, in nats: word_logit with the group, word_prior without it, and word_score, their
    difference: above 0 the group draws the model towards the first list. n: the words of both lists. Raises UserError for a
    word that is not one sub-token at its place.
    """
    priors = _preference(model, [slot(model.tokenizer, text, first, second) for text in templates.values()], len(first))
    keys = [(group, template) for template in templates for group in groups]
    slots = [slot(model.tokenizer, _about(template, groups[group]), first, second) for group, template in keys]
    logits, prior = _preference(model, slots, len(first)), dict(zip(templates, priors, strict=True))
    n = len(first) + len(second)
    return [
        row
        for (group, template), logit in zip(keys, logits, strict=True)
        for row in _measures(group, template, float(logit), float(prior[template]), n)
    ]


def check(
    model: LanguageModel,
    groups: Mapping[str, str],
    templates: Mapping[str, str],
    first: Sequence[str],
    second: Sequence[str],
) -> None:
    """Raises the UserError that `word_comparison` would."""
    for template, without in templates.items():
        for text in (without, *(_about(template, words) for words in groups.values())):
            slot(model.tokenizer, text, first, second)


def _about(template: str, words: str) -> str:
    return template.replace("{group}", words)


def _measures(group: str, template: str, logit: float, prior: float, n: int) -> Iterator[Measure]:
    values = {"word_score": logit - prior, "word_logit": logit, "word_prior": prior}
    for metric, value in values.items():
        yield Measure("upstream", metric, group, template, value, n)


def _preference(model: LanguageModel, slots: Sequence[Slot], split: int) -> np.ndarray:
    """(slots,): ln p of the first `split` words less ln p of the others."""
    found = probabilities(model, [each.row for each in slots], [each.place for each in slots])
    own = np.take_along_axis(found, np.array([each.ids for each in slots]), axis=1)
    return np.asarray(np.log(own[:, :split].sum(axis=1)) - np.log(own[:, split:].sum(axis=1)))


def slot(tokenizer: Any, text: str, first: Sequence[str], second: Sequence[str]) -> Slot:
    """The sentence's tokens with a mask for {mask}, and each word's piece there. A word that begins it has a capital.

    Raises UserError for a word that the tokenizer splits or does not know, and for two that are one to it.
    """
    before, _, after = text.partition("{mask}")
    words = [word if before.strip() else word[:1].upper() + word[1:] for word in (*first, *second)]
    encoded = tokenizer([before + word + after for word in words], return_offsets_mapping=True)
    found = set[tuple[tuple[int, ...], int]]()
    pieces = list[int]()
    for word, row, offsets in zip(words, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        places = covering(offsets, before, word)
        if len(places) != 1:
            raise UserError(
                f"the tokenizer makes {len(places)} sub-tokens of {word!r} in {text!r}: the comparison of words needs one. "
                "Take words that the model's vocabulary has whole."
            )
        (place,) = places
        pieces.append(row[place])
        found.add(((*row[:place], tokenizer.mask_token_id, *row[place + 1 :]), place))
    if tokenizer.unk_token_id in pieces:
        raise UserError(
            f"the tokenizer has no entry for {words[pieces.index(tokenizer.unk_token_id)]!r} as it stands in {text!r}."
        )
    if len(found) > 1 or len(set(pieces)) < len(pieces):
        raise UserError(
            f"the tokenizer parts {text!r} differently with its words, or takes two for one: no comparison."
        )
    ((row_, at),) = found
    return Slot(list(row_), at, tuple(pieces))
