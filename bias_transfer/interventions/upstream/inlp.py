"""INLP, iterative null-space projection (Ravfogel et al. 2020), and its twins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from bias_transfer.errors import UserError
from bias_transfer.hashing import derive_seed, text_digest
from bias_transfer.interventions.upstream import attribute_words, corpus
from bias_transfer.interventions.upstream.attribute_states import (
    SHAM,
    Attribute,
    StatesOptions,
    check_strength,
    orthonormal,
    states_of,
)
from bias_transfer.interventions.upstream.projection import project_out
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.tasks.base import Context

PART = 4
"""At most this part of the width is projected out, a quarter: 80 classifiers of 3 directions each would erase a width of 128
whole."""

DEV = 0.3
"""Share of the states on which classifiers are judged (ours)."""

TOLERANCE = 1e-6
"""Weights of a classifier below this share of the largest singular value are rounding errors."""

Classes = Sequence[np.ndarray]
"""States of each class, (n, width) each, with the same n."""


class InlpOptions(StatesOptions):
    """`upstream.NAME` for `upstream: inlp`. The number of classifiers is that of bias-bench, other defaults are ours."""

    classifiers: int = Field(default=80, ge=1)
    """Train at most N classifiers."""
    words: Attribute = "gender"
    control: Literal["sham", "random"] | None = None
    """sham: as many directions of classifiers that tell neutral words apart (north/south); random: a random subspace of the
    same rank, drawn by the seed."""


def check(model: LanguageModel, dose: float, options: InlpOptions) -> None:
    """Raises UserError for a strength outside [0, 1], and for a model too narrow for a single classifier."""
    check_strength(model, dose, options)
    width, directions = int(model.lm.config.hidden_size), len(attribute_words.SETS[options.words][0]) + 1
    if directions > width // PART:
        raise UserError(
            f"upstream: inlp projects out {directions} directions per classifier, at most a quarter of the width, and the "
            f"model's is {width}. Use a model of width {PART * directions} or more."
        )


def check_text(options: InlpOptions, context: Context) -> None:
    """Raises UserError for a corpus with too few sentences with a word of the attribute, or too few without one."""
    for words in (options.words, *([SHAM[options.words]] if options.control == "sham" else [])):
        _texts(corpus.fewest(options), words, context)


def apply(model: LanguageModel, dose: float, options: InlpOptions, seed: int, context: Context) -> None:
    """Project out the directions by which linear classifiers tell the sides and neutral sentences apart, in place, at every
    token. Without `control: random` the seed has no effect."""
    if dose:
        project_out(model, _directions(model, options, seed, context), dose, options.kept)


def _directions(model: LanguageModel, options: InlpOptions, seed: int, context: Context) -> np.ndarray:
    found = _fitted(model, options, options.words, context, None)
    if options.control == "sham":
        return _fitted(model, options, SHAM[options.words], context, len(found))
    if options.control == "random":
        return orthonormal(np.random.default_rng(derive_seed(seed, "upstream", "inlp")).standard_normal(found.shape))
    return found


def _fitted(model: LanguageModel, options: InlpOptions, words: str, context: Context, rank: int | None) -> np.ndarray:
    """The directions of classifiers for these words, (k, width), computed once for all trials; rank: exactly that many."""
    variants, others = _texts(options, words, context)
    texts = [text for variant in variants for text in variant]

    def compute() -> np.ndarray:
        sides = states_of(model, texts, options, context).reshape(len(variants), len(variants[0]), -1)
        neutral = states_of(model, others, options, context)
        return null_space(classes(sides, neutral), options.classifiers, rank)

    key = {"inlp": [text_digest(texts), text_digest(others)], "position": options.position, "rank": rank}
    return context.remember({**key, "classifiers": options.classifiers}, compute)


def _texts(options: InlpOptions, words: str, context: Context) -> tuple[list[tuple[str, ...]], list[str]]:
    """Sentences with each side of the attribute, and at most as many without a word for it. What is neutral to a sham has the
    attribute's words, those of all sides in one class."""
    variants = corpus.variants(options, words, context)
    frames = options.words if words != options.words else SHAM[options.words]
    return variants, corpus.plain(options, words, frames, len(variants), context)


def classes(sides: np.ndarray, neutral: np.ndarray) -> Classes:
    """The states of each side and of neutral sentences, as many of each, in an order that is the same for all trials.

    sides: (sentences, sides, width); neutral: (at most as many sentences, width).
    """
    order = np.random.default_rng(derive_seed(0, "inlp", "sides")).permutation(len(sides))[: len(neutral)]
    others = np.random.default_rng(derive_seed(0, "inlp", "neutral")).permutation(len(neutral))
    return [*np.moveaxis(sides[order], 1, 0), neutral[others]]


def null_space(states: Classes, most: int, rank: int | None = None) -> np.ndarray:
    """The directions to project out, (k, width), orthonormal rows: the row space of the sum of the projections P_R onto the
    weights of successive classifiers, each trained on states without the directions of those before (Ravfogel et al. 2020,
    algorithm 1).

    Classifiers are linear SVMs without intercept. The last one is the first whose accuracy on the dev states is within two
    standard errors of the majority's, the `most`-th, or the last by which k stays at a quarter of the width. rank: go on until
    k is that, whatever the accuracy; of the last classifier as many directions are taken as are missing. Raises UserError if
    already the first classifier is at chance.
    """
    width = states[0].shape[1]
    removed = np.empty((0, width))
    for _ in range(most if rank is None else rank):
        found, informed = _classifier([part - part @ removed.T @ removed for part in states])
        if rank is None and (not informed or len(removed) + len(found) > width // PART):
            break
        removed = np.concatenate([removed, found if rank is None else found[: rank - len(removed)]])
        if len(removed) == rank:
            break
    if not len(removed) or len(removed) != (rank or len(removed)):
        raise UserError(
            "upstream: inlp has nothing to project out: no classifier tells the sides of the attribute, and neutral sentences, "
            "apart by the model's states."
        )
    return orthonormal(removed)


def _classifier(states: Classes) -> tuple[np.ndarray, bool]:
    """(orthonormal basis of the row space of a classifier's weights, largest singular value first; whether its accuracy on the
    dev states is above the majority's by more than two standard errors). All classes are of the same size."""
    from sklearn.svm import LinearSVC  # imported late: with SciPy it takes a second

    cut, majority = round((1 - DEV) * len(states[0])), 1 / len(states)
    labels = np.arange(len(states))
    svm = LinearSVC(fit_intercept=False, dual=False, random_state=0, max_iter=10_000)
    svm.fit(np.concatenate([part[:cut] for part in states]), np.repeat(labels, cut))
    dev = np.concatenate([part[cut:] for part in states])
    accuracy = svm.score(dev, np.repeat(labels, len(dev) // len(states)))
    _, values, directions = np.linalg.svd(svm.coef_, full_matrices=False)
    error = np.sqrt(majority * (1 - majority) / len(dev))
    return directions[values > TOLERANCE * values[0]], bool(accuracy > majority + 2 * error)
