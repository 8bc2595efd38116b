"""Least squares on a balanced panel of groups and trials, with standard errors clustered by group."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import statsmodels.api as sm

LEAST_GROUPS = 10
"""A regression on fewer groups is refused (docs/science.md, "Dataset bias")."""


class RefusedError(Exception):
    """The data do not permit an estimate; the message says why."""


@dataclass(frozen=True, eq=False)
class Panel:
    """A balanced panel, its fixed effects removed.

    With one trial there is one row per group and an intercept (estimand B); with several, group and trial effects (W).
    """

    y: np.ndarray
    """(groups, trials): the outcome, effects removed."""
    x: np.ndarray
    """(groups, trials, terms): the regressors, effects removed (Frisch, Waugh and Lovell)."""
    terms: tuple[str, ...]
    constant: tuple[str, ...] = ()
    """Regressors left out because they do not vary beyond the effects; this changes no other coefficient."""
    groups: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    """Groups left out because they lack a value in some trial: all trials have the same groups."""
    seeds: tuple[int, ...] = ()
    """Each trial's seed (its model, where there are several), for standard errors clustered by it as well."""

    @property
    def n(self) -> int:
        """Number of rows: groups times trials."""
        return self.y.size


def without_effects(values: np.ndarray, within: bool) -> np.ndarray:
    """Subtract each trial's mean over groups and, if `within`, each group's mean over trials. values: (groups, trials, ...)."""
    values = values - values.mean(axis=0)
    return values - values.mean(axis=1, keepdims=True) if within else values


def panel(y: np.ndarray, x: np.ndarray, terms: Sequence[str], within: bool, names: Sequence[str] = ()) -> Panel:
    """The panel of a regression. y: (groups, trials); x: (groups, trials, terms); without missing values.

    Raises RefusedError for fewer than `LEAST_GROUPS` groups, an outcome or regressors without variation, rank deficiency,
    and no more rows than parameters.
    """
    groups, trials = y.shape
    if groups < LEAST_GROUPS:
        raise RefusedError(f"{groups} groups have complete data; fewer than {LEAST_GROUPS} are refused")
    free_y, free_x = without_effects(y, within), without_effects(x, within)
    varying = [number for number in range(len(terms)) if _varies(free_x[..., number], x[..., number])]
    if not _varies(free_y, y):
        raise RefusedError("the outcome does not vary" + beyond(within))
    if not varying:
        raise RefusedError(" and ".join(terms) + " do not vary" + beyond(within))
    included = tuple(terms[number] for number in varying)
    _full_rank(free_x[..., varying], included, within)
    if y.size <= len(varying) + trials:
        raise RefusedError(f"{y.size} rows are too few for {len(varying) + trials} parameters")
    return Panel(
        free_y, free_x[..., varying], included, tuple(term for term in terms if term not in included), tuple(names)
    )


def _full_rank(x: np.ndarray, terms: Sequence[str], within: bool) -> None:
    columns = x.reshape(-1, x.shape[-1])
    if np.linalg.svd(columns / np.linalg.norm(columns, axis=0), compute_uv=False).min() < 1e-6:
        raise RefusedError(f"rank deficient: {' and '.join(terms)} are collinear" + beyond(within))


def _varies(residual: np.ndarray, raw: np.ndarray) -> bool:
    return bool(np.linalg.norm(residual) > 1e-9 * np.linalg.norm(raw))


def beyond(within: bool) -> str:
    """How a message ends that says that something does not vary."""
    return " within groups and trials" if within else " over groups"


