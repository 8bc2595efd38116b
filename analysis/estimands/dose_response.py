"""Dose-response: the effects of one intervention at several doses."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from operator import itemgetter
from typing import Any

import numpy as np
import pandas as pd

from analysis.data.runs import REPEATS, UNTOUCHED
from analysis.estimands.arm_effects import change, effect_row, why_unpaired, wide
from analysis.estimands.rows import COLUMNS as ROW_COLUMNS
from analysis.estimands.rows import RowContext, frame, studies
from analysis.stats.paired import nested
from analysis.stats.wild_bootstrap import DRAWS

COLUMNS = (
    "study", "outcome", "arm", "family", "dose", "coefficient", "low", "high", "p", "p_permutation", "seeds", "models",
    "draws", "reason",
)  # fmt: skip

SLOPE_COLUMNS = (*ROW_COLUMNS, "n_doses")

DOSE = re.compile(r"=-?[0-9.e+-]+(?=$|\()")


def families(cells: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Family -> arm -> dose, for the interventions of one study that were run at two doses or more.

    The other stage of the arm is `none`, so that only the dose varies. Options are part of a family's name, as in
    `sent_debias(kept) + none`.
    """
    doses_of: dict[str, dict[str, float]] = {}
    distinct = cells.drop_duplicates("arm")
    for row in distinct[["arm", "upstream", "upstream_dose", "downstream", "downstream_dose"]].to_dict("records"):
        doses = [row[f"{stage}_dose"] for stage in ("upstream", "downstream") if row[stage] != "none"]
        if len(doses) == 1 and not math.isnan(float(doses[0] if doses[0] is not None else math.nan)):
            name = " + ".join(DOSE.sub("", part) for part in str(row["arm"]).split(" + "))
            doses_of.setdefault(name, {})[str(row["arm"])] = float(doses[0])
    return {name: dict(sorted(arms.items(), key=itemgetter(1))) for name, arms in doses_of.items() if len(arms) > 1}


def responses(cells: pd.DataFrame) -> pd.DataFrame:
    """The effect of each dose (estimand A), one row per dose with `COLUMNS`."""
    rows = list[dict[str, Any]]()
    for context, of_study in studies(cells, "A"):
        arms = wide(of_study)
        for family, doses in families(of_study).items():
            rows += [_response(arms, arm, family, dose, context) for arm, dose in doses.items()]
    return frame(rows, COLUMNS)


def _response(
    arms: Mapping[str, pd.DataFrame], arm: str, family: str, dose: float, context: RowContext
) -> dict[str, Any]:
    key = {"study": context.study, "outcome": context.metric, "arm": arm, "family": family, "dose": dose}
    moved = change(arms[arm], arms.get(UNTOUCHED))
    if moved.empty:
        return {**key, "seeds": 0, "models": 0, "draws": 0, "reason": why_unpaired(arms[arm], arms.get(UNTOUCHED))}
    row = effect_row(moved.mean(), arm, context, moved.shape)
    return {name: row[name] for name in COLUMNS if name in row} | key


def slopes(cells: pd.DataFrame, draws: int = DRAWS) -> pd.DataFrame:
    """The slope of the effect over doses: one row per family, with `SLOPE_COLUMNS` and estimand "A, dose".

    Least squares within each seed (and draw), the untouched arm being dose 0, over the seeds that have all doses; then as in A:
    t over models or, with one model, over seeds. A line is only a
    summary: the effect of each dose is in `responses`.
    """
    rows = list[dict[str, Any]]()
    for context, of_study in studies(cells, "A, dose"):
        arms = wide(of_study)
        rows += [_slope(arms, family, doses, context, draws) for family, doses in families(of_study).items()]
    return frame(rows, SLOPE_COLUMNS)


def _slope(
    arms: Mapping[str, pd.DataFrame], family: str, doses: Mapping[str, float], context: RowContext, draws: int
) -> dict[str, Any]:
    moved = {arm: change(arms[arm], arms.get(UNTOUCHED)) for arm in doses}
    seeds = sorted(set.intersection(*(set(differences.columns) for differences in moved.values())))
    groups = sorted(set.intersection(*(set(differences.index) for differences in moved.values())))
    if not seeds or not groups:
        return context.row(family, reason=f"no seed and group that {UNTOUCHED} and all doses have")
    columns = pd.MultiIndex.from_tuples(seeds, names=REPEATS)
    means = [
        differences.reindex(index=groups, columns=columns).mean().to_numpy(float) for differences in moved.values()
    ]
    effects = np.array(means)  # (doses, seeds)
    steps = np.array([0.0, *doses.values()])
    centred = steps - steps.mean()
    per_seed = centred @ np.vstack([np.zeros(len(seeds)), effects]) / float(centred @ centred)
    row = effect_row(pd.Series(per_seed, columns), family, context, (len(groups), *effects.shape), draws)
    return row | {"unit": f"{context.outcome.unit} per unit of dose", "n_doses": len(doses)}


def mean_effect(cells: pd.DataFrame, arm: str) -> tuple[float, float, float]:
    """The effect of an arm in one study with its 95 % interval: (mean, low, high); NaN where there is none."""
    arms = wide(cells)
    moved = change(arms.get(arm), arms.get(UNTOUCHED))
    if moved.empty:
        return math.nan, math.nan, math.nan
    test = nested(moved.mean())
    return test.mean, test.low, test.high
