"""Estimand A: the effect of each arm, paired by seed with the untouched arm. Only this is called an effect.

Groups are fixed (the 28 occupations, the 50 terms). Models (pre-training seeds) are the sample or, with one model, its
fine-tuning seeds: an interval then holds for this checkpoint and other seeds, and never for other groups (docs/science.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis.data.runs import NO_DRAW, REPEATS, UNTOUCHED
from analysis.estimands.rows import RowContext, frame, studies
from analysis.stats.multiple_testing import benjamini_hochberg, holm
from analysis.stats.paired import nested, permuted
from analysis.stats.power import detectable, seeds_needed
from analysis.stats.wild_bootstrap import DRAWS

LEAST_FOR_Q = 4
"""Independent units (seeds, or models where there are several) from which on an effect on a single group has a q value.

With fewer, the few counts of a group's rate tie so often that chance alone looks certain (docs/statistics.md)."""

FEW_FOR_Q = f"a q value takes {LEAST_FOR_Q} seeds or, where there are several models, {LEAST_FOR_Q} models"


def wide(cells: pd.DataFrame, value: str = "y") -> dict[str, pd.DataFrame]:
    """Arm -> the column's values as (groups, trials), for the arms of one study in their order.

    The columns are indexed by `runs.REPEATS`: replicate, draw and seed.
    """
    return {
        str(arm): of_arm.pivot(index="group", columns=list(REPEATS), values=value)  # noqa: PD010 (unlike pivot_table it raises for a trial that occurs twice)
        for arm, of_arm in cells.groupby("arm", sort=False)
    }


def balanced(y: pd.DataFrame) -> pd.DataFrame:
    """The columns of the seeds that all draws share, if there are any: draws of one model are crossed with its seeds."""
    models, draws, seeds = (set(y.columns.get_level_values(level)) for level in REPEATS)
    if len(models) > 1:
        return y
    trials = set(y.columns.droplevel("replicate"))
    shared = [seed for seed in seeds if all((draw, seed) in trials for draw in draws)]
    return y.loc[:, y.columns.isin(shared, level="seed")] if shared else y


