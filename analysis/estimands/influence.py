"""Sensitivity of B and W: the influence of single groups, and the collinearity of x and z."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.estimands.rows import RowContext, frame, studies
from analysis.estimands.slopes import ONE_ARM, between_terms, displaced, group_means, main_terms, standardised
from analysis.stats.regression import Fit, RefusedError, fit, from_rows

INFLUENCE_COLUMNS = (
    "study", "outcome", "estimand", "term", "coefficient", "group", "without", "change", "lowest", "highest", "reason",
    "n_groups",
)  # fmt: skip


ABOUT = ("x", "z")
"""The terms that the rows are about; the covariates of the groups' names are held fixed."""


def _fits(cells: pd.DataFrame) -> Iterator[tuple[RowContext, Fit | str]]:
    """The main fit of B and of W for each study, or the reason why there is none."""
    for estimand in ("B", "W"):
        for context, of_study in studies(cells, estimand):
            rows = group_means(of_study) if estimand == "B" else displaced(of_study)
            if estimand == "W" and len(set(rows["arm"])) < 2:
                yield context, ONE_ARM
                continue
            terms = between_terms(rows) if estimand == "B" else main_terms(rows)
            try:
                yield context, fit(from_rows(standardised(rows, context), terms, estimand == "W"))
            except RefusedError as refusal:
                yield context, str(refusal)


def influence(cells: pd.DataFrame) -> pd.DataFrame:
    """Leave-one-group-out influence: one row per study, estimand and term, with `INFLUENCE_COLUMNS`.

    group: the one whose omission changes the coefficient most; without: the coefficient without it (NaN where the group alone
    identifies the coefficient); lowest, highest: the range over all groups left out. Per SD of the untouched model.
    """
    rows = list[dict[str, Any]]()
    for context, fitted in _fits(cells):
        key = {"study": context.study, "outcome": context.metric, "estimand": context.estimand}
        if isinstance(fitted, str):
            rows.append(key | {"term": "", "reason": fitted, "n_groups": 0})
            continue
        rows += [
            key | {"term": term} | _largest(fitted, number)
            for number, term in enumerate(fitted.panel.terms)
            if term in ABOUT
        ]
    return frame(rows, INFLUENCE_COLUMNS)


def _largest(fitted: Fit, number: int) -> dict[str, Any]:
    whole, left = float(fitted.coefficients[number]), fitted.left_out[:, number]
    unknown = np.isnan(left)
    group = int(np.flatnonzero(unknown)[0] if unknown.any() else np.abs(left - whole).argmax())
    values = {"coefficient": whole, "group": fitted.panel.groups[group], "reason": "", "n_groups": len(left)}
    if unknown.any():
        return values
    without = float(left[group])
    ends = {"lowest": float(left.min()), "highest": float(left.max())}
    return {**values, "without": without, "change": without - whole, **ends}


def inflation(cells: pd.DataFrame) -> pd.DataFrame:
    """study, outcome, estimand, correlation, inflation, groups, reason: the collinearity of x and z in B and in W.

    correlation: of x and z, fixed effects removed; inflation: variance inflation of x, 1/(1 - R^2) with the R^2 of x on all
    other terms of the main fit.
    """
    rows = list[Mapping[str, Any]]()
    for context, fitted in _fits(cells):
        key = {"study": context.study, "outcome": context.metric, "estimand": context.estimand}
        rows.append(key | _inflation(fitted))
    columns = ("study", "outcome", "estimand", "correlation", "inflation", "groups", "reason")
    return frame(rows, columns)


def _inflation(fitted: Fit | str) -> dict[str, Any]:
    if isinstance(fitted, str):
        return {"correlation": math.nan, "inflation": math.nan, "groups": 0, "reason": fitted}
    if sum(term in ABOUT for term in fitted.panel.terms) < 2:
        cause = f"{fitted.panel.constant[0]} does not vary" if fitted.panel.constant else "there is no dataset bias"
        reason = f"{cause}, so there is a single regressor"
        return {"correlation": math.nan, "inflation": math.nan, "groups": fitted.groups, "reason": reason}
    correlations = np.corrcoef(fitted.panel.x.reshape(-1, len(fitted.panel.terms)).T)
    inflation = float(np.linalg.inv(correlations)[0, 0])
    return {"correlation": float(correlations[0, 1]), "inflation": inflation, "groups": fitted.groups, "reason": ""}
