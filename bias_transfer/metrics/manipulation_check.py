"""Manipulation check: how far an upstream arm moved the hidden states and the upstream measure of the untreated model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bias_transfer.models.embeddings import token_states
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.spec import Measure

TEXTS, MOST_TOKENS = 100, 64
"""The held-out text on which hidden states are compared: number of texts, and tokens of each."""


@dataclass(frozen=True)
class Look:
    """What is compared of a model, before and after an arm."""

    states: np.ndarray
    """(tokens, width): last hidden states on held-out text, the same text for every arm."""
    scores: Mapping[str, float]
    """Group -> the primary upstream measure, mean over templates."""


def look(model: LanguageModel, heldout: Sequence[str], scores: Mapping[str, float]) -> Look:
    """The model in its present state. heldout: texts, of which the first `TEXTS` are read."""
    return Look(token_states(model, heldout[:TEXTS], MOST_TOKENS), dict(scores))


def compare(before: Look, after: Look) -> list[Measure]:
    """How far an arm moved the model (all ours). n: tokens for the first two measures, groups for the others.

    `variance_removed`: 1 - tr cov(after) / tr cov(before) of the last hidden states; negative where variance was added.
    `hidden_shift`: mean squared distance between a token's states before and after, divided by tr cov(before).
    `upstream_shift_mean` and `upstream_shift_rms`: mean and root mean square over groups of the change of the primary upstream
    measure, in its unit.
    `upstream_kept_r`: correlation over groups of the measure before and after; NaN for fewer than three groups.
    """
    tokens, variance = len(before.states), float(before.states.var(axis=0).sum())
    distance = float(((after.states - before.states) ** 2).sum(axis=1).mean())
    pairs = [(value, after.scores.get(group, math.nan)) for group, value in before.scores.items()]
    both = np.array([pair for pair in pairs if not any(map(math.isnan, pair))]).reshape(-1, 2)
    moved = both[:, 1] - both[:, 0]
    correlated = len(both) > 2 and both.std(axis=0).min() > 0
    return [
        _measure("variance_removed", 1 - float(after.states.var(axis=0).sum()) / variance, tokens),
        _measure("hidden_shift", distance / variance, tokens),
        _measure("upstream_shift_mean", float(moved.mean()) if len(both) else math.nan, len(both)),
        _measure("upstream_shift_rms", float(np.sqrt((moved**2).mean())) if len(both) else math.nan, len(both)),
        _measure("upstream_kept_r", float(np.corrcoef(both.T)[0, 1]) if correlated else math.nan, len(both)),
    ]


def _measure(metric: str, value: float, n: int) -> Measure:
    return Measure("upstream", metric, "", "", value, n if value == value else 0)
