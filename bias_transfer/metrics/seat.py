"""SEAT (May et al. 2019): the association tests of WEAT (Caliskan et al. 2017) on sentence embeddings."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bias_transfer.hashing import derive_seed
from bias_transfer.models.embeddings import hidden_states
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.models.lm_head import Position
from bias_transfer.spec import Measure, Stage

TEMPLATES = ("This is {word}.", "That is {word}.", "There is {word}.", "Here is {word}.")
"""Sentences that say nothing about the word (four of those of May et al.)."""

MOST_PARTITIONS, DRAWS = 20_000, 9_999
"""The permutation test is exact up to MOST_PARTITIONS (two sets of 8 words have 12,870); beyond, DRAWS are drawn."""


@dataclass(frozen=True)
class AssociationTest:
    """Are the first targets nearer to the first attributes, and the second ones to the second?"""

    targets: tuple[tuple[str, ...], tuple[str, ...]]
    attributes: tuple[tuple[str, ...], tuple[str, ...]]


def association(
    model: LanguageModel, tests: Mapping[str, AssociationTest], position: Position, stage: Stage
) -> list[Measure]:
    """For each test (the group): `seat`, the effect size d of Caliskan et al. 2017, and `seat_p`, its one-sided p-value.

    A word's vector is the mean of its states over the templates, so that words are permuted and not sentences: the
    sentences of one word are not independent observations (ours; May et al. and bias-bench permute sentences). States are
    not scaled to length 1 first (bias-bench does so, which changes no cosine between two sentences, but would change this
    mean). Also `seat` for each template alone. value: d in [-2, 2], p in (0, 1]; n: target words. NaN with n = 0 where all
    words have the same association, or a state is not finite.
    """
    words = sorted({word for test in tests.values() for side in (*test.targets, *test.attributes) for word in side})
    texts = [template.format(word=word) for template in TEMPLATES for word in words]
    states = hidden_states(model, texts, [position])[position].reshape(len(TEMPLATES), len(words), -1)
    row_of = {word: row for row, word in enumerate(words)}
    pooled = states.mean(axis=0)
    measures = []
    for name, test in tests.items():
        for template, vectors in [("", pooled), *zip(TEMPLATES, states, strict=True)]:
            first, second = _sides(vectors, row_of, test)
            measures.append(_measure(stage, "seat", name, template, effect_size(first, second), test))
        first, second = _sides(pooled, row_of, test)
        measures.append(_measure(stage, "seat_p", name, "", permutation_p(first, second, name), test))
    return measures


def _sides(vectors: np.ndarray, row_of: Mapping[str, int], test: AssociationTest) -> tuple[np.ndarray, np.ndarray]:
    """(first targets,) and (second targets,): the association of each target word. vectors: (words, width)."""
    sets = {side: vectors[[row_of[word] for word in side]] for side in (*test.targets, *test.attributes)}
    first, second = (associations(sets[side], *(sets[words] for words in test.attributes)) for side in test.targets)
    return first, second


def _measure(stage: Stage, metric: str, name: str, template: str, value: float, test: AssociationTest) -> Measure:
    return Measure(stage, metric, name, template, value, 0 if math.isnan(value) else sum(map(len, test.targets)))


def associations(targets: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """s(w, A, B) of Caliskan et al. 2017: (targets,), the mean cosine of each target with the first attributes minus that with
    the second. targets, first, second: (words, width)."""
    return np.asarray(_cosines(targets, first).mean(axis=1) - _cosines(targets, second).mean(axis=1))


def _cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # a state that is not finite becomes a missing value
        left, right = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (left, right))
    return np.asarray(left @ right.T)


def effect_size(first: np.ndarray, second: np.ndarray) -> float:
    """d: the difference between the means of two sets of associations, divided by the SD (n - 1) of both sets together.

    NaN where the SD is 0."""
    spread = np.concatenate([first, second]).std(ddof=1)
    return float((first.mean() - second.mean()) / spread) if spread > 0 else math.nan


def permutation_p(first: np.ndarray, second: np.ndarray, name: str) -> float:
    """Share of the partitions into sets of the same sizes whose first set has at least the observed sum of associations.

    The observed partition and ties count (as in the code of May et al.), so p is never 0. Beyond MOST_PARTITIONS it is
    (k + 1) / (DRAWS + 1), from a random stream that depends on `name` alone.
    """
    both = np.concatenate([first, second])
    if not np.isfinite(both).all() or both.std() == 0:
        return math.nan
    bound = first.sum() - 1e-12 * np.abs(both).sum()  # the same terms summed in another order are a tie
    if math.comb(len(both), len(first)) <= MOST_PARTITIONS:
        chosen: Sequence[tuple[int, ...]] = [*itertools.combinations(range(len(both)), len(first))]
        return float((both[np.array(chosen)].sum(axis=1) >= bound).mean())
    generator = np.random.default_rng(derive_seed(0, "association", name))
    drawn = generator.permuted(np.tile(both, (DRAWS, 1)), axis=1)[:, : len(first)].sum(axis=1)
    return float(((drawn >= bound).sum() + 1) / (DRAWS + 1))
