"""Estimand A: the effect of each arm, paired by seed with the untouched arm. Only this is called an effect.

Groups are fixed (the 28 occupations, the 50 terms) and seeds are the sample: an interval generalises to other seeds, not to
other groups (docs/science.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.data.runs import UNTOUCHED
from analysis.estimands.rows import RowContext, frame, studies
from analysis.stats.inference import t_quantile
from analysis.stats.multiple_testing import benjamini_hochberg, holm
from analysis.stats.permutation import sign_flip
from analysis.stats.power import detectable, seeds_needed
from analysis.stats.wild_bootstrap import DRAWS

OVER_SEEDS = "t over paired seeds"
NO_INTERVAL = "one seed gives no interval"


@dataclass(frozen=True)
class Paired:
    """Mean of paired differences over seeds, with its standard error, t intervals (95 % and 90 %) and two-sided p value."""

    mean: float
    error: float
    low: float
    high: float
    low_90: float
    high_90: float
    p: float
    seeds: int


def paired(differences: np.ndarray) -> Paired:
    """The paired t test. differences: (seeds,).

    A single seed has NaN bounds; seeds that all differ by the same have an interval without width.
    """
    seeds, mean = len(differences), float(differences.mean())
    if seeds < 2:
        return Paired(mean, math.nan, math.nan, math.nan, math.nan, math.nan, math.nan, seeds)
    error = float(differences.std(ddof=1)) / math.sqrt(seeds)
    reach, reach_90 = (error * t_quantile(level, seeds - 1) for level in (0.975, 0.95))
    p = 2 * float(stats.t.sf(abs(mean) / error, seeds - 1)) if error > 1e-12 * abs(mean) else float(mean == 0)
    return Paired(mean, error, mean - reach, mean + reach, mean - reach_90, mean + reach_90, p, seeds)


def wide(cells: pd.DataFrame, value: str = "y") -> dict[str, pd.DataFrame]:
    """Arm -> the column's values as (groups, seeds), for the arms of one study in their order."""
    return {
        str(arm): of_arm.pivot(index="group", columns="seed", values=value)  # noqa: PD010 (unlike pivot_table it raises for a trial that occurs twice)
        for arm, of_arm in cells.groupby("arm", sort=False)
    }


