"""The rows of a regression as arrays (groups, trials), and least squares on them with errors clustered by group."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import statsmodels.api as sm

LEAST_GROUPS = 10
"""A regression on fewer groups is refused (SCIENCE.md, "Dataset bias")."""


class RefusedError(Exception):
    """The data do not allow this number; the message says why."""


@dataclass(frozen=True, eq=False)
class Panel:
    """Every group in every trial. One trial: a row a group with an intercept (B); several: group and trial effects (W)."""

    y: np.ndarray
    """(groups, trials), without the effects."""
    x: np.ndarray
    """(groups, trials, terms), without the effects (Frisch, Waugh and Lovell)."""
    terms: tuple[str, ...]
    constant: tuple[str, ...] = ()
    """Regressors that do not vary beyond the effects, and so were left out: this changes no other coefficient."""
    groups: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    """Groups that lack something in some trial, and were left out so that all trials keep the same groups."""
    seeds: tuple[int, ...] = ()
    """Of each trial, for errors clustered by seed as well."""

    @property
    def n(self) -> int:
        """Rows."""
        return self.y.size


def without_effects(values: np.ndarray, within: bool) -> np.ndarray:
    """values: (groups, trials, ...). Takes out the mean over groups of each trial and, `within`, that of each group."""
    values = values - values.mean(axis=0)
    return values - values.mean(axis=1, keepdims=True) if within else values


def panel(y: np.ndarray, x: np.ndarray, terms: Sequence[str], within: bool, names: Sequence[str] = ()) -> Panel:
    """y: (groups, trials), x: (groups, trials, terms), nothing missing. Raises RefusedError for fewer than `LEAST_GROUPS`
    groups, an outcome or regressors without variation, rank deficiency, and fewer rows than parameters."""
    groups, trials = y.shape
    if groups < LEAST_GROUPS:
        raise RefusedError(f"{groups} groups have all that is needed; fewer than {LEAST_GROUPS} are refused")
    free_y, free_x = without_effects(y, within), without_effects(x, within)
    moving = [number for number in range(len(terms)) if _varies(free_x[..., number], x[..., number])]
    if not _varies(free_y, y):
        raise RefusedError("the outcome does not vary" + beyond(within))
    if not moving:
        raise RefusedError(" and ".join(terms) + " do not vary" + beyond(within))
    kept = tuple(terms[number] for number in moving)
    _full_rank(free_x[..., moving], kept, within)
    if y.size <= len(moving) + trials:
        raise RefusedError(f"{y.size} rows are too few for {len(moving) + trials} parameters")
    return Panel(free_y, free_x[..., moving], kept, tuple(t for t in terms if t not in kept), tuple(names))


def _full_rank(x: np.ndarray, terms: Sequence[str], within: bool) -> None:
    columns = x.reshape(-1, x.shape[-1])
    if np.linalg.svd(columns / np.linalg.norm(columns, axis=0), compute_uv=False).min() < 1e-6:
        raise RefusedError(f"rank deficient: {' and '.join(terms)} move together exactly" + beyond(within))


def _varies(residual: np.ndarray, raw: np.ndarray) -> bool:
    return bool(np.linalg.norm(residual) > 1e-9 * np.linalg.norm(raw))


def beyond(within: bool) -> str:
    """Beyond what something does not vary, in words."""
    return " within groups and trials" if within else " over groups"


def from_rows(rows: pd.DataFrame, terms: Sequence[str], within: bool) -> Panel:
    """rows: one a group and trial, columns group, y, `terms` and, `within`, trial and seed. Trials without one whole row go,
    then groups that lack something in a trial that is left. Raises RefusedError as `panel` does."""
    rows = rows.assign(trial="", seed=0) if not within else rows
    whole = rows.dropna(subset=["y", *terms])
    counts = whole.groupby("group", sort=False)["trial"].nunique()
    trials = whole["trial"].nunique()
    names = sorted(counts.index[counts == trials])
    kept = whole[whole["group"].isin(names)].sort_values(["group", "trial"], kind="stable")
    shape = (len(names), trials)
    y = kept["y"].to_numpy(float).reshape(shape)
    x = kept[list(terms)].to_numpy(float).reshape(*shape, len(terms))
    dropped = tuple(sorted(map(str, counts.index[counts < trials])))
    try:
        found = panel(y, x, terms, within, tuple(map(str, names)))
    except RefusedError as refusal:
        raise RefusedError(f"{refusal}{_without(dropped)}") from None
    seeds = tuple(kept["seed"].head(trials).astype(int))
    return Panel(found.y, found.x, found.terms, found.constant, found.groups, dropped, seeds)


def _without(dropped: Sequence[str]) -> str:
    return f" (without {', '.join(dropped)}, which some trials lack)" if dropped else ""


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
    """(groups, terms): the coefficients without each group."""

    @property
    def groups(self) -> int:
        """Clusters."""
        return len(self.panel.y)

    def weights(self, named: Mapping[str, float]) -> np.ndarray:
        """(terms,): a contrast's weight of each term."""
        return np.array([named.get(term, 0.0) for term in self.panel.terms])


def crv1_factor(groups: int, rows: int, parameters: int) -> float:
    """G/(G-1) (N-1)/(N-K); K leaves out group effects, which are nested in the clusters (Cameron and Miller 2015, III.B)."""
    return groups / (groups - 1) * (rows - 1) / (rows - parameters)


def fit(own: Panel) -> Fit:
    """statsmodels' OLS with errors clustered by group: CRV1, to be read with t of G - 1 degrees of freedom. With one row a
    group this is HC1."""
    groups, trials, terms = own.x.shape
    codes = np.repeat(np.arange(groups), trials)
    found = sm.OLS(own.y.ravel(), own.x.reshape(-1, terms)).fit(
        cov_type="cluster", cov_kwds={"groups": codes, "use_correction": False}, use_t=True
    )
    covariance = found.cov_params() * crv1_factor(groups, own.n, terms + trials)
    return Fit(own, found.params, found.resid.reshape(own.y.shape), covariance, leave_one_out(own))


def gram(x: np.ndarray) -> np.ndarray:
    """(groups, terms, terms): each group's cross products."""
    return np.asarray(np.einsum("gtp,gtq->gpq", x, x))


def leave_one_out(own: Panel) -> np.ndarray:
    """(groups, terms): coefficients of the regression, effects included, without each group. NaN where it is not identified.

    A trial's mean over the other groups moves by -x_g/(G-1), so that the group's cross products go with G/(G-1).
    """
    groups = len(own.y)
    grams, scores = gram(own.x), np.einsum("gtp,gt->gp", own.x, own.y)
    share = groups / (groups - 1)
    left = grams.sum(axis=0) - share * grams
    found = np.full(scores.shape, math.nan)
    size = np.sqrt(np.einsum("gpp->p", grams))
    fine = np.linalg.eigvalsh(left / size / size[:, None])[:, 0] > 1e-9
    found[fine] = np.linalg.solve(left[fine], (scores.sum(axis=0) - share * scores)[fine][..., None])[..., 0]
    return found
