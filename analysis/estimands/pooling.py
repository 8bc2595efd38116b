"""Partial pooling of an arm's effects on single groups: with few seeds, the extremes of fifty groups are mostly noise."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from analysis.stats.inference import t_quantile

LEAST = 2
"""Independent units (seeds, or models where there are several), and groups, that pooling takes."""


def pooled(changes: pd.DataFrame) -> pd.DataFrame:
    """Each group's effect, drawn towards the arm's mean effect by as much of its spread as is noise.

    changes: paired differences, (groups, trials), as `arm_effects.change`. A group's difference in a unit is taken as mean
    effect + shock of the unit, which all groups share + the group's own effect + noise, of one variance for all groups. Of the
    spread of the groups' mean differences, the noise over units is subtracted; what is left, as a share of the whole, is the
    `weight` of a group's own deviation from the mean effect (empirical Bayes, method of moments; Efron and Morris 1975).

    Columns coefficient, low, high (95 %, with the error of the mean effect), weight; one row per group without a missing value.
    NaN with fewer than two units or groups.
    """
    complete = changes.dropna()
    units = complete.T.groupby(level="replicate").mean().T if _several(complete) else complete
    y, (groups, count) = units.to_numpy(float), units.shape
    if groups < LEAST or count < LEAST:
        return pd.DataFrame(math.nan, index=complete.index, columns=["coefficient", "low", "high", "weight"])
    means, center = y.mean(axis=1), y.mean()
    residuals = y - means[:, None] - y.mean(axis=0)[None, :] + center
    noise = float((residuals**2).sum()) / ((groups - 1) * (count - 1)) / count
    spread = float(((means - center) ** 2).sum()) / (groups - 1)
    weight = max(0.0, 1 - noise / spread) if spread > 0 else 0.0
    middle = center + weight * (means - center)
    error = math.sqrt(float(y.mean(axis=0).var(ddof=1)) / count + weight * noise)
    reach = t_quantile(0.975, count - 1) * error
    columns = {"coefficient": middle, "low": middle - reach, "high": middle + reach, "weight": np.full(groups, weight)}
    return pd.DataFrame(columns, index=complete.index)


def _several(changes: pd.DataFrame) -> bool:
    return len(set(changes.columns.get_level_values("replicate"))) > 1
