"""LEACE, least-squares concept erasure (Belrose et al. 2023), and its twins: an affine map after the last layer."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from bias_transfer.errors import UserError
from bias_transfer.hashing import derive_seed
from bias_transfer.interventions.upstream.attribute_states import (
    SHAM,
    Attribute,
    StatesOptions,
    attribute_states,
    check_strength,
    orthonormal,
)
from bias_transfer.interventions.upstream.projection import insert
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.tasks.base import Context

FLOOR = 1e-8
"""Directions with less than this share of the largest variance are left alone (ours). After a layer norm one direction has no
variance but the rounding errors of fp32, and to erase a concept there the map would have entries of 10^5."""

NOTHING = 1e-8
"""Correlations below this are rounding errors."""


class LeaceOptions(StatesOptions):
    """`upstream.NAME` for `upstream: leace`. Defaults are ours."""

    position: Literal["mean", "classifier"] = "classifier"
    words: Attribute = "gender"
    control: Literal["sham", "random"] | None = None
    """sham: erase which of two neutral words a sentence has (north/south); random: project out a random subspace, drawn by the
    seed. Both have the rank of the arm, and act about the same mean."""


class Eraser(NamedTuple):
    """x -> x - left right (x - mean), of rank k."""

    left: np.ndarray
    """(width, k)"""
    right: np.ndarray
    """(k, width)"""
    mean: np.ndarray
    """(width,)"""


check = check_strength


def apply(model: LanguageModel, dose: float, options: LeaceOptions, seed: int, context: Context) -> None:
    """Insert the eraser after the last layer, in place; at dose s it acts on each state by the share s.

    It is applied to every token, and fitted on the states at one position. Without `control: random` the seed has no effect.
    """
    if dose:
        eraser = _eraser(model, options, seed, context)
        change = dose * eraser.left @ eraser.right
        insert(model, np.eye(len(change)) - change, change @ eraser.mean, options.kept)


def _eraser(model: LanguageModel, options: LeaceOptions, seed: int, context: Context) -> Eraser:
    if options.control == "sham":
        return fit(attribute_states(model, options, SHAM[options.words], context))
    eraser = fit(attribute_states(model, options, options.words, context))
    if options.control is None:
        return eraser
    generator = np.random.default_rng(derive_seed(seed, "upstream", "leace"))
    directions = orthonormal(generator.standard_normal(eraser.right.shape))
    return Eraser(directions.T, directions, eraser.mean)


def fit(states: np.ndarray) -> Eraser:
    """The eraser of the side: P = I - W+ u u' W about the mean, W = S_xx^(-1/2), u = left singular vectors of W S_xz.

    Of all affine maps after which no linear probe of the side is better than chance *on these states*, it changes them least
    (Belrose et al. 2023, section 4). Covariances are not shrunk. states: (sentences, sides, width). The rank is at most
    sides - 1. Raises UserError where the sides do not differ: there is nothing to erase.
    """
    flat, sides = states.reshape(-1, states.shape[2]), states.shape[1]
    mean = flat.mean(axis=0)
    side = np.tile(np.eye(sides), (len(states), 1))
    covariance = (flat - mean).T @ (flat - mean) / len(flat)
    variances, axes = np.linalg.eigh(covariance)
    spread = np.sqrt(np.where(variances > FLOOR * variances[-1], variances, 0))
    whiten = (axes * np.divide(1, spread, out=np.zeros_like(spread), where=spread > 0)) @ axes.T
    vectors, values, _ = np.linalg.svd(
        whiten @ (flat - mean).T @ (side - side.mean(axis=0)) / len(flat), full_matrices=False
    )
    kept = vectors[:, : sides - 1][:, values[: sides - 1] > NOTHING]
    if not kept.size:
        raise UserError(
            "upstream: leace has nothing to erase: the model's states are the same for all sides of the attribute."
        )
    return Eraser((axes * spread) @ axes.T @ kept, kept.T @ whiten, mean)
