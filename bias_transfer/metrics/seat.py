"""Association tests on sentence embeddings: WEAT (Caliskan et al. 2017) as SEAT (May et al. 2019)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bias_transfer.models.hidden_states import Position
from bias_transfer.models.hidden_states import hidden_states
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.spec import Measure
from bias_transfer.spec import Stage
from bias_transfer.hashing import derive_seed

TEMPLATES = ("This is {word}.", "That is {word}.", "There is {word}.", "Here is {word}.")
"""Sentences that say nothing of the word (four of May et al.'s)."""

MOST_PARTITIONS, DRAWS = 20_000, 9_999
"""The permutation test is exact up to so many partitions (two sets of 8 have 12,870); above, so many are drawn."""


@dataclass(frozen=True)
class AssociationTest:
    """Are the first targets nearer to the first attributes, and the second ones to the second?"""

    targets: tuple[tuple[str, ...], tuple[str, ...]]
    attributes: tuple[tuple[str, ...], tuple[str, ...]]


def association(
    model: LanguageModel, tests: Mapping[str, AssociationTest], position: Position, stage: Stage
) -> list[Measure]:
    """For each test (the group): `seat`, the effect size d, and `seat_p`, its one-sided p-value.

    A word's vector is its mean over the templates, so that words are permuted, not sentences: those of one word are no
    independent observations (ours; May et al. permute sentences). Also `seat` of each template alone. value: d in [-2, 2],
    p in (0, 1]; n: target words; NaN with n = 0 where all words are equally associated, or a state is not finite.
    """
    words = sorted({word for test in tests.values() for side in (*test.targets, *test.attributes) for word in side})
    texts = [template.format(word=word) for template in TEMPLATES for word in words]
    states = hidden_states(model, texts, [position])[position].reshape(len(TEMPLATES), len(words), -1)
    places = {word: place for place, word in enumerate(words)}
    pooled = states.mean(axis=0)
    measures = []
    for name, test in tests.items():
        for template, vectors in [("", pooled), *zip(TEMPLATES, states, strict=True)]:
            first, second = _sides(vectors, places, test)
            measures.append(_measure(stage, "seat", name, template, effect_size(first, second), test))
        first, second = _sides(pooled, places, test)
        measures.append(_measure(stage, "seat_p", name, "", permutation_p(first, second, name), test))
    return measures


def _sides(vectors: np.ndarray, places: Mapping[str, int], test: AssociationTest) -> tuple[np.ndarray, np.ndarray]:
    """The association of each first and of each second target. vectors: (words, width)."""
    rows = {side: vectors[[places[word] for word in side]] for side in (*test.targets, *test.attributes)}
    first, second = (associations(rows[side], *(rows[own] for own in test.attributes)) for side in test.targets)
    return first, second


def _measure(stage: Stage, metric: str, name: str, template: str, value: float, test: AssociationTest) -> Measure:
    return Measure(stage, metric, name, template, value, 0 if math.isnan(value) else sum(map(len, test.targets)))


def associations(targets: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """s(w, A, B), the mean cosine of each target with the first attributes less that with the second. rows: (words, width)."""
    return np.asarray((_cosines(targets, first).mean(axis=1)) - _cosines(targets, second).mean(axis=1))


def _cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        left, right = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (left, right))
    return np.asarray(left @ right.T)


def effect_size(first: np.ndarray, second: np.ndarray) -> float:
    """d: the difference of the means of two sets of associations, over the SD (n - 1) of all of them. NaN where that is 0."""
    spread = np.concatenate([first, second]).std(ddof=1)
    return float((first.mean() - second.mean()) / spread) if spread > 0 else math.nan


def permutation_p(first: np.ndarray, second: np.ndarray, name: str) -> float:
    """The share of partitions into sets of the same sizes whose first one has at least the sum of associations observed.

    The observed partition counts, ties do too (as in May et al.'s code), so p is never 0. Beyond MOST_PARTITIONS:
    (k + 1) / (DRAWS + 1), from a random stream that depends on `name` alone.
    """
    both = np.concatenate([first, second])
    if not np.isfinite(both).all() or both.std() == 0:
        return math.nan
    bound = first.sum() - 1e-12 * np.abs(both).sum()  # the same sum in another order is a tie
    if math.comb(len(both), len(first)) <= MOST_PARTITIONS:
        chosen: Sequence[tuple[int, ...]] = [*itertools.combinations(range(len(both)), len(first))]
        return float((both[np.array(chosen)].sum(axis=1) >= bound).mean())
    generator = np.random.default_rng(derive_seed(0, "association", name))
    drawn = generator.permuted(np.tile(both, (DRAWS, 1)), axis=1)[:, : len(first)].sum(axis=1)
    return float(((drawn >= bound).sum() + 1) / (DRAWS + 1))
