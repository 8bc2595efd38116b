"""Restricted wild cluster bootstrap: the null is imposed, intervals come from inverting the test.

Cameron, Gelbach and Miller 2008; Roodman, Nielsen, MacKinnon and Webb 2019 (the fast form); MacKinnon, Nielsen and Webb
2023, "Fast and reliable jackknife and bootstrap methods for cluster-robust inference" (variants C, S, V and B).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from analysis.stats.regression import Fit
from analysis.stats.regression import crv1_factor
from analysis.stats.regression import gram

DRAWS = 9_999
SEED = 20_220_522
"""Of the weights: the same tables give the same intervals."""

FEW = 12
"""Below so many groups, Webb's six weights replace Rademacher's two, which give too few different samples."""

HALVINGS = 15
"""Of a bracket two errors wide: ends are found to a ten-thousandth of an error."""

WEBB = np.sqrt([0.5, 1.0, 1.5])


@lru_cache(maxsize=4)
def signs(groups: int, draws: int = DRAWS, seed: int = SEED) -> np.ndarray:
    """(groups, draws): mean 0, variance 1; all 2^groups Rademacher weights where these are no more than the draws."""
    if 2**groups <= draws:
        return np.array(list(itertools.product((-1.0, 1.0), repeat=groups))).T
    choices = np.concatenate([-WEBB, WEBB]) if groups < FEW else np.array([-1.0, 1.0])
    return np.random.default_rng([seed, groups]).choice(choices, size=(groups, draws))


@dataclass(frozen=True, eq=False)
class Wild:
    """The bootstrap of one contrast, as functions of the distance between estimate and null.

    A sample's estimate is shift_0 + d shift_1, its squared error square_0 + 2 d square_1 + d^2 square_2.
    """

    estimate: float
    error: float
    """Of the estimate, of the same kind as those of the samples."""
    shift: np.ndarray
    """(2, draws)"""
    square: np.ndarray
    """(3, draws)"""

    def ratios(self, distance: float) -> np.ndarray:
        """(draws,): t of each sample, with estimate - distance as the null."""
        squared = self.square[0] + 2 * distance * self.square[1] + distance**2 * self.square[2]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((self.shift[0] + distance * self.shift[1]) / np.sqrt(np.maximum(squared, 0.0)))

    def p_at(self, distance: float) -> float:
        """Two-sided p of the null estimate - distance: (1 + samples at least as far)/(1 + samples)."""
        reached = np.abs(self.ratios(distance)) >= abs(distance) / self.error * (1 - 1e-9)
        return (1 + int(reached.sum())) / (1 + int(reached.size))

    def p(self, null: float = 0.0) -> float:
        """Two-sided p of the null."""
        return self.p_at(self.estimate - null)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """All nulls that the test at 1 - level does not reject, taken as one piece around the estimate."""
        return self.estimate - self._edge(1.0, 1 - level), self.estimate - self._edge(-1.0, 1 - level)

    def _edge(self, side: float, alpha: float) -> float:
        inside, outside = 0.0, 2 * side * self.error
        for _ in range(40):
            if self.p_at(outside) <= alpha:
                break
            inside, outside = outside, 2 * outside
        else:
            return side * math.inf
        for _ in range(HALVINGS):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if self.p_at(middle) > alpha else (inside, middle)
        return (inside + outside) / 2


def wild(
    found: Fit,
    contrast: np.ndarray,
    draws: int = DRAWS,
    seed: int = SEED,
    jackknifed: bool = True,
    robust: bool = False,
) -> Wild:
    """contrast: (terms,) weights. jackknifed: samples are drawn from residuals that leave their group out (S, B); robust:
    errors are CRV3 rather than CRV1 (V, B). The default is S: it covers as well as B and V do, with shorter intervals
    (docs/statistics.md)."""
    own, bread = found.panel, np.linalg.inv(gram(found.panel.x).sum(axis=0))
    carrier = own.x @ bread @ contrast
    sources = np.stack([found.residual, carrier / (contrast @ bread @ contrast)])
    if jackknifed:
        sources = np.stack([_left_out_residual(own.x, one, contrast) for one in sources])
    weights = signs(found.groups, draws, seed)
    shift = np.einsum("gt,sgt->sg", carrier, sources) @ weights
    deviations = (_crv3_deviations if robust else _crv1_deviations)(found, sources, contrast, bread)
    first, second = deviations @ weights
    square = np.stack([(first * first).sum(axis=0), (first * second).sum(axis=0), (second * second).sum(axis=0)])
    error = crv3(found, contrast) if robust else math.sqrt(contrast @ found.covariance @ contrast)
    return Wild(float(contrast @ found.coefficients), error, shift, square)


def crv3(found: Fit, contrast: np.ndarray) -> float:
    """The jackknife's standard error over groups, around the estimate: CRV3 (MacKinnon, Nielsen and Webb 2023, eq. 12)."""
    away = (found.left_out - found.coefficients) @ contrast
    return math.sqrt((found.groups - 1) / found.groups * float(away @ away))


