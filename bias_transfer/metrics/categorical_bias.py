"""Categorical bias score, CBS (Ahn and Oh 2021): how differently does a language model treat the groups of one category?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bias_transfer.metrics import files
from bias_transfer.metrics.sentiment import vader, vader_lexicon
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.models.vocabulary import whole_words
from bias_transfer.spec import Measure

OPTION = "metric.cbs_attributes"


def attributes(tokenizer: Any) -> tuple[str, ...]:
    """The adjectives of VADER's lexicon that are one entry of the vocabulary and that VADER calls negative or positive.

    The lexicon has no parts of speech. A word counts as an adjective if the lexicon also has its adverb in -ly or its noun in
    -ness ("sad", "sadly"; ours): of the 577 such words about twenty are no adjectives ("cheer", "trick").
    """
    lexicon = vader_lexicon()
    known = {*lexicon}
    derived = [word for word in lexicon if known & {_adverb(word), _noun(word)}]
    whole = {*whole_words(tokenizer).values()}
    chosen = [word for word in derived if word in whole]
    return tuple(word for word, verdict in zip(chosen, vader(chosen), strict=True) if verdict)


def _adverb(word: str) -> str:
    """The regular adverb: sadly, happily, gently, tragically."""
    if word.endswith("ic"):
        return f"{word}ally"
    if word.endswith("le") and len(word) > 3:
        return f"{word[:-1]}y"
    return f"{word[:-1]}ily" if word.endswith("y") else f"{word}ly"


def _noun(word: str) -> str:
    return f"{word[:-1]}iness" if word.endswith("y") else f"{word}ness"


def of_file(
    model: LanguageModel, path: str | None, digest: str | None,
    categories: Mapping[str, Mapping[str, str]], templates: Sequence[str],
) -> list[Measure]:  # fmt: skip
    """`categorical_bias` with the attributes of a file, or with `attributes` without one. digest: `files.content_digest` when
    the trial was resolved. Raises UserError for a file that has changed since then."""
    if path is None:
        return categorical_bias(model, attributes(model.tokenizer), categories, templates)
    files.check_unchanged(OPTION, path, digest)
    return categorical_bias(model, files.words(OPTION, path), categories, templates)


def categorical_bias(
    model: LanguageModel,
    words: Sequence[str],
    categories: Mapping[str, Mapping[str, str]],
    templates: Sequence[str],
) -> list[Measure]:
    """For each category (the group) `cbs`, per template and over all: the mean over attributes, and templates, of the variance
    over the category's groups of ln p(group | attribute) - ln p(group) (`LMHead.associations`). And `cbs_attribute`, the same
    for each attribute (in the place of the template), over all categories: it records which attributes were asked about.

    categories: category -> its groups, two or more -> the group's name in a sentence; templates: with {group} and {mask}, where
    the attribute goes. The variance is that of a sample (n - 1), as in the published script. value: in nats squared, 0 for a
    model that treats all groups alike; n: scores. NaN with n = 0 where a score is not finite, and for a template that a causal
    model cannot be asked (its group stands after the attribute), which the mean leaves out.
    """
    variances = {
        category: np.array([_variance(model, template, list(names.values()), words) for template in templates])
        for category, names in categories.items()
    }
    measures, asked = list[Measure](), dict[str, np.ndarray]()
    for category, by_template in variances.items():
        size = len(categories[category])
        asked[category] = by_template[~np.isnan(by_template).all(axis=1)]
        measures += [
            _measure("cbs", category, template, by_template[[number]], size)
            for number, template in enumerate(templates)
        ]
        measures.append(_measure("cbs", category, "", asked[category], size))
    together = np.concatenate([*asked.values()])
    n = sum(len(categories[category]) * len(of_category) for category, of_category in asked.items())
    return [
        *measures,
        *(
            _measure("cbs_attribute", "", word, together[:, [number]], n / max(1, len(together)))
            for number, word in enumerate(words)
        ),
    ]


def _variance(model: LanguageModel, template: str, names: Sequence[str], words: Sequence[str]) -> np.ndarray:
    """(attributes,)."""
    if not words:
        return np.empty(0)
    with np.errstate(invalid="ignore"):
        return np.asarray(model.head.associations(template, names, words).var(axis=0, ddof=1))


def _measure(metric: str, group: str, template: str, variances: np.ndarray, groups: float) -> Measure:
    """variances: (templates, attributes), each over so many groups."""
    known = variances.size > 0 and bool(np.isfinite(variances).all())
    value = float(variances.mean()) if known else math.nan
    return Measure("upstream", metric, group, template, value, round(variances.size * groups) if known else 0)
