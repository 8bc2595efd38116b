"""Sensitivity of B to the upstream templates: a fit per template, the poster's regression, and a correction for their noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.api as sm

from analysis.estimands.reliability import RELIABLE, reliability, template_scores
from analysis.estimands.rows import RowContext, frame, studies
from analysis.estimands.slopes import between_terms, group_means, held_fixed, standardised
from analysis.stats.inference import infer, t_quantile
from analysis.stats.regression import LEAST_GROUPS, RefusedError, fit, from_rows, panel
from analysis.stats.wild_bootstrap import DRAWS

CORRECTED = "B, corrected for templates"


def _parts(
    table: pd.DataFrame, cells: pd.DataFrame, estimand: str
) -> list[tuple[RowContext, pd.DataFrame, pd.DataFrame]]:
    """For each study: its context, its rows for B (x and z in SD), and its scores as (groups, templates) in the same SD."""
    parts = []
    for context, of_study in studies(cells, estimand):
        by_template = template_scores(table[table["study"] == context.study], str(of_study["x_metric"].iloc[0]))
        scale = context.scales["x"]
        parts.append(
            (context, standardised(group_means(of_study), context), by_template / (scale if scale > 0 else 1.0))
        )
    return parts


PER_TEMPLATE_COLUMNS = ("study", "outcome", "estimand", "template", "coefficient", "low", "high", "p", "n", "reason")


def per_template(table: pd.DataFrame, cells: pd.DataFrame, draws: int = DRAWS) -> pd.DataFrame:
    """B's coefficient of x from each upstream template alone: one row per template, with `PER_TEMPLATE_COLUMNS`.

    x is in SD of the mean over templates, as in the main fit. table: `runs.Runs.table`; cells: those of the same table.
    """
    rows = list[dict[str, Any]]()
    for context, means, by_template in _parts(table, cells, "B"):
        for template in by_template.columns:
            of_template = means.assign(x=means["group"].map(by_template[template]))
            key = {"study": context.study, "outcome": context.metric, "estimand": "B", "template": template}
            rows.append(key | _slope(of_template, draws))
    return frame(rows, PER_TEMPLATE_COLUMNS)


def _slope(rows: pd.DataFrame, draws: int) -> dict[str, Any]:
    try:
        fitted = fit(from_rows(rows, between_terms(rows), within=False))
        if "x" in fitted.panel.constant:
            raise RefusedError("x does not vary over groups")
        result = infer(fitted, {"x": 1.0}, draws)
    except RefusedError as refusal:
        return {"n": 0, "reason": str(refusal)}
    numbers = {"coefficient": result.coefficient, "low": result.low, "high": result.high, "p": result.p}
    return numbers | {"n": fitted.panel.n, "reason": ""}


def poster_replica(table: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """The regression as the poster seems to have run it, for comparison: terms x and z, estimand "poster replica".

    One row per group and upstream template, with y repeated, template dummies and ordinary standard errors. It must not be
    relied on: rows are counted that add no outcome, so errors are too small, and the noise of single templates pulls the
    slope towards 0.
    """
    rows = list[dict[str, Any]]()
    for context, means, by_template in _parts(table, cells, "poster replica"):
        y, covariates, scores = _complete(means, by_template, ("z",))
        rows += _replica(y, covariates[:, 0], scores, context)
    return frame(rows)


def _complete(
    means: pd.DataFrame, by_template: pd.DataFrame, covariates: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """y (groups,), covariates (groups, covariates) and scores (groups, templates) of the groups that have all of them."""
    whole = means.dropna(subset=["y", *covariates]).set_index("group")
    shared = by_template.dropna().index.intersection(whole.index)
    rows = whole.loc[shared]
    return rows["y"].to_numpy(float), rows[list(covariates)].to_numpy(float), by_template.loc[shared].to_numpy(float)


def repeated(y: np.ndarray, z: np.ndarray, by_template: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """The regression with y repeated per template. y, z: (groups,); by_template: (groups, templates).

    Returns the coefficients of x and z, their ordinary standard errors and the degrees of freedom. Raises RefusedError as
    `regression.panel` does.
    """
    templates = by_template.shape[1]
    x = np.stack([by_template, np.repeat(z[:, None], templates, axis=1)], axis=-1)
    data = panel(np.repeat(y[:, None], templates, axis=1), x, ("x", "z"), within=False)
    if data.constant:
        raise RefusedError(f"{data.constant[0]} does not vary over groups")
    fitted = sm.OLS(data.y.ravel(), data.x.reshape(-1, 2)).fit()
    freedom = data.n - 2 - templates  # statsmodels does not know that template means were subtracted
    return fitted.params, fitted.bse * math.sqrt((data.n - 2) / freedom), freedom


def _replica(y: np.ndarray, z: np.ndarray, by_template: np.ndarray, context: RowContext) -> list[dict[str, Any]]:
    try:
        if by_template.shape[1] < 2:
            raise RefusedError("fewer than two templates")
        values, errors, freedom = repeated(y, z, by_template)
    except RefusedError as refusal:
        return [context.row(term, reason=str(refusal)) for term in ("x", "z")]
    reach = t_quantile(0.975, freedom)
    return [
        context.row(
            term, coefficient=value, standard_error=error, low=value - reach * error, high=value + reach * error,
            n=by_template.size, clusters=len(y), unit=f"{context.outcome.unit} per SD", method="ordinary standard errors",
            scale=context.scales[term], n_groups=len(y),
        )
        for term, value, error in zip(("x", "z"), values, errors, strict=True)
    ]  # fmt: skip


def corrected(table: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """B's coefficient of x, corrected for the noise of templates (exploratory; Fuller 1987, eq. 2.2.12).

    The variance of the mean over templates, estimated from their disagreement, is subtracted from the moments of x. One row
    per study: term "x", estimand "B, corrected for templates", per SD of the measured mean; interval by jackknife over
    groups (t). It assumes that the templates are a random sample of those that could have been written, with noise that is
    independent over groups.
    """
    rows = list[dict[str, Any]]()
    for context, means, by_template in _parts(table, cells, CORRECTED):
        rows.append(_corrected(*_complete(means, by_template, ("z", *held_fixed(means))), context))
    return frame(rows)


def _corrected(y: np.ndarray, covariates: np.ndarray, by_template: np.ndarray, context: RowContext) -> dict[str, Any]:
    groups, templates = by_template.shape
    if groups < LEAST_GROUPS or templates < 2:
        return context.row("x", reason=f"{groups} groups and {templates} templates: {LEAST_GROUPS} and 2 are needed")
    z = covariates[:, 0]
    if np.ptp(z) <= 1e-9 * np.abs(z).max() or np.ptp(by_template.mean(axis=1)) == 0:
        return context.row("x", reason="x or z does not vary over groups: only a fit with both can be corrected")
    value, error = errors_in_variables(y, covariates, by_template)
    alpha = reliability(pd.DataFrame(by_template))
    if not alpha >= RELIABLE or not math.isfinite(error):
        return context.row("x", n=groups, reason=f"the reliability of x is {alpha:.2f}: too low to be corrected for")
    reach, reach_90 = (error * t_quantile(level, groups - 1) for level in (0.975, 0.95))
    return context.row(
        "x", coefficient=value, standard_error=error, low=value - reach, high=value + reach, low_90=value - reach_90,
        high_90=value + reach_90, n=groups, clusters=groups, unit=f"{context.outcome.unit} per SD", scale=context.scales["x"],
        method="errors in variables, jackknife over groups", n_groups=groups,
    )  # fmt: skip


def errors_in_variables(y: np.ndarray, covariates: np.ndarray, by_template: np.ndarray) -> tuple[float, float]:
    """The corrected slope of x and its jackknife error over groups.

    y: (groups,); covariates: (groups,) or (groups, covariates), without noise: z, and those of the groups' names; by_template:
    (groups, templates).
    """
    groups = len(y)
    others = ~np.eye(groups, dtype=bool)
    subsets = np.vstack([np.ones(groups), others])  # (1 + groups, groups): all groups, then all but each one
    whole, *left = _corrected_slopes(subsets, y, covariates, by_template)
    return float(whole), math.sqrt((groups - 1) / groups * float(((np.array(left) - whole) ** 2).sum()))


def _corrected_slopes(
    subsets: np.ndarray, y: np.ndarray, covariates: np.ndarray, by_template: np.ndarray
) -> np.ndarray:
    """(subsets,): the corrected slope of x in each subset. subsets: (subsets, groups), 1 for a group of the subset."""
    counts, templates = subsets.sum(axis=1), by_template.shape[1]
    columns = np.column_stack([by_template.mean(axis=1), covariates, y, by_template])
    terms = columns.shape[1] - 1 - templates  # x and the covariates
    centred = columns - columns.mean(axis=0)  # numerically more precise than raw moments
    means = subsets @ centred / counts[:, None]
    first, scores = slice(terms + 1), slice(terms + 1, None)
    crossed = np.einsum("sg,gp,gq->spq", subsets, centred[:, first], centred[:, first], optimize=True)
    crossed = crossed - counts[:, None, None] * means[:, first, None] * means[:, None, first]
    off = centred[:, scores] - centred[:, :1]
    drift = means[:, scores] - means[:, :1]
    spread = (subsets @ (off**2) - counts[:, None] * drift**2).sum(axis=1)
    noise = spread / (templates - 1) / templates  # (groups - 1) times the variance of a mean over templates
    moments = crossed[:, :terms, :terms] - noise[:, None, None] * np.diag(np.arange(terms) == 0)
    return np.asarray(np.linalg.solve(moments, crossed[:, :terms, terms:])[:, 0, 0])
