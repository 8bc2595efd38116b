"""Permutation tests: over groups in a regression (Freedman and Lane 1983), and over the signs of paired differences."""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import numpy as np

from analysis.stats.regression import Fit, crv1_factor, gram
from analysis.stats.wild_bootstrap import DRAWS, SEED


@lru_cache(maxsize=4)
def orders(groups: int, draws: int = DRAWS, seed: int = SEED) -> np.ndarray:
    """(draws, groups): random orders of the groups, or all of them where there are no more than `draws`."""
    if groups < 20 and math.factorial(groups) <= draws:
        return np.array(list(itertools.permutations(range(groups))))
    draw = np.random.default_rng([seed, groups, 1])
    return draw.permuted(np.tile(np.arange(groups), (draws, 1)), axis=1)


def freedman_lane(fitted: Fit, contrast: np.ndarray, draws: int = DRAWS, seed: int = SEED) -> float:
    """p value of the null that a contrast is 0 (Freedman and Lane 1983). contrast: (terms,) weights.

    The residuals of the restricted model are permuted over groups, each group's trials as one block, and the t ratio (CRV1)
    is computed again. The test is exact for a single regressor and exchangeable groups; with further regressors it is
    asymptotically valid, thanks to the ratio also where errors differ in size (DiCiccio and Romano 2017).
    """
    panel, groups = fitted.panel, fitted.groups
    bread = np.linalg.inv(gram(panel.x).sum(axis=0))
    carrier = panel.x @ bread @ contrast
    restricted = fitted.residual + carrier * float(contrast @ fitted.coefficients) / float(contrast @ bread @ contrast)
    ratios = _ratios(fitted, restricted, carrier, bread, orders(groups, draws, seed))
    observed = _ratios(fitted, restricted, carrier, bread, np.arange(groups)[None, :])[0]
    reached = int((np.abs(ratios) >= abs(observed) * (1 - 1e-9)).sum())  # ties count, whatever the rounding
    complete = groups < 20 and math.factorial(groups) <= draws
    return reached / len(ratios) if complete else (1 + reached) / (1 + len(ratios))


def _ratios(fitted: Fit, residual: np.ndarray, carrier: np.ndarray, bread: np.ndarray, order: np.ndarray) -> np.ndarray:
    """(draws,): the t ratio of the contrast in each order.

    Permuting whole groups keeps the zero sums over groups and over trials, so the fixed effects need not be removed again.
    """
    panel, rows = fitted.panel, np.arange(fitted.groups)
    scores = np.einsum("ctp,ht->chp", panel.x, residual)[rows, order]  # (draws, groups, terms)
    estimates = scores.sum(axis=1) @ bread
    predicted = estimates @ np.einsum("ct,ctp->pc", carrier, panel.x)
    off = np.einsum("ct,ht->ch", carrier, residual)[rows, order]
    factor = crv1_factor(fitted.groups, panel.n, panel.x.shape[2] + panel.x.shape[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(off.sum(axis=1) / np.sqrt(factor * ((off - predicted) ** 2).sum(axis=1)))


def sign_flip(differences: np.ndarray, draws: int = DRAWS, seed: int = SEED) -> float:
    """p value of the null that paired differences have mean 0, by flipping their signs. differences: (pairs,).

    All 2^pairs signs are tried where there are no more than `draws`: the test is exact then, and p is at least 2/2^pairs.
    """
    pairs = len(differences)
    if 2**pairs <= draws:
        flips = np.array(list(itertools.product((-1.0, 1.0), repeat=pairs)))
    else:
        flips = np.random.default_rng([seed, pairs, 2]).choice((-1.0, 1.0), size=(draws, pairs))
    reached = int((np.abs(flips @ differences) >= abs(differences.sum()) * (1 - 1e-9)).sum())
    return reached / len(flips) if 2**pairs <= draws else (1 + reached) / (1 + len(flips))
