"""SentDebias (Liang et al. 2020) and its controls: project a subspace out of the last hidden states."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from bias_transfer.errors import UserError
from bias_transfer.hashing import derive_seed
from bias_transfer.interventions.upstream import projection
from bias_transfer.interventions.upstream.attribute_states import (
    Attribute,
    StatesOptions,
    attribute_states,
    check_strength,
    orthonormal,
)
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.tasks.base import Context


class ProjectionOptions(StatesOptions):
    """What sent_debias, sham_debias and random_projection have in common. Defaults are ours."""

    components: int = Field(default=1, ge=1)
    """k, the number of dimensions that are projected out."""


class ShamDebiasOptions(ProjectionOptions):
    """`upstream.NAME` for `upstream: sham_debias`."""

    refit: bool | None = None
    """Fine-tune as with `kept`, then estimate the subspace again on the fine-tuned model, and predict with that one, as
    SentDebias's script `run_classifier.py` does when it evaluates."""

    @field_validator("refit")
    @classmethod
    def _off_is_not_set(cls, value: bool | None) -> bool | None:
        return value or None  # so that a trial with `false` has the id of a trial without the option

    @model_validator(mode="after")
    def _refit_is_kept(self) -> Self:
        if self.refit and not self.kept:
            raise ValueError("upstream.refit: the projection is fine-tuned with as kept; leave out kept=false")
        return self


class SentDebiasOptions(ShamDebiasOptions):
    """`upstream.NAME` for `upstream: sent_debias`."""

    words: Attribute = "gender"


class RandomProjectionOptions(ProjectionOptions):
    """`upstream.NAME` for `upstream: random_projection`."""

    words: Attribute = "gender"
    match: Literal["rank", "variance"] = "rank"
    """rank: a random subspace with as many dimensions; variance: one that also removes as much variance of the sentences."""


def check(model: LanguageModel, dose: float, options: ProjectionOptions) -> None:
    """Raises UserError for a strength outside [0, 1], and for as many components as the model's width or more."""
    check_strength(model, dose, options)
    width = int(model.lm.config.hidden_size)
    if options.components >= width:
        raise UserError(
            f"upstream.components: {options.components}; the model's width is {width}. Allowed: 1 to {width - 1}."
        )


def debias(model: LanguageModel, dose: float, options: SentDebiasOptions, seed: int, context: Context) -> None:
    """Project the attribute's subspace out, in place. The seed has no effect."""
    _project(model, dose, options, options.words, context)


def sham(model: LanguageModel, dose: float, options: ShamDebiasOptions, seed: int, context: Context) -> None:
    """As `debias`, with words that say nothing about a person: what such a projection does by itself."""
    _project(model, dose, options, "neutral", context)


def _project(model: LanguageModel, dose: float, options: ShamDebiasOptions, words: str, context: Context) -> None:
    if dose:
        states = attribute_states(model, options, words, context)
        projection.project_out(model, subspace(states, options.components), dose, options.kept)


def refit(model: LanguageModel, dose: float, options: ShamDebiasOptions, context: Context) -> None:
    """Replace the subspace of a fine-tuned model's projection, in place, by one of its states *before* the projection.

    The script of Liang et al. 2020 (`run_classifier.py`) so fits its direction again before it evaluates. context: without a
    memory, since this is no longer the untreated model.
    """
    words = options.words if isinstance(options, SentDebiasOptions) else "neutral"
    with projection.bypassed(model):
        states = attribute_states(model, options, words, context)
    projection.replace(model, subspace(states, options.components), dose)


def random(model: LanguageModel, dose: float, options: RandomProjectionOptions, seed: int, context: Context) -> None:
    """As `debias`, with a random subspace that the seed draws."""
    if not dose:
        return
    generator = np.random.default_rng(derive_seed(seed, "upstream", "random_projection"))
    states = attribute_states(model, options, options.words, context)
    draw = generator.standard_normal((options.components, states.shape[2]))
    if options.match == "variance":
        directions = matched(draw, states, subspace(states, options.components))
    else:
        directions = orthonormal(draw)
    projection.project_out(model, directions, dose, options.kept)


def subspace(states: np.ndarray, components: int) -> np.ndarray:
    """The first k principal components, (k, width), orthonormal rows, of the states less their sentence's mean over sides.

    states: (sentences, sides, width), not scaled to length 1 (bias-bench does so). Liang et al. 2020, algorithm 1. All k
    components are used, not their average.
    """
    centred = (states - states.mean(axis=1, keepdims=True)).reshape(-1, states.shape[2])
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    return np.asarray(directions[:components])


def matched(draw: np.ndarray, states: np.ndarray, twin: np.ndarray) -> np.ndarray:
    """Random directions, (k, width), that remove as much variance of the states as `twin` does, or as nearly as possible.

    draw: (k, width), standard normal; states: (sentences, sides, width); twin: (k, width), orthonormal rows.
    """
    # The draw is weighted by a power of the variances along the principal axes. The larger the power, the more variance the
    # directions remove, so bisection finds the power.
    flat = states.reshape(-1, states.shape[2])
    variances, axes = np.linalg.eigh(np.cov(flat, rowvar=False))
    variances = np.clip(variances, variances.max() * 1e-12, None)
    target = removed(twin, variances, axes)
    low, high = -3.0, 3.0
    for _ in range(60):
        power = (low + high) / 2
        directions = orthonormal((draw * variances**power) @ axes.T)
        low, high = (power, high) if removed(directions, variances, axes) < target else (low, power)
    return directions


def removed(directions: np.ndarray, variances: np.ndarray, axes: np.ndarray) -> float:
    """The variance in the span of the directions (k, width): the sum of v' C v.

    C, the covariance of the states, is given by its eigenvalues `variances` (width,) and eigenvectors `axes`, in columns.
    """
    return float((((directions @ axes) ** 2) * variances).sum())
