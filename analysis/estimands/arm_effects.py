"""Estimand A of SCIENCE.md: what the arms did, paired by seed with the untouched arm. Only this is called an effect.

Groups are taken as they are (the 28 occupations, the 50 terms); seeds are the draws. An interval over seeds holds for other
seeds and these groups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.stats.multiple_testing import benjamini_hochberg
from analysis.stats.multiple_testing import detectable
from analysis.stats.multiple_testing import holm
from analysis.stats.multiple_testing import seeds_needed
from analysis.data.runs import UNTOUCHED
from analysis.stats.permutation import sign_flip
from analysis.stats.quantiles import t_quantile
from analysis.estimands.sentences import Context
from analysis.estimands.sentences import frame
from analysis.estimands.sentences import interval
from analysis.estimands.sentences import studies
from analysis.stats.wild_bootstrap import DRAWS

OVER_SEEDS = "t over paired seeds"
NO_INTERVAL = "one seed gives no interval"


@dataclass(frozen=True)
class Paired:
    """The mean of paired differences over seeds, with t intervals."""

    mean: float
    error: float
    low: float
    high: float
    low_90: float
    high_90: float
    p: float
    seeds: int


def paired(differences: np.ndarray) -> Paired:
    """differences: (seeds,). NaN bounds for one seed; no width where all differ alike."""
    seeds, mean = len(differences), float(differences.mean())
    if seeds < 2:
        return Paired(mean, math.nan, math.nan, math.nan, math.nan, math.nan, math.nan, seeds)
    error = float(differences.std(ddof=1)) / math.sqrt(seeds)
    wide, narrow = (error * t_quantile(level, seeds - 1) for level in (0.975, 0.95))
    p = 2 * float(stats.t.sf(abs(mean) / error, seeds - 1)) if error > 1e-12 * abs(mean) else float(mean == 0)
    return Paired(mean, error, mean - wide, mean + wide, mean - narrow, mean + narrow, p, seeds)


def wide(cells: pd.DataFrame, value: str = "y") -> dict[str, pd.DataFrame]:
    """One study's arms in their order -> the column as (groups, seeds)."""
    return {
        str(arm): own.pivot(index="group", columns="seed", values=value)  # noqa: PD010 (a doubled trial must raise)
        for arm, own in cells.groupby("arm", sort=False)
    }


