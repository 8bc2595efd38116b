"""What the first screen of a report rests on: which side of the pipeline each arm changes, and what it did to the harm.

Nothing is estimated here. The rows of `ranking` and of A are judged by their intervals, so that the sentences of the first
screen say no more than the numbers allow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import pandas as pd

from analysis.data.cells import outcome_named
from analysis.data.runs import UNTOUCHED
from analysis.estimands.equivalence import SIGNIFICANT
from analysis.estimands.ranking import RANKED
from analysis.estimands.rows import frame
from analysis.stats.inference import t_quantile
from analysis.stats.power import seeds_needed

Side = Literal["model", "data", "both"]
Effect = Literal["reduced", "raised", "none", "unclear"]

NOT_MITIGATIONS = ("reinitialise", "permute", "perturb", "inject")
"""Upstream arms that are not meant to reduce harm: they ask what the model's knowledge does, or plant some."""

TARGET_SD = 0.5
"""The change of harm that an experiment should be able to find where no margin is stated, in SD over groups of the untouched
arm's outcome (ours)."""

COLUMNS = (
    "study", "outcome", "arm", "side", "mitigation", "standing", "effect", "harm", "harm_low", "harm_high", "utility",
    "utility_change", "utility_low", "utility_high", "margin", "seeds", "models", "n_groups", "target", "seeds_needed",
    "reason",
)  # fmt: skip
"""harm: the change of harm, negative for less, in the unit of `ranking`; effect: `Effect`; margin: within which harm is known
not to have changed, NaN unless effect is "none"; target: the change of harm that `seeds_needed` seeds would find."""


def answer(cells: pd.DataFrame, ranked: pd.DataFrame, coefficients: pd.DataFrame, scales: pd.DataFrame) -> pd.DataFrame:
    """One row per study and arm, the largest reduction of harm first: `COLUMNS`.

    cells: those of the primary outcome; ranked: `ranking.ranking`; coefficients: with `equivalence.compare_with_margins`;
    scales: `equivalence.outcome_scales`.
    """
    arms = cells.drop_duplicates(["study", "arm"]).set_index(["study", "arm"])
    effects = coefficients[coefficients["estimand"] == "A"].to_dict("records")
    tests = {(row["study"], row["outcome"], row["term"]): row for row in effects}
    spread = scales.set_index(["study", "outcome"])["outcome_sd"].to_dict()
    rows = list[dict[str, Any]]()
    for row in ranked[ranked["main"]].to_dict("records"):
        key = row["study"], row["outcome"]
        if key in spread and row["arm"] != UNTOUCHED:
            tested = tests.get((*key, row["arm"]), {})
            rows.append(_row(row, arms.loc[key[0], row["arm"]], tested, float(spread[key])))
    return frame(sorted(rows, key=lambda row: (row["study"], _place(row["harm"]))), COLUMNS)


def _place(harm: float) -> float:
    return math.inf if math.isnan(harm) else harm


def _row(row: Mapping[Any, Any], arm: Any, tested: Mapping[Any, Any], spread: float) -> dict[str, Any]:
    stated, margin = _margins(tested, str(row["outcome"]))
    target = TARGET_SD * spread if math.isnan(stated) else stated
    return {
        "study": row["study"], "outcome": row["outcome"], "arm": row["arm"], "side": side(arm["upstream"], arm["downstream"]),
        "mitigation": arm["upstream"] not in NOT_MITIGATIONS, "standing": row["standing"], "effect": effect(row, margin),
        "harm": -row["harm_reduced"], "harm_low": -row["harm_high"], "harm_high": -row["harm_low"],
        "utility": row["utility"], "utility_change": -row["utility_lost"], "utility_low": -row["utility_high"],
        "utility_high": -row["utility_low"], "margin": margin, "seeds": row["seeds"], "models": row["models"],
        "n_groups": row["n_groups"], "target": target, "seeds_needed": _needed(row, target), "reason": row["reason"],
    }  # fmt: skip


def _margins(tested: Mapping[Any, Any], outcome: str) -> tuple[float, float]:
    """(the margin that was stated for an arm's effect, the same if the test of equivalence passed); else NaN. That test is of
    the mean change, which is the change of harm only for an outcome that has a level."""
    if not len(tested) or outcome_named(outcome).zero:
        return math.nan, math.nan
    passed = not pd.isna(tested["equivalent"]) and bool(tested["equivalent"])
    return float(tested["margin"]), float(tested["margin"]) if passed else math.nan


def side(upstream: str, downstream: str) -> Side:
    """What an arm changes."""
    if downstream == "none":
        return "model"
    return "data" if upstream == "none" else "both"


def effect(row: Mapping[Any, Any], margin: float) -> Effect:
    """What an arm did to the harm. A reduction or a rise is significant at 5 % after Holm's correction over the arms, and its
    interval leaves out 0; "none" passed the test of equivalence at a margin that was stated; all else is unclear."""
    if row["harm_p_adjusted"] < SIGNIFICANT and (row["harm_low"] > 0 or row["harm_high"] < 0):
        return "reduced" if row["harm_low"] > 0 else "raised"
    return "unclear" if math.isnan(margin) else "none"


def _needed(row: Mapping[Any, Any], target: float) -> float:
    """The seeds (or models) with which 80 of 100 experiments would find a change of harm by `target`; NaN where unknown."""
    units = row["clusters"]
    if math.isnan(row["harm_low"]) or units < 2 or math.isnan(target):
        return math.nan
    error = (row["harm_high"] - row["harm_low"]) / 2 / t_quantile(0.975, units - 1)
    return seeds_needed(target, error * math.sqrt(units))


def mitigations(rows: pd.DataFrame, of: Side) -> pd.DataFrame:
    """The arms of a side that are meant to reduce harm, acted, and could be compared."""
    return rows[(rows["side"] == of) & rows["mitigation"] & (rows["standing"] == RANKED)]
