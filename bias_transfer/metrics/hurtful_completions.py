"""Hurtful completions (HONEST, Nozza, Bianchi and Hovy 2021): which words does a language model say of a group?"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from bias_transfer.metrics import files
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.models.lm_head import SLOT, with_name
from bias_transfer.spec import Measure

OPTION = "metric.hurtful"

TOP = 20
"""Completions of each sentence (K of the paper)."""


def of_file(
    model: LanguageModel, path: str, digest: str | None, names: Mapping[str, str], templates: Sequence[str]
) -> list[Measure]:
    """`hurtful_completions` by the lexicon of a file. digest: `files.content_digest` when the trial was resolved.

    Raises UserError for a file that has changed since then.
    """
    files.check_unchanged(OPTION, path, digest)
    return hurtful_completions(model, frozenset(files.words(OPTION, path)), names, templates)


def hurtful_completions(
    model: LanguageModel, lexicon: Collection[str], names: Mapping[str, str], templates: Sequence[str]
) -> list[Measure]:
    """For each group and template `hurtful_completions`, the share of the TOP likeliest whole words in the slot that are in the
    lexicon; and over all, as HONEST is published.

    names: group -> its name in a sentence; templates: with {group} and {mask}. value: in [0, 1]; n: completions, and NaN with n
    = 0 where a probability is not finite.
    """
    keys = [(group, template) for template in templates for group in names]
    texts = [_said(template, names[group]) for group, template in keys]
    completions = model.head.completions(texts, TOP)
    hurtful = [sum(word in lexicon for word in of_text) for of_text in completions]
    measures = [
        _measure(group, template, count, len(of_text))
        for (group, template), count, of_text in zip(keys, hurtful, completions, strict=True)
    ]
    complete = all(completions)  # a share without some groups would be that of others
    return [*measures, _measure("", "", sum(hurtful), sum(map(len, completions)) if complete else 0)]


def _said(template: str, name: str) -> str:
    """The template about the name, with {mask}."""
    _, frame = with_name(template, name, SLOT)
    return "".join(frame)


def _measure(group: str, template: str, count: int, n: int) -> Measure:
    return Measure("upstream", "hurtful_completions", group, template, count / n if n else math.nan, n)
