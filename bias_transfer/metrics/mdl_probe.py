"""A probe for an attribute, by minimum description length with online coding (Voita and Titov 2020).

How many bits does it take to transmit which of two twin sentences, one with "he" and one with "she", an encoder's state belongs
to? The fewer bits, the more easily a classifier on this encoder can use the attribute.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from bias_transfer.hashing import derive_seed
from bias_transfer.models.embeddings import hidden_states
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.models.lm_head import SLOT
from bias_transfer.spec import Measure, Stage

FEWEST = 4
"""Least number of twins in the first portion. Each portion doubles what has been sent (Voita and Titov: 0.1, 0.2 ... 100 %)."""

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Inverse penalties (scikit-learn's C) of the logistic regressions, one code each."""

Twins = Sequence[tuple[str, str]]
"""Sentences in two versions that differ in the attribute alone."""


def probe(model: LanguageModel, attributes: Mapping[str, Twins], stage: Stage) -> list[Measure]:
    """For each attribute (the group) and position of the state (the template: first, mean, and mask if each sentence has a
    {mask}; of a causal model last and mean, in the text before the {mask}): `probe_codelength` (bits), `probe_compression`
    (uniform codelength / codelength; about 1 if the states say nothing about the attribute) and `probe_accuracy`, in [0, 1], of
    a probe of the first half of the sentences on the second half.

    n: sentences that the value rests on; NaN with n = 0 where a state is not finite. Raises ValueError for fewer than 8 twins.
    """
    measures = []
    for attribute, twins in attributes.items():
        texts = [text for side in range(2) for text in (twin[side] for twin in twins)]
        slots = all(SLOT in text for text in texts)
        positions = [position for position in model.head.positions if slots or position != "mask"]
        for position, states in hidden_states(model, texts, positions).items():
            measures += _measures(stage, attribute, position, states.reshape(2, len(twins), -1))
    return measures


def _measures(stage: Stage, attribute: str, position: str, states: np.ndarray) -> list[Measure]:
    """states: (2, twins, width)."""
    n = 2 * states.shape[1]
    bits, accuracy, tested = online_code(states, attribute) if np.isfinite(states).all() else (math.nan, math.nan, 0)
    values = {
        "codelength": (bits, n),
        "compression": (n / bits if bits else math.nan, n),
        "accuracy": (accuracy, tested),
    }
    return [
        Measure(stage, f"probe_{name}", attribute, position, value, 0 if math.isnan(value) else rests_on)
        for name, (value, rests_on) in values.items()
    ]


def online_code(states: np.ndarray, name: str) -> tuple[float, float, int]:
    """(codelength in bits, accuracy on the last portion, number of its sentences) of the labels 0 and 1.

    The online code of Voita and Titov 2020. states: (2, twins, width). The first portion costs one bit per sentence, each
    further portion its cross-entropy under a logistic regression on all earlier portions (standardised). Both sentences of a
    twin are in the same portion, so each portion has both labels; the order of the twins depends on `name` alone. Ours: the
    code is the mixture, with equal weights, of the uniform code and those of all STRENGTHS, so that an overfitting probe costs
    log2(codes) bits at most and not many times the uniform code. The accuracy is that of the strength with the shortest code of
    the earlier portions. Raises ValueError for fewer than 2 x FEWEST twins.
    """
    twins = states.shape[1]
    if twins < 2 * FEWEST:
        raise ValueError(f"a probe needs at least {2 * FEWEST} twin sentences, got {twins}")
    # The seed is 0 for all trials, so that arms and stages are probed with the same order of twins.
    states = states[:, np.random.default_rng(derive_seed(0, "probe", name)).permutation(twins)]
    bits, margins, best = np.zeros(len(STRENGTHS)), np.empty((len(STRENGTHS), 0)), 0
    ends = portions(twins)
    for start, end in itertools.pairwise(ends):
        best = int(bits.argmin())
        margins = np.stack([_margins(states, start, end, strength) for strength in STRENGTHS])
        bits += np.logaddexp(0, -margins).sum(axis=1) / math.log(2)
    codes = 2 * ends[0] + np.array([2.0 * (twins - ends[0]), *bits])  # the uniform code first
    mixed = math.log2(len(codes)) - float(np.logaddexp2.reduce(-codes))
    return mixed, float((margins[best] > 0).mean()), margins.shape[1]


def portions(twins: int) -> list[int]:
    """Number of twins sent after each portion: repeated halves of all twins, the smallest of them FEWEST or more."""
    halvings = int(math.log2(twins / FEWEST))
    return [twins // 2**halving for halving in range(halvings, -1, -1)]


def _flat(states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(sentences, width) and (sentences,) of 0 and 1, from (2, twins, width)."""
    return states.reshape(-1, states.shape[2]), np.repeat([0, 1], states.shape[1])


def _margins(states: np.ndarray, start: int, end: int, strength: float) -> np.ndarray:
    """(sentences,): the log-odds of the right label for the twins from start to end, by a probe fitted on those before."""
    from sklearn.linear_model import LogisticRegression  # imported late: with SciPy it takes a second
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    tested, truth = _flat(states[:, start:end])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
    return np.asarray(model.fit(*_flat(states[:, :start])).decision_function(tested) * (2 * truth - 1))
