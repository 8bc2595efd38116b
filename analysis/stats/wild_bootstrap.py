"""Restricted wild cluster bootstrap: samples are drawn under the null, and intervals invert the test.

Cameron, Gelbach and Miller 2008; Roodman, Nielsen, MacKinnon and Webb 2019 (the fast form); MacKinnon, Nielsen and Webb
2023, "Fast and reliable jackknife and bootstrap methods for cluster-robust inference" (variants C, S, V and B).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from analysis.stats.regression import Fit, crv1_factor, gram

DRAWS = 9_999
SEED = 20_220_522
"""Seed of the weights, fixed so that the same tables give the same intervals."""

FEW = 12
"""With fewer groups than this, where the 2^groups Rademacher weights are not all taken, Webb's six values replace Rademacher's
two, of which too many samples would be equal."""

HALVINGS = 15
"""Halvings of a bracket two standard errors wide: ends are found to a ten-thousandth of a standard error."""

WEBB = np.sqrt([0.5, 1.0, 1.5])


@lru_cache(maxsize=4)
def signs(groups: int, draws: int = DRAWS, seed: int = SEED) -> np.ndarray:
    """(groups, draws): weights of mean 0 and variance 1; all 2^groups Rademacher weights where there are at most `draws`."""
    if enumerated(groups, draws):
        return np.array(list(itertools.product((-1.0, 1.0), repeat=groups))).T
    choices = np.concatenate([-WEBB, WEBB]) if groups < FEW else np.array([-1.0, 1.0])
    return np.random.default_rng([seed, groups]).choice(choices, size=(groups, draws))


def enumerated(groups: int, draws: int = DRAWS) -> bool:
    """Whether `signs` are all Rademacher weights that there are."""
    return bool(2**groups <= draws)


def samples(groups: int, draws: int = DRAWS) -> str:
    """The number and distribution of the samples that `signs` gives, in words."""
    if enumerated(groups, draws):
        return f"all {2**groups:,} Rademacher draws"
    return f"{draws:,} {'Webb' if groups < FEW else 'Rademacher'} draws"


@dataclass(frozen=True, eq=False)
class Wild:
    """The bootstrap of one contrast, as functions of the distance d between the estimate and the null.

    A sample's estimate is shift_0 + d shift_1; its squared standard error is square_0 + 2 d square_1 + d^2 square_2.
    """

    estimate: float
    error: float
    """Standard error of the estimate, of the same kind as those of the samples."""
    shift: np.ndarray
    """(2, draws)"""
    square: np.ndarray
    """(3, draws)"""

    def ratios(self, distance: float) -> np.ndarray:
        """(draws,): the t ratio of each sample under the null estimate - distance."""
        squared = self.square[0] + 2 * distance * self.square[1] + distance**2 * self.square[2]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((self.shift[0] + distance * self.shift[1]) / np.sqrt(np.maximum(squared, 0.0)))

    def p_at(self, distance: float) -> float:
        """Two-sided p value of the null estimate - distance: (1 + samples at least as far)/(1 + samples)."""
        reached = np.abs(self.ratios(distance)) >= abs(distance) / self.error * (1 - 1e-9)
        return (1 + int(reached.sum())) / (1 + int(reached.size))

    def p(self, null: float = 0.0) -> float:
        """Two-sided p value of a null."""
        return self.p_at(self.estimate - null)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The nulls around the estimate that the test at 1 - level does not reject; infinite ends where it never rejects."""
        return self.estimate - self._edge(1.0, 1 - level), self.estimate - self._edge(-1.0, 1 - level)

    def _edge(self, side: float, alpha: float) -> float:
        inside, outside = 0.0, 2 * side * self.error
        # double the distance until the null is rejected, then bisect
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
    fitted: Fit,
    contrast: np.ndarray,
    draws: int = DRAWS,
    seed: int = SEED,
    jackknifed: bool = True,
    robust: bool = False,
) -> Wild:
    """The bootstrap of a contrast. contrast: (terms,) weights.

    jackknifed: samples are drawn from residuals that leave their group out (S, B); robust: standard errors are CRV3 instead
    of CRV1 (V, B). The default is S: it covers as well as B and V, with shorter intervals (docs/statistics.md).
    """
    panel, bread = fitted.panel, np.linalg.inv(gram(fitted.panel.x).sum(axis=0))
    carrier = panel.x @ bread @ contrast
    sources = np.stack([fitted.residual, carrier / (contrast @ bread @ contrast)])
    if jackknifed:
        sources = np.stack([_left_out_residual(panel.x, source, contrast) for source in sources])
    weights = signs(fitted.groups, draws, seed)
    shift = np.einsum("gt,sgt->sg", carrier, sources) @ weights
    deviations = (_crv3_deviations if robust else _crv1_deviations)(fitted, sources, contrast, bread)
    first, second = deviations @ weights
    square = np.stack([(first * first).sum(axis=0), (first * second).sum(axis=0), (second * second).sum(axis=0)])
    error = crv3(fitted, contrast) if robust else math.sqrt(contrast @ fitted.covariance @ contrast)
    return Wild(float(contrast @ fitted.coefficients), error, shift, square)