def _left_out_residual(x: np.ndarray, residual: np.ndarray, contrast: np.ndarray) -> np.ndarray:
    """The restricted model's residuals of each group when that group is left out of its fit: (I - H_gg)^-1 u_g."""
    groups = len(x)
    share = groups / (groups - 1)
    free = np.linalg.svd(contrast[None, :])[2][1:].T  # (terms, terms - 1): what the null leaves free
    if not free.size:
        return share * residual
    kept = x @ free
    grams = gram(kept)
    scores = np.einsum("gtp,gt->gp", kept, residual)
    moved = np.linalg.solve(grams.sum(axis=0) - share * grams, scores[..., None])[..., 0]
    return np.asarray(share * (residual + share * np.einsum("gtp,gp->gt", kept, moved)))


def _alone(crossed: np.ndarray) -> np.ndarray:
    """crossed: (sources, groups c, groups h). The share of a sample with the residuals of h alone that stays in c when the
    trials' means are taken out."""
    return np.asarray(crossed * (np.eye(crossed.shape[1]) - 1 / crossed.shape[1]))


def _crv1_deviations(found: Fit, sources: np.ndarray, contrast: np.ndarray, bread: np.ndarray) -> np.ndarray:
    """sources: (sources, groups, trials). (sources, groups, groups): scores of group c in a sample that holds the residuals of
    group h alone, scaled so that their squares sum to CRV1."""
    own, groups = found.panel, found.groups
    carrier = own.x @ bread @ contrast
    crossed = carrier @ sources.transpose(0, 2, 1)
    scores = np.einsum("htp,sht->sph", own.x, sources)
    fitted = np.einsum("ct,ctp->cp", carrier, own.x) @ bread @ scores
    factor = crv1_factor(groups, own.n, own.x.shape[2] + own.x.shape[1])
    return np.asarray(math.sqrt(factor) * (_alone(crossed) - fitted))


def _crv3_deviations(found: Fit, sources: np.ndarray, contrast: np.ndarray, bread: np.ndarray) -> np.ndarray:
    """The same for CRV3: by how much the estimate moves when group c is left out."""
    own, groups = found.panel, found.groups
    share, grams = groups / (groups - 1), gram(found.panel.x)
    sides = np.broadcast_to(contrast[:, None], (groups, len(contrast), 1))
    left = np.linalg.solve(grams.sum(axis=0) - share * grams, sides)[..., 0]  # (groups, terms)
    scores = np.einsum("htp,sht->sph", own.x, sources)
    crossed = np.einsum("cp,ctp->ct", left, own.x) @ sources.transpose(0, 2, 1)
    moved = (left - bread @ contrast) @ scores - share * _alone(crossed)
    return np.asarray(math.sqrt((groups - 1) / groups) * moved)
