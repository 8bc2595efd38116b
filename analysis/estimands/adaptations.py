"""Slope and level of each adaptation (`tuning`): how steeply downstream bias follows upstream bias, and how much there is.

The two are different findings: in prompted models bias may follow the model's associations as closely as in fine-tuned ones,
and yet be a third of it (docs/science.md, "Adaptation").
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.data.runs import UNTOUCHED
from analysis.estimands.arm_effects import counts, wide
from analysis.estimands.rows import frame
from analysis.estimands.slopes import NO_UNTOUCHED
from analysis.stats.paired import IDENTICAL, nested

COLUMNS = (
    "study", "outcome", "adaptation", "slope", "slope_low", "slope_high", "size", "size_low", "size_high", "level", "level_low",
    "level_high", "n_groups", "seeds", "models", "draws", "reason",
)  # fmt: skip
"""slope: B's on x, in the outcome's unit per SD; size: the size of bias; level: the mean over groups of the outcome as it is
measured (a rate in [0, 1] for FPR). All of the untouched arm, each with a 95 % interval: those of the slope and the size are
their estimands' own, that of the level is t over models or, with one model, over seeds. n_groups: groups with a level."""

SAME = "all seeds give the same"


def adaptations(cells: Sequence[pd.DataFrame], coefficients: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """One row per study and outcome, with `COLUMNS`, for the tasks that were adapted in several ways; else none.

    cells: those of each outcome; coefficients: of the same outcomes; names: study -> its adaptation.
    """
    rows = list[dict[str, Any]]()
    for of_outcome in cells:
        for _, of_task in of_outcome.groupby("task", sort=False):
            studies = [(str(study), of_study) for study, of_study in of_task.groupby("study", sort=False)]
            if len({names[study] for study, _ in studies}) > 1:
                rows += [_row(study, of_study, coefficients, names[study]) for study, of_study in studies]
    return frame(rows, COLUMNS)


def _row(study: str, cells: pd.DataFrame, coefficients: pd.DataFrame, name: str) -> dict[str, Any]:
    outcome = str(cells["outcome"].iloc[0])
    of_study = coefficients[(coefficients["study"] == study) & (coefficients["outcome"] == outcome)]
    numbers = {"slope": _term(of_study, "B", "x"), "size": _term(of_study, "size", UNTOUCHED), "level": _level(cells)}
    row: dict[str, Any] = {"study": study, "outcome": outcome, "adaptation": name}
    for quantity, (value, low, high, _) in numbers.items():
        row |= {quantity: value, f"{quantity}_low": low, f"{quantity}_high": high}
    reasons = [f"{quantity}: {reason}" for quantity, (*_, reason) in numbers.items() if reason]
    return row | _sizes(cells) | {"reason": "; ".join(reasons)}


Number = tuple[float, float, float, str]
"""A value, the ends of its 95 % interval, and why one of them is missing."""


def _term(coefficients: pd.DataFrame, estimand: str, term: str) -> Number:
    rows = coefficients[(coefficients["estimand"] == estimand) & (coefficients["term"] == term)].to_dict("records")
    if not rows:
        return math.nan, math.nan, math.nan, NO_UNTOUCHED
    return rows[0]["coefficient"], rows[0]["low"], rows[0]["high"], rows[0]["reason"]


def _rates(cells: pd.DataFrame) -> pd.DataFrame:
    """(groups, trials) of the untouched arm, without the groups that lack a value in some trial."""
    return wide(cells[cells["arm"] == UNTOUCHED], "y_rate").get(UNTOUCHED, pd.DataFrame()).dropna()


def _level(cells: pd.DataFrame) -> Number:
    rates = _rates(cells)
    if rates.empty:
        return math.nan, math.nan, math.nan, NO_UNTOUCHED
    test = nested(rates.mean())
    return test.mean, test.low, test.high, SAME if test.reason == IDENTICAL else test.reason


def _sizes(cells: pd.DataFrame) -> dict[str, int]:
    rates = _rates(cells)
    return {"n_groups": len(rates), **counts(rates.columns)}
