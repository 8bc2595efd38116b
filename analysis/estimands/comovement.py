"""Do the changes of x and of y go together over arms? A description: it is not mediation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.estimands.dose_response import mean_effect
from analysis.data.runs import UNTOUCHED
from analysis.stats.regression import LEAST_GROUPS
from analysis.stats.quantiles import t_quantile
from analysis.estimands.slopes import CHANGE_WHAT_IS_LEARNED
from analysis.estimands.sentences import Context
from analysis.estimands.sentences import frame
from analysis.estimands.sentences import studies

COLUMNS = (
    "study", "outcome", "slope", "slope_low", "slope_high", "correlation", "correlation_low", "correlation_high", "arms",
    "groups", "n", "sentence", "reason",
)  # fmt: skip


def changes(cells: pd.DataFrame) -> pd.DataFrame:
    """study, outcome, arm, group, x (SD of the untouched model), y: change against the untouched arm, means over paired
    seeds; without the arms that change what is learned, and without those that leave x alone."""
    parts = [pd.DataFrame(columns=["study", "outcome", "arm", "group", "x", "y"])]
    for context, own in studies(cells, "co-movement"):
        base = own[own["arm"] == UNTOUCHED].set_index(["group", "seed"])[["x", "y"]]
        treated = own[~own["upstream"].isin(("none", *CHANGE_WHAT_IS_LEARNED))].set_index(["arm", "group", "seed"])
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
        means = scaled.dropna().groupby(level=["arm", "group"], sort=False).mean().reset_index()
        parts.append(means.assign(study=context.study, outcome=context.metric)[parts[0].columns])
    return pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)


def comovement(cells: pd.DataFrame) -> pd.DataFrame:
    """Slope and correlation of the changes over arms and groups, a row a study of `COLUMNS`; intervals by leaving out each
    group with all its arms (t; the correlation on Fisher's scale)."""
    rows = list[dict[str, Any]]()
    moved = changes(cells)
    for context, _ in studies(cells, "co-movement"):
        own = moved[moved["study"] == context.study]
        named = {"study": context.study, "outcome": context.metric, "n": len(own)}
        counts = {"arms": own["arm"].nunique(), "groups": own["group"].nunique()}
        rows.append(named | counts | _together(own, context))
    return frame(rows, COLUMNS)


def _together(own: pd.DataFrame, context: Context) -> dict[str, Any]:
    groups = own["group"].nunique()
    if groups < LEAST_GROUPS:
        return {
            "sentence": "",
            "reason": f"{groups} groups have changes of both; fewer than {LEAST_GROUPS} are refused",
        }
    x, y = own["x"].to_numpy(float), own["y"].to_numpy(float)
    if min(x.std(), y.std()) <= 1e-12:
        return {"sentence": "", "reason": f"{'x' if x.std() <= 1e-12 else 'y'} changed nowhere, or everywhere alike"}
    left = np.array([_line(x[keep], y[keep]) for keep in (own["group"] != name for name in own["group"].unique())])
    whole = np.array(_line(x, y))
    reach = t_quantile(0.975, groups - 1) * np.sqrt((groups - 1) / groups * ((left - whole) ** 2).sum(axis=0))
    slope, fisher = ((whole[i], whole[i] - reach[i], whole[i] + reach[i]) for i in (0, 1))
    return _row(slope, tuple(map(math.tanh, fisher)), own, context)


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope, and correlation on Fisher's scale (kept finite)."""
    centred = x - x.mean()
    r = float(np.corrcoef(x, y)[0, 1])
    return float(centred @ y / (centred @ centred)), math.atanh(min(max(r, -1 + 1e-12), 1 - 1e-12))


def _row(slope: Sequence[float], r: Sequence[float], own: pd.DataFrame, context: Context) -> dict[str, Any]:
    middle, low, high = context.change(*(0.1 * value for value in slope))
    sentence = (
        f"Over {own['arm'].nunique()} arms and {own['group'].nunique()} groups, where upstream bias rose by 0.1 SD, downstream "
        f"bias moved by {middle} {context.noun} (95 % interval {low} to {high}; r = {r[0]:+.2f}, {r[1]:+.2f} to {r[2]:+.2f}). "
        f"This is co-movement: it is not mediation, since the arms may reach both by other ways."
    )
    slopes = dict(zip(("slope", "slope_low", "slope_high"), slope, strict=True))
    correlations = dict(zip(("correlation", "correlation_low", "correlation_high"), r, strict=True))
    return {**slopes, **correlations, "sentence": sentence, "reason": ""}


SHARE_COLUMNS = ("study", "outcome", "arm", "effect", "low", "high", "x_change", "share", "reason")


def shares(cells: pd.DataFrame) -> pd.DataFrame:
    """For each upstream arm: slope times the arm's mean change of x, as a share of its total effect (A). It has no causal
    reading, and is not given where the total effect's 95 % interval includes 0 or is missing."""
    moved, slopes = changes(cells), comovement(cells).set_index("study")["slope"]
    rows = list[dict[str, Any]]()
    for context, own in studies(cells, "co-movement"):
        for arm, points in moved[moved["study"] == context.study].groupby("arm", sort=False):
            named = {"study": context.study, "outcome": context.metric, "arm": arm}
            rows.append(named | _share(own, str(arm), float(points["x"].mean()), float(slopes[context.study])))
    return frame(rows, SHARE_COLUMNS)


def _share(cells: pd.DataFrame, arm: str, x_change: float, slope: float) -> dict[str, Any]:
    effect, low, high = mean_effect(cells, arm)
    numbers = {"effect": effect, "low": low, "high": high, "x_change": x_change}
    if math.isnan(low):
        return numbers | {"share": math.nan, "reason": "no share: the total effect has no interval"}
    if low <= 0 <= high:
        return numbers | {"share": math.nan, "reason": "no share: the total effect's interval includes 0"}
    return numbers | {"share": slope * x_change / effect, "reason": ""}