def matched(treated: pd.DataFrame | None, untouched: pd.DataFrame | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both (groups, seeds): the seeds that both have, without groups that lack one; empty where there is none."""
    if treated is None or untouched is None:
        return pd.DataFrame(), pd.DataFrame()
    seeds = [seed for seed in treated.columns if seed in untouched.columns]
    if not seeds:
        return pd.DataFrame(), pd.DataFrame()
    pair = treated[seeds].dropna(), untouched[seeds].dropna()
    groups = pair[0].index.intersection(pair[1].index)
    return pair[0].loc[groups], pair[1].loc[groups]


def change(treated: pd.DataFrame | None, untouched: pd.DataFrame | None) -> pd.DataFrame:
    """Differences of what is `matched`: (groups, seeds)."""
    first, second = matched(treated, untouched)
    return first - second


def arm_effects(cells: pd.DataFrame, draws: int = DRAWS) -> pd.DataFrame:
    """A: y(group, arm, seed) - y(group, untouched, seed), mean over groups and seeds, a row an arm of `sentences.COLUMNS`;
    interval and p from the paired seeds' means (t), p_permutation by signs of the seeds, p_adjusted by Holm over the arms.

    All groups with an outcome count, thin ones too: no dataset bias enters.
    """
    rows = list[dict[str, Any]]()
    for context, own in studies(cells, "A"):
        arms = wide(own)
        rows += [_effect(arms, arm, context, draws) for arm in arms if arm != UNTOUCHED]
    found = frame(rows)
    families = found.groupby(["study", "outcome"], sort=False)["p"]
    return found.assign(p_adjusted=families.transform(holm)) if len(found) else found


def _effect(arms: dict[str, pd.DataFrame], arm: str, context: Context, draws: int) -> dict[str, Any]:
    moved = change(arms[arm], arms.get(UNTOUCHED))
    if moved.empty:
        return context.row(arm, reason=nothing(arms.get(arm), arms.get(UNTOUCHED)))
    means = moved.to_numpy(float).mean(axis=0)
    what = f"{arm} changed {context.outcome.label} by {{}} on average over {len(moved)} groups and {len(means)} paired seed"
    return effect_row(means, arm, what + "s" * (len(means) > 1), context, moved.size, draws)


def nothing(treated: pd.DataFrame | None, untouched: pd.DataFrame | None) -> str:
    """Why `change` is empty."""
    shared = treated is not None and untouched is not None and set(treated.columns) & set(untouched.columns)
    return "no group has an outcome in all seeds" if shared else f"no seed that {UNTOUCHED} has as well"


def effect_row(means: np.ndarray, term: str, what: str, context: Context, n: int, draws: int = DRAWS) -> dict[str, Any]:
    """means: (seeds,) paired differences. what: the sentence up to its interval, with {} for the mean."""
    found = paired(means)
    single = found.seeds < 2
    middle, *bounds = context.change(found.mean, found.low, found.high)
    said = interval((found.mean, found.low, found.high), bounds, "one seed: no interval")
    return context.row(
        term, coefficient=found.mean, standard_error=found.error, low=found.low, high=found.high, low_90=found.low_90,
        high_90=found.high_90, p=found.p, p_permutation=math.nan if single else sign_flip(means, draws), n=n,
        clusters=found.seeds, unit=context.outcome.unit, method="" if single else OVER_SEEDS,
        sentence=f"{what.format(middle)} ({said}).", reason=NO_INTERVAL if single else "",
    )  # fmt: skip


GROUP_COLUMNS = (
    "study", "outcome", "arm", "group", "coefficient", "standard_error", "low", "high", "p", "q", "seeds", "reason",
)  # fmt: skip


def group_effects(cells: pd.DataFrame) -> pd.DataFrame:
    """The effect on each group, paired by seed (t), a row an arm and group of `GROUP_COLUMNS`; q: Benjamini and Hochberg
    over the arm's groups. What an arm did to all groups alike is in each of them."""
    rows = list[dict[str, Any]]()
    for context, own in studies(cells, "A"):
        arms = wide(own)
        for arm in arms:
            moved = change(arms[arm], arms.get(UNTOUCHED)) if arm != UNTOUCHED else pd.DataFrame()
            rows += [
                _on_group(str(group), row, arm, context)
                for group, row in zip(moved.index, moved.to_numpy(), strict=True)
            ]
    found = frame(rows, GROUP_COLUMNS)
    if found.empty:
        return found
    return found.assign(q=found.groupby(["study", "outcome", "arm"], sort=False)["p"].transform(benjamini_hochberg))


def _on_group(group: str, differences: np.ndarray, arm: str, context: Context) -> dict[str, Any]:
    own = paired(np.asarray(differences, float))
    named = {"study": context.study, "outcome": context.metric, "arm": arm, "group": group}
    numbers = {"coefficient": own.mean, "standard_error": own.error, "low": own.low, "high": own.high, "p": own.p}
    return {**named, **numbers, "seeds": own.seeds, "reason": NO_INTERVAL if own.seeds < 2 else ""}


POWER_COLUMNS = (
    "study",
    "outcome",
    "arm",
    "seeds",
    "spread",
    "detectable_sd",
    "detectable",
    "effect",
    "seeds_needed",
    "unit",
)


def power(cells: pd.DataFrame, effect: float = math.nan) -> pd.DataFrame:
    """What the arms' seeds can see: spread: SD of the paired differences (mean over groups); detectable: the effect found
    at 80 % power; seeds_needed: for a stated `effect`, in the outcome's unit. The spread itself is estimated: with few
    seeds roughly."""
    rows = list[dict[str, Any]]()
    for context, own in studies(cells, "A"):
        arms = wide(own)
        rows += [_power(arms, arm, context, effect) for arm in arms if arm != UNTOUCHED]
    return frame(rows, POWER_COLUMNS)


def _power(arms: dict[str, pd.DataFrame], arm: str, context: Context, effect: float) -> dict[str, Any]:
    moved = change(arms[arm], arms.get(UNTOUCHED))
    seeds = moved.shape[1]
    spread = float(moved.to_numpy(float).mean(axis=0).std(ddof=1)) if seeds > 1 else math.nan
    return {
        "study": context.study, "outcome": context.metric, "arm": arm, "seeds": seeds, "spread": spread,
        "detectable_sd": detectable(seeds), "detectable": spread * detectable(seeds) if seeds > 1 else math.nan,
        "effect": effect, "seeds_needed": seeds_needed(effect, spread), "unit": context.outcome.unit,
    }  # fmt: skip


UTILITY = ("accuracy", "macro_f1", "roc_auc")
UTILITY_COLUMNS = ("study", "arm", "metric", "value", "difference", "low", "high", "p", "seeds", "reason")


def utility(table: pd.DataFrame, metrics: Sequence[str] = UTILITY) -> pd.DataFrame:
    """table: `load.Runs.table`. Each arm's mean over seeds and its difference from the untouched arm, paired by seed (t);
    the untouched arm's own row has no difference."""
    own = table[(table["stage"] == "utility") & table["metric"].isin(metrics) & (table["group"] == "")]
    rows = list[dict[str, Any]]()
    for (study, metric), values in own.groupby(["study", "metric"], sort=False):
        arms = {str(arm): one.set_index("seed")["value"] for arm, one in values.groupby("arm", sort=False)}
        rows += [{"study": study, "arm": arm, "metric": metric, **_useful(arms, arm)} for arm in arms]
    return frame(rows, UTILITY_COLUMNS)


def _useful(arms: dict[str, pd.Series], arm: str) -> dict[str, Any]:
    mean = {"value": float(arms[arm].mean()), "seeds": len(arms[arm])}
    if arm == UNTOUCHED:
        return mean | {"reason": ""}
    both = (arms[arm] - arms[UNTOUCHED]).dropna() if UNTOUCHED in arms else pd.Series(dtype=float)
    if both.empty:
        return mean | {"reason": f"no seed that {UNTOUCHED} has as well"}
    found = paired(both.to_numpy(float))
    numbers = {"difference": found.mean, "low": found.low, "high": found.high, "p": found.p, "seeds": found.seeds}
    return mean | numbers | {"reason": NO_INTERVAL if found.seeds < 2 else ""}
