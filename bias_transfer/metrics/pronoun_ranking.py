"""Pronoun ranking (Kurita et al. 2019): how strongly a language model prefers "she" to "he" next to an occupation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bias_transfer.errors import UserError
from bias_transfer.metrics.mask_filling import probabilities
from bias_transfer.models.batching import Tokens
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.spec import Measure

PAIR = ("she", "he")


@dataclass(frozen=True)
class Probe:
    """One sentence as token ids, with its pronoun masked."""

    target: list[int]
    prior: list[int]
    """The same with a mask for each sub-token of the occupation, whose article stays."""
    place: int
    """Position of the masked pronoun, in both."""
    she: int
    """Token id of "she" as it is written at that position."""
    he: int


def pronoun_ranking(
    model: LanguageModel, occupations: Mapping[str, tuple[str, str]], templates: Sequence[str]
) -> list[Measure]:
    """s(o, t) = ln[p(she | o, t) / p(she | prior)] - ln[p(he | o, t) / p(he | prior)] for each occupation and template
    (Kurita et al. 2019, section 2). Above 0, the occupation raises the model's preference for "she".

    occupations: group -> (article, surface form); templates: with {pronoun}, {occupation} and, where one belongs, {article}.
    Three metrics, in nats: pronoun_logit = ln p(she | o, t) - ln p(he | o, t), pronoun_prior, the same for the prior, and
    pronoun_score, their difference. n: the two pronouns. Raises UserError where a pronoun is not a single sub-token.
    """
    keys = [(group, template) for template in templates for group in occupations]
    probes = [probe(model.tokenizer, template, *occupations[group]) for group, template in keys]
    places = [each.place for each in probes]
    logits = _preference(model, probes, [each.target for each in probes], places)
    priors = _preference(model, probes, [each.prior for each in probes], places)
    values = zip(keys, logits, priors, strict=True)
    return [row for key, logit, prior in values for row in _measures(*key, logit, prior)]


def _preference(model: LanguageModel, probes: Sequence[Probe], rows: Tokens, places: Sequence[int]) -> list[float]:
    """ln p(she) - ln p(he) at the given position of each row."""
    at_pronoun = probabilities(model, rows, places)
    return [math.log(row[each.she] / row[each.he]) for row, each in zip(at_pronoun, probes, strict=True)]


def _measures(group: str, template: str, logit: float, prior: float) -> Iterator[Measure]:
    values = {"pronoun_score": logit - prior, "pronoun_logit": logit, "pronoun_prior": prior}
    for metric, value in values.items():
        yield Measure("upstream", metric, group, template, value, len(PAIR))


def probe(tokenizer: Any, template: str, article: str, occupation: str) -> Probe:
    """The sentence's tokens, with its occupation and with masks in the occupation's place.

    A pronoun that begins the sentence is capitalised, and its token id is looked up at its position: at the beginning of a text
    and within it, the same word may be two entries of the vocabulary. Raises UserError for a tokenizer that splits or does not
    know a pronoun, or that tokenizes the rest of the sentence differently for the two pronouns.
    """
    rows, pieces, slots = [], [], []
    for word in PAIR:
        row, pronoun, named = _tokens(tokenizer, template, word, article, occupation)
        if len(pronoun) != 1:
            raise UserError(
                f"the tokenizer splits {word!r} in {template!r} into {len(pronoun)} sub-tokens, and pronoun ranking needs one. "
                "Use a model whose vocabulary has both pronouns as whole words."
            )
        if row[pronoun[0]] == tokenizer.unk_token_id:
            raise UserError(
                f"the tokenizer's vocabulary has no entry for {word!r} in {template!r}. "
                "Use a model whose vocabulary has both pronouns."
            )
        pieces.append(row[pronoun[0]])
        rows.append(_masked(tokenizer, row, pronoun))
        slots.append((pronoun[0], named))
    # Both probabilities are read from one masked row, so it must be the same row whichever pronoun was masked in it.
    if rows[0] != rows[1] or slots[0] != slots[1] or pieces[0] == pieces[1]:
        raise UserError(
            f"the tokenizer splits {template!r} differently for 'she' and 'he', so they cannot be compared. "
            "Use a model with another tokenizer."
        )
    place, named = slots[0]
    return Probe(rows[0], _masked(tokenizer, rows[0], named), place, *pieces)


def _tokens(
    tokenizer: Any, template: str, pronoun: str, article: str, occupation: str
) -> tuple[list[int], list[int], list[int]]:
    """(token ids, positions of the pronoun, positions of the occupation) of the filled template."""
    words = {"article": article, "occupation": occupation}
    words["pronoun"] = pronoun.capitalize() if template.startswith("{pronoun}") else pronoun
    encoded = tokenizer(template.format(**words), return_offsets_mapping=True)

    def positions(slot: str) -> list[int]:
        before = template.partition(f"{{{slot}}}")[0].format(**words)
        return covering(encoded["offset_mapping"], before, words[slot])

    return list(encoded["input_ids"]), positions("pronoun"), positions("occupation")


def covering(offsets: Sequence[tuple[int, int]], before: str, words: str) -> list[int]:
    """Positions of the tokens that cover a part of `words`, which follow `before` in the text.

    offsets: (start, end) of each token, in characters.
    """
    start, end = len(before.rstrip()), len(before) + len(words)  # the space before a word may be a token of its own
    return [place for place, (first, last) in enumerate(offsets) if first < end and last > start]


def _masked(tokenizer: Any, row: Sequence[int], places: Sequence[int]) -> list[int]:
    return [tokenizer.mask_token_id if place in places else token for place, token in enumerate(row)]