def from_rows(rows: pd.DataFrame, terms: Sequence[str], within: bool) -> Panel:
    """The panel of a frame with one row per group and trial.

    rows: columns group, y, `terms` and, if `within`, trial and seed. Trials without a complete row are dropped first, then
    groups that are incomplete in one of the remaining trials. Raises RefusedError as `panel` does.
    """
    rows = rows.assign(trial="", seed=0) if not within else rows
    complete = rows.dropna(subset=["y", *terms])
    counts = complete.groupby("group", sort=False)["trial"].nunique()
    trials = complete["trial"].nunique()
    names = sorted(counts.index[counts == trials])
    balanced = complete[complete["group"].isin(names)].sort_values(["group", "trial"], kind="stable")
    shape = (len(names), trials)
    y = balanced["y"].to_numpy(float).reshape(shape)
    x = balanced[list(terms)].to_numpy(float).reshape(*shape, len(terms))
    dropped = tuple(sorted(map(str, counts.index[counts < trials])))
    try:
        made = panel(y, x, terms, within, tuple(map(str, names)))
    except RefusedError as refusal:
        lacking = f" (without {', '.join(dropped)}, which some trials lack)" if dropped else ""
        raise RefusedError(f"{refusal}{lacking}") from None
    seeds = tuple(balanced["seed"].head(trials).astype(int))
    return Panel(made.y, made.x, made.terms, made.constant, made.groups, dropped, seeds)


@dataclass(frozen=True, eq=False)
class Fit:
    """Ordinary least squares on a panel."""

    panel: Panel
    coefficients: np.ndarray
    """(terms,)"""
    residual: np.ndarray
    """(groups, trials)"""
    covariance: np.ndarray
    """(terms, terms), CRV1."""
    left_out: np.ndarray
    """(groups, terms): the coefficients of the fit without each group; NaN where that fit is not identified."""

    @property
    def groups(self) -> int:
        """Number of groups, which are the clusters."""
        return len(self.panel.y)

    def weights(self, named: Mapping[str, float]) -> np.ndarray:
        """(terms,): a contrast as an array; terms that are not named weigh 0."""
        return np.array([named.get(term, 0.0) for term in self.panel.terms])


def crv1_factor(groups: int, rows: int, parameters: int) -> float:
    """G/(G-1) (N-1)/(N-K). K excludes the group effects, which are nested in the clusters (Cameron and Miller 2015, III.B)."""
    return groups / (groups - 1) * (rows - 1) / (rows - parameters)


def fit(data: Panel) -> Fit:
    """Ordinary least squares by statsmodels, with standard errors clustered by group (CRV1).

    They go with t of G - 1 degrees of freedom; with one row per group they are HC1.
    """
    groups, trials, terms = data.x.shape
    codes = np.repeat(np.arange(groups), trials)
    fitted = sm.OLS(data.y.ravel(), data.x.reshape(-1, terms)).fit(
        cov_type="cluster", cov_kwds={"groups": codes, "use_correction": False}, use_t=True
    )
    covariance = fitted.cov_params() * crv1_factor(groups, data.n, terms + trials)
    return Fit(data, fitted.params, fitted.resid.reshape(data.y.shape), covariance, leave_one_out(data))


def gram(x: np.ndarray) -> np.ndarray:
    """(groups, terms, terms): the cross products of each group's regressors."""
    return np.asarray(np.einsum("gtp,gtq->gpq", x, x))


def leave_one_out(data: Panel) -> np.ndarray:
    """(groups, terms): the coefficients of the regression, effects included, without each group; NaN if not identified.

    Without group g a trial's mean over groups moves by -x_g/(G-1), so g's cross products are subtracted G/(G-1) times.
    """
    groups = len(data.y)
    grams, scores = gram(data.x), np.einsum("gtp,gt->gp", data.x, data.y)
    share = groups / (groups - 1)
    left = grams.sum(axis=0) - share * grams
    coefficients = np.full(scores.shape, math.nan)
    size = np.sqrt(np.einsum("gpp->p", grams))
    # scaled to a unit diagonal first, so that the units of the regressors do not matter
    identified = np.linalg.eigvalsh(left / size / size[:, None])[:, 0] > 1e-9
    right = scores.sum(axis=0) - share * scores
    coefficients[identified] = np.linalg.solve(left[identified], right[identified][..., None])[..., 0]
    return coefficients
