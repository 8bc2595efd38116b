"""Inference on one contrast of a fit: estimate, standard errors, intervals and p values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import stats

from analysis.stats.permutation import freedman_lane
from analysis.stats.regression import Fit, RefusedError, crv1_factor, gram
from analysis.stats.wild_bootstrap import DRAWS, SEED, crv3, samples, wild

EXACT = 1e-10
"""A standard error below this share of the outcome's scale is rounding noise: the fit is exact."""


@lru_cache(maxsize=1024)
def t_quantile(level: float, freedom: float) -> float:
    """The `level` quantile of Student's t with `freedom` degrees of freedom; cached, since few pairs of them are ever used."""
    return float(stats.t.ppf(level, freedom))


@dataclass(frozen=True)
class Inference:
    """One contrast, in the outcome's unit per unit of the regressor.

    `low`, `high`, `low_90`, `high_90` and `p` are the default: a restricted wild cluster bootstrap by group of the CRV1 t
    ratio, with residuals that leave their group out (variant S of MacKinnon, Nielsen and Webb 2023).
    """

    coefficient: float
    standard_error: float
    """CRV3: the jackknife over groups."""
    low: float
    high: float
    low_90: float
    high_90: float
    p: float
    p_permutation: float
    """Freedman and Lane's permutation test over groups."""
    crv1_error: float
    crv1_low: float
    crv1_high: float
    crv3_low: float
    crv3_high: float
    two_way_error: float = math.nan
    two_way_low: float = math.nan
    two_way_high: float = math.nan

    @property
    def columns(self) -> dict[str, Any]:
        """Field name -> value, as columns of the coefficients frame."""
        return asdict(self)


def infer(
    fitted: Fit, weights: Mapping[str, float], draws: int = DRAWS, seed: int = SEED, two_way: bool = False
) -> Inference:
    """Inference on the contrast `weights` (term -> weight; terms that are absent weigh 0).

    Raises RefusedError where a term varies in one group alone, and where leaving groups out shows no error: the regression
    leaves nothing unexplained, or what it leaves is orthogonal to the regressors within every group.
    """
    contrast, quantile = fitted.weights(weights), t_quantile(0.975, fitted.groups - 1)
    estimate, jackknife = float(contrast @ fitted.coefficients), crv3(fitted, contrast)
    classic = math.sqrt(contrast @ fitted.covariance @ contrast)
    _check_identified(fitted, jackknife, contrast)
    boot = wild(fitted, contrast, draws, seed)
    return Inference(
        estimate, jackknife, *boot.interval(0.95), *boot.interval(0.90), boot.p(),
        freedman_lane(fitted, contrast, draws, seed), classic, estimate - quantile * classic, estimate + quantile * classic,
        estimate - quantile * jackknife, estimate + quantile * jackknife, *(_two_way(fitted, contrast) if two_way else ()),
    )  # fmt: skip


def _check_identified(fitted: Fit, error: float, contrast: np.ndarray) -> None:
    decisive = np.isnan(fitted.left_out).any(axis=1)
    if decisive.any():
        names = fitted.panel.groups or tuple(map(str, range(fitted.groups)))
        without = ", ".join(names[number] for number in np.flatnonzero(decisive))
        raise RefusedError(f"no interval: without {without}, {' or '.join(fitted.panel.terms)} does not vary")
    scale = math.sqrt(contrast @ np.linalg.inv(gram(fitted.panel.x).sum(axis=0)) @ contrast)
    if error > EXACT * (np.abs(fitted.panel.y).max() * scale):
        return
    if np.abs(fitted.residual).max() <= EXACT * np.abs(fitted.panel.y).max():
        raise RefusedError("no interval: the regression leaves nothing unexplained")
    terms = " and ".join(term for term, weight in zip(fitted.panel.terms, contrast, strict=True) if weight)
    raise RefusedError(
        f"no interval: leaving out any one group changes the coefficient of {terms} by nothing, since within every group it is "
        "orthogonal to the residuals; its error over groups cannot be estimated"
    )


def method(groups: int, draws: int = DRAWS) -> str:
    """The name of the default method, with the samples that it took, for the column `method`."""
    return f"restricted wild cluster bootstrap by group (S: left-out residuals, CRV1 ratio; {samples(groups, draws)})"


def _two_way(fitted: Fit, contrast: np.ndarray) -> tuple[float, float, float]:
    """Standard error and 95 % interval clustered by group and by seed (by model, where there are several); NaN for one.

    The variance is V_group + V_seed - V_both, and no less than V_group (Cameron, Gelbach and Miller 2011); t has the smaller
    number of clusters less 1 as its degrees of freedom.
    """
    panel = fitted.panel
    seeds = np.unique(panel.seeds, return_inverse=True)[1]
    seed_count = int(seeds.max()) + 1 if len(seeds) == panel.x.shape[1] else 0
    if seed_count < 2:
        return math.nan, math.nan, math.nan
    carrier = panel.x @ np.linalg.inv(gram(panel.x).sum(axis=0)) @ contrast
    scores = (carrier * fitted.residual) @ np.eye(seed_count)[seeds]  # (groups, seeds)
    parameters = panel.x.shape[2] + panel.x.shape[1]
    clusterings = {
        fitted.groups: scores.sum(axis=1), seed_count: scores.sum(axis=0), scores.size: scores.ravel(),
    }  # fmt: skip
    by_group, by_seed, by_both = (
        crv1_factor(count, panel.n, parameters) * float(sums @ sums) for count, sums in clusterings.items()
    )
    error = math.sqrt(max(by_group + by_seed - by_both, by_group))
    estimate = float(contrast @ fitted.coefficients)
    half_width = t_quantile(0.975, min(seed_count, fitted.groups) - 1) * error
    return error, estimate - half_width, estimate + half_width
