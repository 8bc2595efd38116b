"""One contrast of a fit with everything that is said of its uncertainty."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from analysis.stats.regression import Fit
from analysis.stats.regression import RefusedError
from analysis.stats.regression import crv1_factor
from analysis.stats.regression import gram
from analysis.stats.permutation import freedman_lane
from analysis.stats.quantiles import t_quantile
from analysis.stats.wild_bootstrap import DRAWS
from analysis.stats.wild_bootstrap import FEW
from analysis.stats.wild_bootstrap import SEED
from analysis.stats.wild_bootstrap import crv3
from analysis.stats.wild_bootstrap import wild

EXACT = 1e-10
"""Errors below this share of what they are errors of are rounding."""


@dataclass(frozen=True)
class Inference:
    """low, high, low_90, high_90, p: the default, a restricted wild cluster bootstrap by group of CRV1's t ratio, with
    residuals that leave their group out (variant S of MacKinnon, Nielsen and Webb 2023)."""

    coefficient: float
    standard_error: float
    """CRV3: the jackknife over groups."""
    low: float
    high: float
    low_90: float
    high_90: float
    p: float
    p_permutation: float
    """Freedman and Lane's test over groups."""
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
        """By name."""
        return asdict(self)


def infer(
    found: Fit, named: Mapping[str, float], draws: int = DRAWS, seed: int = SEED, two_way: bool = False
) -> Inference:
    """named: term -> weight. Raises RefusedError where one group alone carries a term, or nothing is left unexplained."""
    contrast, reach = found.weights(named), t_quantile(0.975, found.groups - 1)
    estimate, jackknife = float(contrast @ found.coefficients), crv3(found, contrast)
    classic = math.sqrt(contrast @ found.covariance @ contrast)
    _check(found, jackknife, contrast)
    boot = wild(found, contrast, draws, seed)
    return Inference(
        estimate, jackknife, *boot.interval(0.95), *boot.interval(0.90), boot.p(), freedman_lane(found, contrast, draws, seed),
        classic, estimate - reach * classic, estimate + reach * classic,
        estimate - reach * jackknife, estimate + reach * jackknife, *(_two_way(found, contrast) if two_way else ()),
    )  # fmt: skip


def _check(found: Fit, error: float, contrast: np.ndarray) -> None:
    alone = np.isnan(found.left_out).any(axis=1)
    if alone.any():
        names = found.panel.groups or tuple(map(str, range(found.groups)))
        which = ", ".join(names[number] for number in np.flatnonzero(alone))
        raise RefusedError(f"no interval: without {which}, {' or '.join(found.panel.terms)} does not vary")
    size = np.abs(found.panel.y).max() * math.sqrt(contrast @ np.linalg.inv(gram(found.panel.x).sum(axis=0)) @ contrast)
    if error <= EXACT * size:
        raise RefusedError("no interval: the regression leaves nothing unexplained")


def method(groups: int, draws: int = DRAWS) -> str:
    """What low, high and p are, in words."""
    weights = "Webb" if groups < FEW else "Rademacher"
    return f"restricted wild cluster bootstrap by group (S: left-out residuals, CRV1 ratio; {draws:,} {weights} draws)"


def _two_way(found: Fit, contrast: np.ndarray) -> tuple[float, float, float]:
    """Error and 95 % interval clustered by group and by seed: V_group + V_seed - V_both, no less than V_group (Cameron,
    Gelbach and Miller 2011); t with the smaller number of clusters less 1. NaN for one seed."""
    own = found.panel
    seeds = np.unique(own.seeds, return_inverse=True)[1]
    number = int(seeds.max()) + 1 if len(seeds) == own.x.shape[1] else 0
    if number < 2:
        return math.nan, math.nan, math.nan
    carrier = own.x @ np.linalg.inv(gram(own.x).sum(axis=0)) @ contrast
    scores = (carrier * found.residual) @ np.eye(number)[seeds]  # (groups, seeds)
    parameters = own.x.shape[2] + own.x.shape[1]
    by = {found.groups: scores.sum(axis=1), number: scores.sum(axis=0), scores.size: scores.ravel()}
    group, seed, both = (crv1_factor(count, own.n, parameters) * float(one @ one) for count, one in by.items())
    error = math.sqrt(max(group + seed - both, group))
    middle, reach = (
        float(contrast @ found.coefficients),
        t_quantile(0.975, min(number, found.groups) - 1) * error,
    )
    return error, middle - reach, middle + reach
