"""Co-movement: whether the changes of x and of y correlate over arms and groups. A description, not mediation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from analysis.data.runs import UNTOUCHED
from analysis.estimands.dose_response import mean_effect
from analysis.estimands.rows import frame, studies
from analysis.estimands.slopes import CHANGE_WHAT_IS_LEARNED
from analysis.stats.inference import t_quantile
from analysis.stats.regression import LEAST_GROUPS

EXACT = 1e-9
"""A jackknife error below this share of the estimate is rounding noise."""

EXACT_LINE = "no interval: all groups give the same line"

COLUMNS = (
    "study", "outcome", "slope", "slope_low", "slope_high", "correlation", "correlation_low", "correlation_high", "arms",
    "groups", "n", "reason",
)  # fmt: skip


def changes(cells: pd.DataFrame) -> pd.DataFrame:
    """study, outcome, arm, group, x (SD of the untouched model), y: changes from the untouched arm, means over paired seeds.

    Means are over the seeds of a model first, then over models.

    Arms that change what is learned are left out, and so are those without an upstream intervention.
    """
    parts = [pd.DataFrame(columns=["study", "outcome", "arm", "group", "x", "y"])]
    for context, of_study in studies(cells, "co-movement"):
        base = of_study[of_study["arm"] == UNTOUCHED].set_index(["group", "seed"])[["x", "y"]]
        treated = of_study[~of_study["upstream"].isin(("none", *CHANGE_WHAT_IS_LEARNED))].set_index(
            ["arm", "group", "replicate", "seed"]
        )
        if base.empty or treated.empty:
            continue
        untouched = base.reindex(
            pd.MultiIndex.from_arrays([treated.index.get_level_values(name) for name in ("group", "seed")])
        )
        moved = pd.DataFrame(
            {name: treated[name].to_numpy(float) - untouched[name].to_numpy(float) for name in ("x", "y")},
            treated.index,
        )
        scaled = moved.assign(x=moved["x"] / context.scales["x"]).replace([np.inf, -np.inf], math.nan)
        of_models = scaled.dropna().groupby(level=["arm", "group", "replicate"], sort=False).mean()
        means = of_models.groupby(level=["arm", "group"], sort=False).mean().reset_index()
        parts.append(means.assign(study=context.study, outcome=context.metric)[parts[0].columns])
    return pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)


def comovement(cells: pd.DataFrame) -> pd.DataFrame:
    """Slope and correlation of the changes over arms and groups: one row per study, with `COLUMNS`.

    Intervals are by jackknife over groups, each left out with all its arms (t; the correlation on Fisher's scale).
    """
    rows = list[dict[str, Any]]()
    moved = changes(cells)
    for context, _ in studies(cells, "co-movement"):
        points = moved[moved["study"] == context.study]
        key = {"study": context.study, "outcome": context.metric, "n": len(points)}
        counts = {"arms": points["arm"].nunique(), "groups": points["group"].nunique()}
        rows.append(key | counts | _slope_and_correlation(points))
    return frame(rows, COLUMNS)


def _slope_and_correlation(points: pd.DataFrame) -> dict[str, Any]:
    groups = points["group"].nunique()
    if groups < LEAST_GROUPS:
        return {"reason": f"{groups} groups have changes of both x and y; fewer than {LEAST_GROUPS} are refused"}
    x, y = points["x"].to_numpy(float), points["y"].to_numpy(float)
    if min(x.std(), y.std()) <= 1e-12:
        return {"reason": f"{'x' if x.std() <= 1e-12 else 'y'} did not change, or changed by the same everywhere"}
    without = (points["group"] != name for name in points["group"].unique())
    left = np.array([_line(x[kept], y[kept]) for kept in without])
    whole = np.array(_line(x, y))
    error = np.sqrt((groups - 1) / groups * ((left - whole) ** 2).sum(axis=0))
    reach = t_quantile(0.975, groups - 1) * np.where(error > EXACT * np.abs(whole), error, math.nan)
    slope, fisher = ((whole[i], whole[i] - reach[i], whole[i] + reach[i]) for i in (0, 1))
    slopes = dict(zip(("slope", "slope_low", "slope_high"), slope, strict=True))
    correlations = ("correlation", "correlation_low", "correlation_high")
    reason = EXACT_LINE if np.isnan(reach).any() else ""
    return {**slopes, **dict(zip(correlations, map(math.tanh, fisher), strict=True)), "reason": reason}


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """The slope, and the correlation on Fisher's scale (clipped, so that it is finite)."""
    centred = x - x.mean()
    r = float(np.corrcoef(x, y)[0, 1])
    return float(centred @ y / (centred @ centred)), math.atanh(min(max(r, -1 + 1e-12), 1 - 1e-12))


SHARE_COLUMNS = ("study", "outcome", "arm", "effect", "low", "high", "x_change", "share", "reason")


def shares(cells: pd.DataFrame) -> pd.DataFrame:
    """For each upstream arm, the slope times the arm's mean change of x, as a share of its total effect (A).

    It has no causal reading, and is NaN where the 95 % interval of the total effect includes 0 or is missing.
    """
    moved, slopes = changes(cells), comovement(cells).set_index("study")["slope"]
    rows = list[dict[str, Any]]()
    for context, of_study in studies(cells, "co-movement"):
        for arm, points in moved[moved["study"] == context.study].groupby("arm", sort=False):
            key = {"study": context.study, "outcome": context.metric, "arm": arm}
            rows.append(key | _share(of_study, str(arm), float(points["x"].mean()), float(slopes[context.study])))
    return frame(rows, SHARE_COLUMNS)


def _share(cells: pd.DataFrame, arm: str, x_change: float, slope: float) -> dict[str, Any]:
    effect, low, high = mean_effect(cells, arm)
    numbers = {"effect": effect, "low": low, "high": high, "x_change": x_change}
    if math.isnan(low):
        return numbers | {"share": math.nan, "reason": "no share: the total effect has no interval"}
    if low <= 0 <= high:
        return numbers | {"share": math.nan, "reason": "no share: the total effect's interval includes 0"}
    return numbers | {"share": slope * x_change / effect, "reason": ""}
