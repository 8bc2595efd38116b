"""A probe for an attribute, by minimum description length with online coding (Voita and Titov 2020).

How many bits does it take to tell two readers apart who see the encoder's states, the one of "he", the other of "she"? The
fewer, the more easily a classifier on this encoder can use the attribute.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from bias_transfer.models.hidden_states import Position
from bias_transfer.models.hidden_states import hidden_states
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.spec import Measure
from bias_transfer.spec import Stage
from bias_transfer.hashing import derive_seed

FEWEST = 4
"""Twins of the first portion at least. Each portion doubles what was sent (Voita and Titov: 0.1 % ... 50, 100 %)."""

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Inverse penalties (scikit-learn's C) of the logistic regressions that are tried."""

Twins = Sequence[tuple[str, str]]
"""Sentences in two versions, which differ in the attribute alone."""


def probe(model: LanguageModel, attributes: Mapping[str, Twins], stage: Stage) -> list[Measure]:
    """For each attribute (the group) and position (the template: first, mean, and mask where each sentence has a {mask}):
    `probe_codelength` (bits), `probe_compression` (uniform codelength / codelength; about 1: the states say nothing) and
    `probe_accuracy`, of the second half, read by the probe of the first.

    n: sentences that the value rests on; NaN with n = 0 where a state is not finite.
    """
    measures = []
    for attribute, twins in attributes.items():
        texts = [text for side in range(2) for text in (twin[side] for twin in twins)]
        positions: list[Position] = ["first", "mean"]
        positions += ["mask"] if all("{mask}" in text for text in texts) else []
        for position, states in hidden_states(model, texts, positions).items():
            measures += _measures(stage, attribute, position, states.reshape(2, len(twins), -1))
    return measures


def _measures(stage: Stage, attribute: str, position: str, states: np.ndarray) -> list[Measure]:
    n = 2 * states.shape[1]
    bits, right, read = online_code(states, attribute) if np.isfinite(states).all() else (math.nan, math.nan, 0)
    values = {
        "codelength": (bits, n),
        "compression": (n / bits if bits else math.nan, n),
        "accuracy": (right, read),
    }
    return [
        Measure(stage, f"probe_{name}", attribute, position, value, 0 if math.isnan(value) else rests_on)
        for name, (value, rests_on) in values.items()
    ]


def online_code(states: np.ndarray, name: str) -> tuple[float, float, int]:
    """(codelength in bits, accuracy on the last portion, its sentences) of the labels 0 and 1.

    states: (2, twins, width). The first portion costs one bit a sentence; each further one what a logistic regression on
    all earlier ones (standardised) makes of it. Twins go together, so each portion has both labels, in an order that
    depends on `name` alone. Ours: the code is the mixture, with equal weights, of the uniform code and those of all
    STRENGTHS, so that a probe which overfits costs log2(codes) bits at most, not many times the uniform code. The accuracy
    is of the strength that has the shortest code of the earlier portions. Raises ValueError for fewer than 2 x FEWEST twins.
    """
    twins = states.shape[1]
    if twins < 2 * FEWEST:
        raise ValueError(f"a probe needs {2 * FEWEST} twin sentences, got {twins}")
    states = states[:, np.random.default_rng(derive_seed(0, "probe", name)).permutation(twins)]
    bits, margins, best = np.zeros(len(STRENGTHS)), np.empty((len(STRENGTHS), 0)), 0
    ends = portions(twins)
    for start, end in itertools.pairwise(ends):
        best = int(bits.argmin())
        margins = np.stack([_margins(states, start, end, strength) for strength in STRENGTHS])
        bits += np.logaddexp(0, -margins).sum(axis=1) / math.log(2)
    codes = 2 * ends[0] + np.array([2.0 * (twins - ends[0]), *bits])
    mixed = math.log2(len(codes)) - float(np.logaddexp2.reduce(-codes))
    return mixed, float((margins[best] > 0).mean()), margins.shape[1]


def portions(twins: int) -> list[int]:
    """How many twins have been sent after each portion: halves of halves, the first of FEWEST or more."""
    halvings = int(math.log2(twins / FEWEST))
    return [twins // 2**halving for halving in range(halvings, -1, -1)]


def _flat(states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(sentences, width) and (sentences,) of 0 and 1, from (2, twins, width)."""
    return states.reshape(-1, states.shape[2]), np.repeat([0, 1], states.shape[1])


def _margins(states: np.ndarray, start: int, end: int, strength: float) -> np.ndarray:
    """(sentences,): the log-odds of the right label for the twins from start to end, by a probe of those before."""
    from sklearn.linear_model import LogisticRegression  # late: with SciPy it takes a second
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    told, truth = _flat(states[:, start:end])
    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
    return np.asarray(fitted.fit(*_flat(states[:, :start])).decision_function(told) * (2 * truth - 1))
