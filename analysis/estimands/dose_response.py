"""Dose and response: arms that one intervention gives at several doses."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.estimands.arm_effects import change
from analysis.estimands.arm_effects import effect_row
from analysis.estimands.arm_effects import nothing
from analysis.estimands.arm_effects import paired
from analysis.estimands.arm_effects import wide
from analysis.data.runs import UNTOUCHED
from analysis.estimands.sentences import Context
from analysis.estimands.sentences import frame
from analysis.estimands.sentences import studies
from analysis.stats.wild_bootstrap import DRAWS

COLUMNS = (
    "study", "outcome", "arm", "family", "dose", "coefficient", "low", "high", "p", "p_permutation", "seeds", "reason",
)  # fmt: skip

DOSE = re.compile(r"=-?[0-9.e+-]+(?=$|\()")


def families(cells: pd.DataFrame) -> dict[str, dict[str, float]]:
    """One study's dosed interventions -> arm -> dose, of those with two doses or more. One side of the arm is none, so that
    nothing but the dose moves; options part families, as in `sent_debias(kept) + none`."""
    found: dict[str, dict[str, float]] = {}
    arms = cells.drop_duplicates("arm")
    for row in arms[["arm", "upstream", "upstream_dose", "downstream", "downstream_dose"]].to_dict("records"):
        doses = [row[f"{stage}_dose"] for stage in ("upstream", "downstream") if row[stage] != "none"]
        if len(doses) == 1 and not math.isnan(float(doses[0] if doses[0] is not None else math.nan)):
            name = " + ".join(DOSE.sub("", part) for part in str(row["arm"]).split(" + "))
            found.setdefault(name, {})[str(row["arm"])] = float(doses[0])
    return {name: dict(sorted(own.items(), key=lambda item: item[1])) for name, own in found.items() if len(own) > 1}


def responses(cells: pd.DataFrame) -> pd.DataFrame:
    """Mean effect of each dose (A: paired by seed, mean over groups, t over seeds), a row a dose of `COLUMNS`."""
    rows = list[dict[str, Any]]()
    for context, own in studies(cells, "A"):
        arms = wide(own)
        for family, doses in families(own).items():
            rows += [_response(arms, arm, family, dose, context) for arm, dose in doses.items()]
    return frame(rows, COLUMNS)


def _response(arms: Mapping[str, pd.DataFrame], arm: str, family: str, dose: float, context: Context) -> dict[str, Any]:
    named = {"study": context.study, "outcome": context.metric, "arm": arm, "family": family, "dose": dose}
    moved = change(arms[arm], arms.get(UNTOUCHED))
    if moved.empty:
        return {**named, "seeds": 0, "reason": nothing(arms[arm], arms.get(UNTOUCHED))}
    row = effect_row(moved.to_numpy(float).mean(axis=0), arm, "", context, moved.size)
    return {
        **named,
        **{name: row[name] for name in COLUMNS if name in row and name not in named},
        "seeds": row["clusters"],
    }


def slopes(cells: pd.DataFrame, draws: int = DRAWS) -> pd.DataFrame:
    """Slope of the effect over doses, untouched being dose 0, a row a family of `sentences.COLUMNS` with estimand "A, dose":
    least squares within each seed, t over the seeds that have all doses. A line is a summary: look at the doses."""
    rows = list[dict[str, Any]]()
    for context, own in studies(cells, "A, dose"):
        arms = wide(own)
        rows += [_slope(arms, family, doses, context, draws) for family, doses in families(own).items()]
    return frame(rows)


def _slope(
    arms: Mapping[str, pd.DataFrame], family: str, doses: Mapping[str, float], context: Context, draws: int
) -> dict[str, Any]:
    moved = {arm: change(arms[arm], arms.get(UNTOUCHED)) for arm in doses}
    seeds = sorted(set.intersection(*(set(one.columns) for one in moved.values())))
    groups = sorted(set.intersection(*(set(one.index) for one in moved.values())))
    if not seeds or not groups:
        return context.row(family, reason=f"no seed and group that {UNTOUCHED} and all doses have")
    effects = np.array(
        [one.loc[groups, seeds].to_numpy(float).mean(axis=0) for one in moved.values()]
    )  # (doses, seeds)
    steps = np.array([0.0, *doses.values()])
    centred = steps - steps.mean()
    per_seed = centred @ np.vstack([np.zeros(len(seeds)), effects]) / float(centred @ centred)
    what = (
        f"{family}: a dose higher by 1 changed {context.outcome.label} by {{}} (least squares over {len(doses)} doses and the "
        f"untouched arm, {len(seeds)} paired seed{'s' if len(seeds) > 1 else ''})"
    )
    row = effect_row(per_seed, family, what, context, len(groups) * effects.size, draws)
    return row | {"unit": f"{context.outcome.unit} per unit of dose"}


def mean_effect(cells: pd.DataFrame, arm: str) -> tuple[float, float, float]:
    """One study's effect of an arm with its 95 % interval; NaN where there is none."""
    arms = wide(cells)
    moved = change(arms.get(arm), arms.get(UNTOUCHED))
    if moved.empty:
        return math.nan, math.nan, math.nan
    found = paired(moved.to_numpy(float).mean(axis=0))
    return found.mean, found.low, found.high
