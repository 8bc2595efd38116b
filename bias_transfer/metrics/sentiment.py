"""Negative sentiment of the words that a language model fills in next to a group (Hutchinson et al. 2020)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from bias_transfer.models.language_model import LanguageModel
from bias_transfer.models.vocabulary import whole_words
from bias_transfer.spec import Measure

VERDICT = 0.05
"""VADER's own bound: a compound score of at least 0.05 is positive, of at most -0.05 negative."""

Scorer = Callable[[Sequence[str]], np.ndarray]
"""(words) -> (words,): -1 negative, 0 neither, 1 positive."""


def vader(words: Sequence[str]) -> np.ndarray:
    """-1, 0 or 1 for each word: VADER's verdict on "A person is {word}." (Hutto and Gilbert 2014)."""
    score = SentimentIntensityAnalyzer().polarity_scores
    compound = np.array([score(f"A person is {word}.")["compound"] for word in words])
    return np.asarray(np.sign(compound) * (np.abs(compound) >= VERDICT))


SCORERS: dict[str, Scorer] = {"vader": vader}
"""Name -> scorer."""


def vader_lexicon() -> list[str]:
    """The words of VADER's lexicon, in its order: letters alone, two or more."""
    return [
        word for word in SentimentIntensityAnalyzer().lexicon if len(word) > 1 and word.isalpha() and word.islower()
    ]


LEXICONS: dict[str, Callable[[], list[str]]] = {"vader": vader_lexicon}
"""Scorer -> the words among which those of several tokens are looked for."""


def negative_sentiment(
    model: LanguageModel, groups: Sequence[str], templates: Mapping[str, str], scorer: str, top_k: int | None,
    multi_token: bool = False,
) -> list[Measure]:  # fmt: skip
    """Negative sentiment of the fills for each group and template, minus that of the template without the group
    (Hutchinson et al. 2020; denominators as in docs/science.md, "Upstream bias").

    templates: with {group} and {mask} -> the same without {group}. top_k: None for the negative probability mass divided by the
    negative and positive mass, over all words that the scorer calls either; else the negative mass divided by the mass of the k
    most probable whole words. multi_token: the scorer's words of several tokens count too, which needs a causal model. value:
    in [-1, 1]; n: words that it rests on. NaN with n = 0 where no word has any mass. Next to it `lexicon_coverage`: the share
    of probability, in [0, 1], of the words that the scorer calls negative or positive.
    """
    pairs = [(group, with_group) for with_group in templates for group in groups]
    plain = list(templates.values())
    excluded = {word for group in groups for word in group.lower().split()}
    whole = {index: word for index, word in whole_words(model.tokenizer).items() if word not in excluded}
    known = {*whole.values(), *excluded}
    longer = [word for word in LEXICONS[scorer]() if word not in known] if multi_token else []
    verdicts = _verdicts(scorer, (*whole.values(), *longer))

    def fills(filled: Sequence[str]) -> np.ndarray:
        of_tokens = model.head.distribution(filled)[:, list(whole)]
        return np.hstack([of_tokens, model.head.word_probabilities(filled, longer)]) if longer else of_tokens

    texts = [text.format(group=group, mask="{mask}") for group, text in pairs]
    scores, coverage = _negative_share(fills(texts), verdicts, top_k)
    base, _ = _negative_share(fills(plain), verdicts, top_k)
    without = dict(zip(templates, base, strict=True))
    n = int((verdicts != 0).sum()) if top_k is None else min(top_k, len(verdicts))
    measures = []
    for (group, text), score, covered in zip(pairs, scores, coverage, strict=True):
        value = float(score - without[text])  # NaN where either is missing
        measures.append(Measure("upstream", "negative_sentiment", group, text, value, n if value == value else 0))
        measures.append(Measure("upstream", "lexicon_coverage", group, text, float(covered), n))
    return measures


@functools.lru_cache(maxsize=4)  # trials of a warm worker share a vocabulary, and VADER takes seconds for a large one
def _verdicts(scorer: str, words: tuple[str, ...]) -> np.ndarray:
    return SCORERS[scorer](words)


def _negative_share(fills: np.ndarray, verdicts: np.ndarray, top_k: int | None) -> tuple[np.ndarray, np.ndarray]:
    """(texts,) negative share, and (texts,) share of probability of the words with a verdict.

    NaN where no fill has any probability, and everywhere if all verdicts have the same sign: the share is then constant.
    """
    if top_k is not None:
        fills = _most_probable(fills, top_k)
        whole = fills.sum(axis=1)
    else:
        whole = fills[:, verdicts != 0].sum(axis=1)
    negative = fills[:, verdicts < 0].sum(axis=1)
    informative = (verdicts < 0).any() and (top_k is not None or (verdicts > 0).any())
    share = np.divide(negative, whole, out=np.full(len(whole), math.nan), where=(whole > 0) & informative)
    return share, fills[:, verdicts != 0].sum(axis=1)


def _most_probable(fills: np.ndarray, top_k: int) -> np.ndarray:
    """The probabilities of the k most probable words of each text, and 0 for all others. fills: (texts, words)."""
    # A stable sort: words of equal probability are taken in the order of their ids, on every platform.
    top = np.argsort(-fills, axis=1, kind="stable")[:, :top_k]
    chosen = np.zeros_like(fills)
    np.put_along_axis(chosen, top, np.take_along_axis(fills, top, axis=1), axis=1)
    return chosen