def matched(treated: pd.DataFrame | None, untouched: pd.DataFrame | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both frames cut to the seeds and complete groups that they share: (groups, seeds) each; empty where they share none."""
    if treated is None or untouched is None:
        return pd.DataFrame(), pd.DataFrame()
    seeds = [seed for seed in treated.columns if seed in untouched.columns]
    if not seeds:
        return pd.DataFrame(), pd.DataFrame()
    pair = treated[seeds].dropna(), untouched[seeds].dropna()
    groups = pair[0].index.intersection(pair[1].index)
    return pair[0].loc[groups], pair[1].loc[groups]


def change(treated: pd.DataFrame | None, untouched: pd.DataFrame | None) -> pd.DataFrame:
    """Paired differences, treated minus untouched, over what they share: (groups, seeds)."""
    first, second = matched(treated, untouched)
    return first - second


def arm_effects(cells: pd.DataFrame, draws: int = DRAWS) -> pd.DataFrame:
    """Estimand A: y(group, arm, seed) - y(group, untouched, seed), averaged over groups and seeds.

    One row per arm, with `rows.COLUMNS`: interval and p from the means of the paired seeds (t), p_permutation from the signs
    of the seeds, p_adjusted by Holm over the arms. All groups with an outcome count, those with few examples too, since no
    dataset bias enters.
    """
    rows = list[dict[str, Any]]()
    for context, of_study in studies(cells, "A"):
        arms = wide(of_study)
        rows += [_effect(arms, arm, context, draws) for arm in arms if arm != UNTOUCHED]
    effects = frame(rows)
    families = effects.groupby(["study", "outcome"], sort=False)["p"]
    return effects.assign(p_adjusted=families.transform(holm)) if len(effects) else effects


def _effect(arms: dict[str, pd.DataFrame], arm: str, context: RowContext, draws: int) -> dict[str, Any]:
    moved = change(arms[arm], arms.get(UNTOUCHED))
    if moved.empty:
        return context.row(arm, reason=why_unpaired(arms.get(arm), arms.get(UNTOUCHED)))
    return effect_row(moved.to_numpy(float).mean(axis=0), arm, context, moved.shape, draws)


def why_unpaired(treated: pd.DataFrame | None, untouched: pd.DataFrame | None) -> str:
    """The reason why `change` is empty."""
    shared = treated is not None and untouched is not None and set(treated.columns) & set(untouched.columns)
    return "no group has an outcome in all seeds" if shared else f"no seed that {UNTOUCHED} has as well"


def effect_row(
    means: np.ndarray, term: str, context: RowContext, shape: Sequence[int], draws: int = DRAWS
) -> dict[str, Any]:
    """A row with the mean of paired differences. means: (seeds,), each over groups; shape: groups first, of all differences."""
    test = paired(means)
    single = test.seeds < 2
    return context.row(
        term, coefficient=test.mean, standard_error=test.error, low=test.low, high=test.high, low_90=test.low_90,
        high_90=test.high_90, p=test.p, p_permutation=math.nan if single else sign_flip(means, draws), n=math.prod(shape),
        clusters=test.seeds, unit=context.outcome.unit, method="" if single else OVER_SEEDS,
        reason=NO_INTERVAL if single else "", n_groups=shape[0],
    )  # fmt: skip


GROUP_COLUMNS = (
    "study", "outcome", "arm", "group", "coefficient", "standard_error", "low", "high", "p", "q", "seeds", "reason",
)  # fmt: skip


def group_effects(cells: pd.DataFrame) -> pd.DataFrame:
    """The effect of each arm on each group, paired by seed (t): one row per arm and group, with `GROUP_COLUMNS`.

    q: Benjamini and Hochberg over the arm's groups. An effect that all groups share is part of each of them.
    """
    rows = list[dict[str, Any]]()
    for context, of_study in studies(cells, "A"):
        arms = wide(of_study)
        for arm in arms:
            moved = change(arms[arm], arms.get(UNTOUCHED)) if arm != UNTOUCHED else pd.DataFrame()
            rows += [
                _on_group(str(group), row, arm, context)
                for group, row in zip(moved.index, moved.to_numpy(), strict=True)
            ]
    effects = frame(rows, GROUP_COLUMNS)
    if effects.empty:
        return effects
    return effects.assign(q=effects.groupby(["study", "outcome", "arm"], sort=False)["p"].transform(benjamini_hochberg))


def _on_group(group: str, differences: np.ndarray, arm: str, context: RowContext) -> dict[str, Any]:
    test = paired(np.asarray(differences, float))
    key = {"study": context.study, "outcome": context.metric, "arm": arm, "group": group}
    numbers = {"coefficient": test.mean, "standard_error": test.error, "low": test.low, "high": test.high, "p": test.p}
    return {**key, **numbers, "seeds": test.seeds, "reason": NO_INTERVAL if test.seeds < 2 else ""}


POWER_COLUMNS = (
    "study", "outcome", "arm", "seeds", "spread", "detectable_sd", "detectable", "effect", "seeds_needed", "unit",
)  # fmt: skip


def power(cells: pd.DataFrame, effect: float = math.nan) -> pd.DataFrame:
    """The statistical power of each arm's seeds: one row per arm, with `POWER_COLUMNS`.

    spread: SD over seeds of the paired differences (mean over groups), itself a rough estimate with few seeds; detectable: the
    effect found at 80 % power; seeds_needed: the seeds that a stated `effect` takes. All in the outcome's unit.
    """
    rows = list[dict[str, Any]]()
    for context, of_study in studies(cells, "A"):
        arms = wide(of_study)
        rows += [_power(arms, arm, context, effect) for arm in arms if arm != UNTOUCHED]
    return frame(rows, POWER_COLUMNS)


def _power(arms: dict[str, pd.DataFrame], arm: str, context: RowContext, effect: float) -> dict[str, Any]:
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
    """Each arm's utility: its mean over seeds, and its difference from the untouched arm, paired by seed (t).

    table: `runs.Runs.table`. One row per arm and metric; the untouched arm's row has no difference.
    """
    measured = table[(table["stage"] == "utility") & table["metric"].isin(metrics) & (table["group"] == "")]
    rows = list[dict[str, Any]]()
    for (study, metric), values in measured.groupby(["study", "metric"], sort=False):
        arms = {str(arm): of_arm.set_index("seed")["value"] for arm, of_arm in values.groupby("arm", sort=False)}
        rows += [{"study": study, "arm": arm, "metric": metric, **_utility(arms, arm)} for arm in arms]
    return frame(rows, UTILITY_COLUMNS)


def _utility(arms: dict[str, pd.Series], arm: str) -> dict[str, Any]:
    mean = {"value": float(arms[arm].mean()), "seeds": len(arms[arm])}
    if arm == UNTOUCHED:
        return mean | {"reason": ""}
    differences = (arms[arm] - arms[UNTOUCHED]).dropna() if UNTOUCHED in arms else pd.Series(dtype=float)
    if differences.empty:
        return mean | {"reason": f"no seed that {UNTOUCHED} has as well"}
    test = paired(differences.to_numpy(float))
    numbers = {"difference": test.mean, "low": test.low, "high": test.high, "p": test.p, "seeds": test.seeds}
    return mean | numbers | {"reason": NO_INTERVAL if test.seeds < 2 else ""}
