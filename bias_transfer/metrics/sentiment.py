"""Negative sentiment of the words that a language model fills in next to a group (Hutchinson et al. 2020)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from unicodedata import normalize

import numpy as np
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from bias_transfer.errors import UserError
from bias_transfer.metrics import files
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.models.lm_head import SLOT
from bias_transfer.models.vocabulary import entries, whole_words
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


LANGUAGES: dict[str, str] = {"vader": "English"}
"""Scorer -> the language of its words."""

Lexicon = Mapping[str, int]
"""Word, in lower case and NFC -> -1 for a negative and 1 for a positive one."""

OPTION = "metric.lexicon"


def read_lexicon(path: str, digest: str | None = None) -> dict[str, int]:
    """The words of a .csv, .tsv or .jsonl file with the columns word and score, of which the sign counts; 0 is neither.

    digest: `files.content_digest` when the trial was resolved. Raises UserError for a file that has changed since then, for a
    score that is no number, and for a list that has no negative or no positive word.
    """
    if digest is not None:
        files.check_unchanged(OPTION, path, digest)
    signs = {}
    for row in files.rows(OPTION, path, ("word", "score"), ", with a number as score"):
        word, score = row.cells
        try:
            signs[normalize("NFC", word.lower())] = int(np.sign(float(score)))
        except ValueError:
            raise UserError(f"{row.where}: the score {score[:20]!r} is no number. Below 0 is negative.") from None
    for sign, name in ((-1, "negative"), (1, "positive")):
        if sign not in signs.values():
            raise UserError(
                f"{path}: no {name} word in it: its share would say nothing. A score {'<>'[sign > 0]} 0 is {name}."
            )
    return signs


LEXICONS: dict[str, Callable[[], list[str]]] = {"vader": vader_lexicon}
"""Scorer -> the words among which those of several tokens are looked for."""


def negative_sentiment(
    model: LanguageModel, groups: Sequence[str], templates: Mapping[str, str], scorer: str, top_k: int | None,
    multi_token: bool = False, lexicon: Lexicon | None = None,
) -> list[Measure]:  # fmt: skip
    """Negative sentiment of the fills for each group and template, minus that of the template without the group
    (Hutchinson et al. 2020; denominators as in docs/science.md, "Upstream bias").

    templates: with {group} and {mask} -> the same without {group}. top_k: None for the negative probability mass divided by the
    negative and positive mass, over all words that the scorer calls either; else the negative mass divided by the mass of the k
    most probable whole words. multi_token: the scorer's words of several tokens count too, which needs a causal model. lexicon:
    its words in place of the scorer's. value: in [-1, 1]; n: words that it rests on. NaN with n = 0 where no word has any mass.
    Next to it `lexicon_coverage`: the share of probability, in [0, 1], of the words that the scorer calls negative or positive.
    Raises UserError for a vocabulary without a word.
    """
    pairs = [(group, with_group) for with_group in templates for group in groups]
    plain = list(templates.values())
    excluded = {word for group in groups for word in group.lower().split()}
    candidates = scored_words(model.tokenizer, [*templates, *plain], lexicon)
    whole = {index: word for index, word in candidates.items() if word not in excluded}
    known = {*whole.values(), *excluded}
    of_scorer = lexicon if lexicon is not None else LEXICONS[scorer]() if multi_token else ()
    longer = [word for word in of_scorer if word not in known] if multi_token else []
    words = (*whole.values(), *longer)
    if not words:
        raise UserError(no_word(scorer, lexicon))
    verdicts = _verdicts(scorer, words) if lexicon is None else np.array([lexicon.get(word, 0) for word in words])

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


def scored_words(tokenizer: Any, templates: Sequence[str], lexicon: Lexicon | None) -> dict[int, str]:
    """Token id -> word: what can be filled in. With a lexicon its words as well, in any script, by whether they stand after a
    space in the templates."""
    words = whole_words(tokenizer)
    if lexicon is not None:
        for after_space in sorted({_after_space(template) for template in templates}):
            words |= entries(tokenizer, lexicon, after_space)
    return dict(sorted(words.items()))


def _after_space(template: str) -> bool:
    before = template.partition(SLOT)[0]
    return not before or before[-1].isspace()


def no_word(scorer: str, lexicon: Lexicon | None) -> str:
    """The message for a vocabulary without any word that could be scored."""
    if lexicon is not None:
        return (
            f"{OPTION}: none of its {len(lexicon)} words is a single token of the model's vocabulary in these templates, so "
            "there is no sentiment to measure. Add words that are, or use a model of that language."
        )
    return (
        f"metric.scorer: no word of {scorer}, a lexicon of {LANGUAGES.get(scorer, 'another language')}, is in the model's "
        "vocabulary, so there is no sentiment to measure. For another language, give a lexicon of your own "
        f"({OPTION}=FILE, a .csv with the columns word and score), or words_a and words_b in a custom task's file."
    )


def check(
    tokenizer: Any, templates: Sequence[str], scorer: str, lexicon: Lexicon | None, multi_token: bool = False
) -> None:
    """Raises UserError if no word of the scorer's, or of the lexicon, is in the vocabulary, and for words of several tokens
    that would stand without a space before them."""
    if multi_token and (joined := [template for template in templates if not _after_space(template)]):
        raise UserError(
            f"metric.multi_token: words of several tokens are read after a space, and {joined[0]!r} has none before {SLOT}. "
            "Leave the option out, or write the template with one."
        )
    if multi_token:
        return
    scored = lexicon if lexicon is not None else LEXICONS[scorer]()
    if {*scored}.isdisjoint(scored_words(tokenizer, templates, lexicon).values()):
        raise UserError(no_word(scorer, lexicon))


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