def matched(treated: pd.DataFrame | None, untouched: pd.DataFrame | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both frames cut to the trials and complete groups that they share: (groups, trials) each; empty where they share none.

    Trials are paired by model and seed. Where only `treated` has draws, each is paired with the one untouched trial of its
    seed, which is then repeated.
    """
    if treated is None or untouched is None:
        return pd.DataFrame(), pd.DataFrame()
    place = {column: number for number, column in enumerate(untouched.columns)}
    partner = [place.get(column, place.get((column[0], NO_DRAW, column[2]))) for column in treated.columns]
    known = treated.loc[:, [number is not None for number in partner]]
    if known.empty:
        return pd.DataFrame(), pd.DataFrame()
    base = untouched.iloc[:, [number for number in partner if number is not None]].set_axis(known.columns, axis=1)
    used = balanced(known)
    pair = used.dropna(), base.loc[:, known.columns.isin(used.columns)].dropna()
    groups = pair[0].index.intersection(pair[1].index)
    return pair[0].loc[groups], pair[1].loc[groups]


def change(treated: pd.DataFrame | None, untouched: pd.DataFrame | None) -> pd.DataFrame:
    """Paired differences, treated minus untouched, over what they share: (groups, trials)."""
    first, second = matched(treated, untouched)
    return first - second


def counts(columns: pd.Index) -> dict[str, int]:
    """How many trials (`seeds`), models and draws there are. columns: indexed by `runs.REPEATS`."""
    if not len(columns):
        return {"seeds": 0, "models": 0, "draws": 0}
    number = {name: columns.get_level_values(name).nunique() for name in ("replicate", "draw")}
    return {"seeds": len(columns), "models": number["replicate"], "draws": number["draw"]}


def arm_effects(cells: pd.DataFrame, draws: int = DRAWS) -> pd.DataFrame:
    """Estimand A: y(group, arm, seed) - y(group, untouched, seed), averaged over groups, and over seeds within a model first.

    One row per arm, with `rows.COLUMNS`: interval and p by `paired.nested` (t over models or, with one model, over seeds),
    p_permutation from their signs, p_adjusted by Holm over the arms. All groups with an outcome count, those with few examples
    too, since no dataset bias enters.
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
    return effect_row(moved.mean(), arm, context, moved.shape, draws)


def why_unpaired(treated: pd.DataFrame | None, untouched: pd.DataFrame | None) -> str:
    """The reason why `change` is empty."""
    shared = (
        treated is not None
        and untouched is not None
        and set(treated.columns.droplevel("draw")) & set(untouched.columns.droplevel("draw"))
    )
    return "no group has an outcome in all seeds" if shared else f"no seed that {UNTOUCHED} has as well"


def effect_row(
    means: pd.Series, term: str, context: RowContext, shape: Sequence[int], draws: int = DRAWS
) -> dict[str, Any]:
    """A row with the mean of paired differences.

    means: one per trial, each over groups, indexed by `runs.REPEATS`; shape: groups first, of all differences.
    """
    test = nested(means)
    return context.row(
        term, coefficient=test.mean, standard_error=test.error, low=test.low, high=test.high, low_90=test.low_90,
        high_90=test.high_90, p=test.p, p_permutation=permuted(means, draws), n=math.prod(shape), clusters=test.units,
        **counts(means.index), unit=context.outcome.unit, method=test.method, reason=test.reason, n_groups=shape[0],
    )  # fmt: skip


GROUP_COLUMNS = (
    "study", "outcome", "arm", "group", "coefficient", "standard_error", "low", "high", "p", "q", "seeds", "models",
    "draws", "reason",
)  # fmt: skip


def group_effects(cells: pd.DataFrame) -> pd.DataFrame:
    """The effect of each arm on each group, paired by seed as in A: one row per arm and group, with `GROUP_COLUMNS`.

    q: Benjamini and Hochberg over the arm's groups, from `LEAST_FOR_Q` independent units on. An effect that all groups share
    is part of each of them.
    """
    rows = list[dict[str, Any]]()
    for context, of_study in studies(cells, "A"):
        arms = wide(of_study)
        for arm in arms:
            moved = change(arms[arm], arms.get(UNTOUCHED)) if arm != UNTOUCHED else pd.DataFrame()
            of_arm = pd.DataFrame([_on_group(str(group), row, arm, context) for group, row in moved.iterrows()])
            rows += of_arm.assign(q=q_values(of_arm["p"], of_arm["clusters"])).to_dict("records") if len(of_arm) else []
    return frame(rows, GROUP_COLUMNS)


def q_values(p: pd.Series, units: pd.Series) -> pd.Series:
    """Benjamini and Hochberg's q of the groups of one arm; NaN where there are fewer than `LEAST_FOR_Q` independent units."""
    return benjamini_hochberg(p.where(units >= LEAST_FOR_Q))


def _on_group(group: str, differences: pd.Series, arm: str, context: RowContext) -> dict[str, Any]:
    test = nested(differences)
    key = {"study": context.study, "outcome": context.metric, "arm": arm, "group": group}
    numbers = {"coefficient": test.mean, "standard_error": test.error, "low": test.low, "high": test.high, "p": test.p}
    reason = test.reason or (FEW_FOR_Q if test.units < LEAST_FOR_Q else "")
    return {**key, **numbers, **counts(differences.index), "clusters": test.units, "reason": reason}


POWER_COLUMNS = (
    "study", "outcome", "arm", "seeds", "models", "draws", "spread", "detectable_sd", "detectable", "effect", "seeds_needed",
    "unit",
)  # fmt: skip


def power(cells: pd.DataFrame, effect: float = math.nan) -> pd.DataFrame:
    """The statistical power of each arm's independent units: one row per arm, with `POWER_COLUMNS`.

    Units are models or, with one model, seeds; of draws crossed with seeds, the fewer of the two. spread: SD over units of the
    paired differences (mean over groups), itself a rough estimate with few units, and unknown where all are identical;
    detectable: the effect found at 80 % power; seeds_needed: the units that a stated `effect` takes. All in the outcome's unit.
    """
    rows = list[dict[str, Any]]()
    for context, of_study in studies(cells, "A"):
        arms = wide(of_study)
        rows += [_power(arms, arm, context, effect) for arm in arms if arm != UNTOUCHED]
    return frame(rows, POWER_COLUMNS)


def _power(arms: dict[str, pd.DataFrame], arm: str, context: RowContext, effect: float) -> dict[str, Any]:
    moved = change(arms[arm], arms.get(UNTOUCHED))
    test = None if moved.empty else nested(moved.mean())
    units, spread = (test.units, test.error * math.sqrt(test.units)) if test else (0, math.nan)
    return {
        "study": context.study, "outcome": context.metric, "arm": arm, **counts(moved.columns), "spread": spread,
        "detectable_sd": detectable(units), "detectable": spread * detectable(units) if units > 1 else math.nan,
        "effect": effect, "seeds_needed": seeds_needed(effect, spread), "unit": context.outcome.unit,
    }  # fmt: skip


UTILITY = ("accuracy", "macro_f1", "roc_auc")
UTILITY_COLUMNS = (
    "study",
    "arm",
    "metric",
    "value",
    "difference",
    "low",
    "high",
    "p",
    "seeds",
    "models",
    "draws",
    "reason",
)


def utility(table: pd.DataFrame, metrics: Sequence[str] = UTILITY) -> pd.DataFrame:
    """Each arm's utility: its mean over models, each over its seeds, and its difference from the untouched arm, as in A.

    table: `runs.Runs.table`. One row per arm and metric; the untouched arm's row has no difference.
    """
    measured = table[(table["stage"] == "utility") & table["metric"].isin(metrics) & (table["group"] == "")]
    rows = list[dict[str, Any]]()
    for (study, metric), values in measured.groupby(["study", "metric"], sort=False):
        arms = wide(values, "value")
        rows += [{"study": study, "arm": arm, "metric": metric, **_utility(arms, arm)} for arm in arms]
    return frame(rows, UTILITY_COLUMNS)


def _utility(arms: dict[str, pd.DataFrame], arm: str) -> dict[str, Any]:
    (values,) = arms[arm].to_numpy(float)
    series = pd.Series(values, arms[arm].columns)
    mean = {"value": float(series.groupby(level="replicate").mean().mean()), **counts(series.index)}
    if arm == UNTOUCHED:
        return mean | {"reason": ""}
    moved = change(arms[arm].dropna(axis=1), arms[UNTOUCHED].dropna(axis=1)) if UNTOUCHED in arms else pd.DataFrame()
    if moved.empty:
        return mean | {"reason": f"no seed that {UNTOUCHED} has as well"}
    test = nested(moved.mean())
    numbers = {"difference": test.mean, "low": test.low, "high": test.high, "p": test.p, "reason": test.reason}
    return mean | numbers | counts(moved.columns)
