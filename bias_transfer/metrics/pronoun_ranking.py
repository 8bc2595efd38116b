"""Pronoun ranking: how much rather a language model puts she than he beside an occupation (Kurita et al. 2019)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bias_transfer.models.batching import Tokens
from bias_transfer.metrics.mask_filling import probabilities
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.spec import Measure
from bias_transfer.errors import UserError

PAIR = ("she", "he")


@dataclass(frozen=True)
class Probe:
    """One sentence as token ids, with its pronoun masked."""

    target: list[int]
    prior: list[int]
    """The same with a mask for each sub-token of the occupation; its article stays."""
    place: int
    """Of the masked pronoun, in both."""
    she: int
    """The token id of the pronoun at that place."""
    he: int


def pronoun_ranking(
    model: LanguageModel, occupations: Mapping[str, tuple[str, str]], templates: Sequence[str]
) -> list[Measure]:
    """s(o, t) = ln[p(she | o, t) / p(she | prior)] - ln[p(he | o, t) / p(he | prior)] for each occupation and template:
    Kurita et al. 2019, section 2. Above 0, the occupation draws the model towards she.

    occupations: group -> (article, surface form); templates with {pronoun}, {occupation} and, where one belongs, {article}.
    Three metrics, in nats: pronoun_logit = ln p(she | o, t) - ln p(he | o, t), pronoun_prior the same for the prior, and
    pronoun_score, their difference. n: the two pronouns. Raises UserError where a pronoun is not one sub-token.
    """
    keys = [(group, template) for template in templates for group in occupations]
    probes = [probe(model.tokenizer, template, *occupations[group]) for group, template in keys]
    places = [each.place for each in probes]
    logits = _preference(model, probes, [each.target for each in probes], places)
    priors = _preference(model, probes, [each.prior for each in probes], places)
    return [
        row for key, logit, prior in zip(keys, logits, priors, strict=True) for row in _measures(*key, logit, prior)
    ]


def _preference(model: LanguageModel, probes: Sequence[Probe], rows: Tokens, places: Sequence[int]) -> list[float]:
    """ln p(she) - ln p(he) at the place of each row."""
    found = probabilities(model, rows, places)
    return [math.log(row[each.she] / row[each.he]) for row, each in zip(found, probes, strict=True)]


def _measures(group: str, template: str, logit: float, prior: float) -> Iterator[Measure]:
    values = {"pronoun_score": logit - prior, "pronoun_logit": logit, "pronoun_prior": prior}
    for metric, value in values.items():
        yield Measure("upstream", metric, group, template, value, len(PAIR))


def probe(tokenizer: Any, template: str, article: str, occupation: str) -> Probe:
    """The sentence's tokens, with and without its occupation. A pronoun that begins the sentence has a capital, and its piece
    is looked up where it stands: at the beginning of a text and within it, it may be two entries of the vocabulary.

    Raises UserError for a tokenizer that splits a pronoun or treats the rest of the sentence differently.
    """
    rows, pieces, slots = [], [], []
    for word in PAIR:
        row, pronoun, named = _tokens(tokenizer, template, word, article, occupation)
        if len(pronoun) != 1:
            raise UserError(
                f"the tokenizer makes {len(pronoun)} sub-tokens of {word!r} in {template!r}: pronoun ranking needs one. "
                "Take a model whose vocabulary has both pronouns as whole words."
            )
        if row[pronoun[0]] == tokenizer.unk_token_id:
            raise UserError(
                f"the tokenizer has no entry for {word!r} as it stands in {template!r}: it is unknown to it."
            )
        pieces.append(row[pronoun[0]])
        rows.append(_masked(tokenizer, row, pronoun))
        slots.append((pronoun[0], named))
    if rows[0] != rows[1] or slots[0] != slots[1] or pieces[0] == pieces[1]:
        raise UserError(f"the tokenizer parts {template!r} differently with she and he: they cannot be compared on it.")
    place, named = slots[0]
    return Probe(rows[0], _masked(tokenizer, rows[0], named), place, *pieces)


def _tokens(
    tokenizer: Any, template: str, pronoun: str, article: str, occupation: str
) -> tuple[list[int], list[int], list[int]]:
    """(token ids, places of the pronoun, places of the occupation) of the filled template."""
    given = {"article": article, "occupation": occupation}
    given["pronoun"] = pronoun.capitalize() if template.startswith("{pronoun}") else pronoun
    encoded = tokenizer(template.format(**given), return_offsets_mapping=True)
    offsets = encoded["offset_mapping"]
    found = list[list[int]]()
    for slot in ("pronoun", "occupation"):
        before = template.partition(f"{{{slot}}}")[0].format(**given)
        found.append(covering(offsets, before, given[slot]))
    spoken, named = found
    return list(encoded["input_ids"]), spoken, named


def covering(offsets: Sequence[tuple[int, int]], before: str, words: str) -> list[int]:
    """Places of the tokens that hold a part of the words, which stand behind `before`; offsets: of each token."""
    start, end = len(before.rstrip()), len(before) + len(words)  # a piece may be the space alone
    return [place for place, (first, last) in enumerate(offsets) if first < end and last > start]


def _masked(tokenizer: Any, row: Sequence[int], places: Sequence[int]) -> list[int]:
    return [tokenizer.mask_token_id if place in places else token for place, token in enumerate(row)]
