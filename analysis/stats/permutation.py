"""Permutation tests: groups under a regression (Freedman and Lane 1983), and signs of paired differences."""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import numpy as np

from analysis.stats.regression import Fit
from analysis.stats.regression import crv1_factor
from analysis.stats.regression import gram
from analysis.stats.wild_bootstrap import DRAWS
from analysis.stats.wild_bootstrap import SEED


@lru_cache(maxsize=4)
def orders(groups: int, draws: int = DRAWS, seed: int = SEED) -> np.ndarray:
    """(draws, groups): random orders, or all of them where these are no more than the draws."""
    if groups < 20 and math.factorial(groups) <= draws:
        return np.array(list(itertools.permutations(range(groups))))
    draw = np.random.default_rng([seed, groups, 1])
    return draw.permuted(np.tile(np.arange(groups), (draws, 1)), axis=1)


def freedman_lane(found: Fit, contrast: np.ndarray, draws: int = DRAWS, seed: int = SEED) -> float:
    """contrast: (terms,) weights. p of a contrast of 0: the restricted model's residuals are given to other groups, each
    group's trials as one block, and the t ratio (CRV1) is computed anew.

    Exact for a single regressor and exchangeable groups; with further regressors asymptotically so, and by the ratio also
    where errors differ in size (DiCiccio and Romano 2017).
    """
    own, groups = found.panel, found.groups
    bread = np.linalg.inv(gram(own.x).sum(axis=0))
    carrier = own.x @ bread @ contrast
    restricted = found.residual + carrier * float(contrast @ found.coefficients) / float(contrast @ bread @ contrast)
    ratios = _ratios(found, restricted, carrier, bread, orders(groups, draws, seed))
    observed = _ratios(found, restricted, carrier, bread, np.arange(groups)[None, :])[0]
    reached = int((np.abs(ratios) >= abs(observed) * (1 - 1e-9)).sum())
    complete = groups < 20 and math.factorial(groups) <= draws
    return reached / len(ratios) if complete else (1 + reached) / (1 + len(ratios))


def _ratios(found: Fit, residual: np.ndarray, carrier: np.ndarray, bread: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """(draws,): t of the contrast for each order. Block permutation keeps the sums of zero over groups and over trials, so
    that the effects take out nothing more."""
    own, here = found.panel, np.arange(found.groups)
    scores = np.einsum("ctp,ht->chp", own.x, residual)[here, chosen]  # (draws, groups, terms)
    estimates = scores.sum(axis=1) @ bread
    fitted = estimates @ np.einsum("ct,ctp->pc", carrier, own.x)
    off = np.einsum("ct,ht->ch", carrier, residual)[here, chosen]
    factor = crv1_factor(found.groups, own.n, own.x.shape[2] + own.x.shape[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(off.sum(axis=1) / np.sqrt(factor * ((off - fitted) ** 2).sum(axis=1)))


def sign_flip(differences: np.ndarray, draws: int = DRAWS, seed: int = SEED) -> float:
    """differences: (pairs,). p of a mean of 0 where each pair may be swapped; all signs where these are no more than the
    draws (exact, and no smaller than 2/2^pairs)."""
    pairs = len(differences)
    if 2**pairs <= draws:
        flips = np.array(list(itertools.product((-1.0, 1.0), repeat=pairs)))
    else:
        flips = np.random.default_rng([seed, pairs, 2]).choice((-1.0, 1.0), size=(draws, pairs))
    reached = int((np.abs(flips @ differences) >= abs(differences.sum()) * (1 - 1e-9)).sum())
    return reached / len(flips) if 2**pairs <= draws else (1 + reached) / (1 + len(flips))