def crv3(fitted: Fit, contrast: np.ndarray) -> float:
    """Jackknife standard error over groups, centred at the estimate: CRV3 (MacKinnon, Nielsen and Webb 2023, eq. 12)."""
    deviations = (fitted.left_out - fitted.coefficients) @ contrast
    return math.sqrt((fitted.groups - 1) / fitted.groups * float(deviations @ deviations))


def _left_out_residual(x: np.ndarray, residual: np.ndarray, contrast: np.ndarray) -> np.ndarray:
    """Each group's residuals from the restricted model fitted without that group: (I - H_gg)^-1 u_g."""
    groups = len(x)
    share = groups / (groups - 1)
    free = np.linalg.svd(contrast[None, :])[2][1:].T  # (terms, terms - 1): what the null leaves free
    if not free.size:
        return share * residual
    restricted = x @ free
    grams = gram(restricted)
    scores = np.einsum("gtp,gt->gp", restricted, residual)
    moved = np.linalg.solve(grams.sum(axis=0) - share * grams, scores[..., None])[..., 0]
    return np.asarray(share * (residual + share * np.einsum("gtp,gp->gt", restricted, moved)))


def _centred(crossed: np.ndarray) -> np.ndarray:
    """What group c retains of a sample with the residuals of group h alone, after trial means are subtracted.

    crossed: (sources, groups c, groups h).
    """
    return np.asarray(crossed * (np.eye(crossed.shape[1]) - 1 / crossed.shape[1]))


def _crv1_deviations(fitted: Fit, sources: np.ndarray, contrast: np.ndarray, bread: np.ndarray) -> np.ndarray:
    """(sources, groups c, groups h): scores of group c in a sample that holds the residuals of group h alone.

    They are scaled so that their squares sum to CRV1. sources: (sources, groups, trials).
    """
    panel, groups = fitted.panel, fitted.groups
    carrier = panel.x @ bread @ contrast
    crossed = carrier @ sources.transpose(0, 2, 1)
    scores = np.einsum("htp,sht->sph", panel.x, sources)
    predicted = np.einsum("ct,ctp->cp", carrier, panel.x) @ bread @ scores
    factor = crv1_factor(groups, panel.n, panel.x.shape[2] + panel.x.shape[1])
    return np.asarray(math.sqrt(factor) * (_centred(crossed) - predicted))


def _crv3_deviations(fitted: Fit, sources: np.ndarray, contrast: np.ndarray, bread: np.ndarray) -> np.ndarray:
    """The same for CRV3: the change of the estimate when group c is left out."""
    panel, groups = fitted.panel, fitted.groups
    share, grams = groups / (groups - 1), gram(fitted.panel.x)
    sides = np.broadcast_to(contrast[:, None], (groups, len(contrast), 1))
    left = np.linalg.solve(grams.sum(axis=0) - share * grams, sides)[..., 0]  # (groups, terms)
    scores = np.einsum("htp,sht->sph", panel.x, sources)
    crossed = np.einsum("cp,ctp->ct", left, panel.x) @ sources.transpose(0, 2, 1)
    moved = (left - bread @ contrast) @ scores - share * _centred(crossed)
    return np.asarray(math.sqrt((groups - 1) / groups) * moved)
