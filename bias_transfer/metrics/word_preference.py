"""How strongly a language model prefers the words of one list to those of another next to a group.

Modelled on pronoun ranking (Kurita et al. 2019): the preference in the template without the group is subtracted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bias_transfer.errors import UserError
from bias_transfer.metrics.mask_filling import probabilities
from bias_transfer.metrics.pronoun_ranking import covering
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.spec import Measure


@dataclass(frozen=True)
class Slot:
    """One sentence as token ids, with its {mask} masked."""

    row: list[int]
    place: int
    """Position of the mask."""
    ids: tuple[int, ...]
    """Token id of each word, as it is written at that position."""


def word_comparison(
    model: LanguageModel,
    groups: Mapping[str, str],
    templates: Mapping[str, str],
    first: Sequence[str],
    second: Sequence[str],
) -> list[Measure]:
    """ln[p(first | g, t) / p(second | g, t)] for each group and template, minus the same for the template without the group.

    groups: name -> its words in the template; templates: with {group} and {mask} -> the same without {group}; first, second:
    lists of words, whose probability is the sum over their words at the mask. Three metrics, in nats: word_logit with the
    group, word_prior without it, and word_score, their difference: above 0 the group raises the preference for the first list.
    n: words of both lists. Raises UserError for a word that is not a single sub-token at the mask.
    """
    priors = _preference(model, [slot(model.tokenizer, text, first, second) for text in templates.values()], len(first))
    keys = [(group, template) for template in templates for group in groups]
    slots = [
        slot(model.tokenizer, template.replace("{group}", groups[group]), first, second) for group, template in keys
    ]
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
    """Raises the UserError that `word_comparison` would raise, without running the model."""
    for template, without in templates.items():
        for text in (without, *(template.replace("{group}", words) for words in groups.values())):
            slot(model.tokenizer, text, first, second)


def _measures(group: str, template: str, logit: float, prior: float, n: int) -> Iterator[Measure]:
    values = {"word_score": logit - prior, "word_logit": logit, "word_prior": prior}
    for metric, value in values.items():
        yield Measure("upstream", metric, group, template, value, n)


def _preference(model: LanguageModel, slots: Sequence[Slot], split: int) -> np.ndarray:
    """(slots,): ln p of the first `split` words minus ln p of the others."""
    at_mask = probabilities(model, [each.row for each in slots], [each.place for each in slots])
    of_words = np.take_along_axis(at_mask, np.array([each.ids for each in slots]), axis=1)
    return np.asarray(np.log(of_words[:, :split].sum(axis=1)) - np.log(of_words[:, split:].sum(axis=1)))


def slot(tokenizer: Any, text: str, first: Sequence[str], second: Sequence[str]) -> Slot:
    """The sentence's tokens with a mask for {mask}, and the token id of each word in its place. A word that begins the
    sentence is capitalised.

    Raises UserError for a word that the tokenizer splits or does not know, and for two words with the same token.
    """
    before, _, after = text.partition("{mask}")
    words = [word if before.strip() else word[:1].upper() + word[1:] for word in (*first, *second)]
    encoded = tokenizer([before + word + after for word in words], return_offsets_mapping=True)
    masked = set[tuple[tuple[int, ...], int]]()  # must be the same sentence whichever word stood in it
    ids = list[int]()
    for word, row, offsets in zip(words, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        places = covering(offsets, before, word)
        if len(places) != 1:
            raise UserError(
                f"the tokenizer splits {word!r} in {text!r} into {len(places)} sub-tokens, and the comparison of words needs "
                "one. Use words that the model's vocabulary has as a whole."
            )
        (place,) = places
        ids.append(row[place])
        masked.add(((*row[:place], tokenizer.mask_token_id, *row[place + 1 :]), place))
    if tokenizer.unk_token_id in ids:
        raise UserError(
            f"the tokenizer's vocabulary has no entry for {words[ids.index(tokenizer.unk_token_id)]!r} in {text!r}. "
            "Use other words."
        )
    if len(masked) > 1 or len(set(ids)) < len(ids):
        raise UserError(
            f"the tokenizer splits {text!r} differently depending on the word, or reads two words as the same token, so that "
            "the words cannot be compared. Use other words."
        )
    ((tokens, at_mask),) = masked
    return Slot(list(tokens), at_mask, tuple(ids))
