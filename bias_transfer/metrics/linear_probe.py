"""A fresh linear probe: how well does a linear classifier tell the sides of an attribute apart by an encoder's states?"""

from __future__ import annotations

import math

import numpy as np

from bias_transfer.hashing import derive_seed
from bias_transfer.spec import Measure, Stage

FOLDS = 5


def linear_probe(states: np.ndarray, stage: Stage) -> list[Measure]:
    """`fitted_probe_accuracy` and `heldout_probe_accuracy` of logistic regressions on the standardised states, in [0, 1].

    states: (sentences, sides, width), each sentence with each side of the attribute, so that chance is 1 / sides. Fitted: on
    the states that the probe has learned from. LEACE guarantees chance there and nowhere else (Belrose et al. 2023, section
    3); without it the accuracy lies above chance by itself where there are few sentences for the width. Held out: by
    cross-validation over sentences, in `FOLDS` parts. Where LEACE has erased the difference of the whole sample's means it lies
    *below* chance, since the difference in one part is the opposite of that in the others. n: texts; NaN with n = 0 for states
    that are not finite, and for fewer sentences than parts.
    """
    n = states.shape[0] * states.shape[1] if np.isfinite(states).all() and len(states) >= FOLDS else 0
    values = (_fitted(states), _heldout(states)) if n else (math.nan, math.nan)
    names = ("fitted_probe_accuracy", "heldout_probe_accuracy")
    return [Measure(stage, name, "", "", value, n) for name, value in zip(names, values, strict=True)]


def _fitted(states: np.ndarray) -> float:
    return _accuracy(states, states)


def _heldout(states: np.ndarray) -> float:
    # The seed is 0 for all trials, so that arms and stages are probed on the same parts.
    part = np.random.default_rng(derive_seed(0, "linear_probe")).permutation(len(states)) % FOLDS
    right = [_accuracy(states[part != fold], states[part == fold]) * (part == fold).sum() for fold in range(FOLDS)]
    return float(sum(right) / len(states))


def _accuracy(train: np.ndarray, test: np.ndarray) -> float:
    from sklearn.linear_model import LogisticRegression  # imported late: with SciPy it takes a second
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    probe.fit(*_flat(train))
    return float(probe.score(*_flat(test)))


def _flat(states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(texts, width) and the side of each text, from (sentences, sides, width)."""
    return states.reshape(-1, states.shape[2]), np.tile(np.arange(states.shape[1]), len(states))
