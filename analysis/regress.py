"""The three estimands of SCIENCE.md, never mixed: A arm effects, B between groups, W displacement within groups.

Each takes the frame of `load.cells` and gives rows of one coefficients frame (`COLUMNS`), with a plain sentence or,
where the data do not allow a number, the reason. y is in the outcome's unit (`load.OUTCOMES`), x and z in SD of the
untouched model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.api as sm
from scipy import stats

from analysis.load import LEAST_MENTIONS, OUTCOMES, UNTOUCHED, Outcome, cells

COLUMNS = (
    "study", "outcome", "estimand", "term", "coefficient", "standard_error", "low", "high",
    "n", "clusters", "unit", "scale", "sentence", "reason",
)  # fmt: skip
"""low, high: 95 % interval; clusters: groups (B, W) or paired seeds (A); scale: raw units in one SD; reason: why a
number, or an interval, is missing."""

LEAST_GROUPS = 10
"""A regression on fewer groups is refused (SCIENCE.md, "Dataset bias")."""

CHANGE_WHAT_IS_LEARNED = ("reinitialise", "permute")
"""Upstream arms that reach y by other ways than x, and are left out of W."""

FLOOR, CEILING = 0.01, 0.99
"""A trial is saturated where all groups' rates lie at or beyond one of these (ours)."""

NO_UNTOUCHED = f"no finished untouched trial ({UNTOUCHED})"
NO_STANDARD = f"{NO_UNTOUCHED} to standardise by, or no spread over its groups"

HEADS = {
    "B": "Across {groups} groups of the untouched model",
    "W": "Within {groups} groups, over the arms' displacements",
}
STEPS = {
    "x": (0.1, "0.1 SD (= {raw:.3g} in raw units) higher upstream bias, at equal dataset bias,"),
    "z": (0.1, "0.1 SD (= {raw:.3g} on the logit scale) higher dataset bias, at equal upstream bias,"),
    "z_level": (0.1, "10 percentage points more dataset bias, at equal upstream bias,"),
    "z_log": (math.log(1.1), "10 % (relative) more dataset bias, at equal upstream bias,"),
}
"""Term -> the step that its sentence speaks of, in the term's unit."""


PER = {"z_level": "unit of share", "z_log": "log share"}
"""Term -> its unit, where that is not the SD."""


class RefusedError(Exception):
    """The data do not allow this regression; the message says why."""


@dataclass(frozen=True)
class Fit:
    """Ordinary least squares with errors clustered by group."""

    terms: tuple[str, ...]
    coefficients: np.ndarray
    """(terms,)"""
    covariance: np.ndarray
    """(terms, terms), CRV1."""
    n: int
    clusters: int
    constant: tuple[str, ...] = ()
    """Regressors that do not vary beyond the effects, and so were left out: this changes no other coefficient."""

    def along(self, weights: Mapping[str, float]) -> tuple[float, float]:
        """The weighted sum of coefficients and its standard error."""
        vector = np.array([weights.get(term, 0.0) for term in self.terms])
        return float(vector @ self.coefficients), math.sqrt(float(vector @ self.covariance @ vector))


def fit(rows: pd.DataFrame, terms: Sequence[str], effects: Sequence[str] = ()) -> Fit:
    """Regress column y on the columns `terms`, with an intercept or with the dummies of the columns `effects`, errors
    clustered by the column group: CRV1, to be read with t of G - 1 degrees of freedom.

    Effects are absorbed (Frisch-Waugh-Lovell). In CRV1's factor G/(G-1) (N-1)/(N-K), K leaves out group effects, which
    are nested in the clusters (Cameron and Miller 2015, III.B). Raises RefusedError for fewer than `LEAST_GROUPS`
    groups, an outcome or regressors without variation, and rank deficiency.
    """
    rows = rows.dropna(subset=["y", *terms])
    clusters = rows["group"].nunique()
    if clusters < LEAST_GROUPS:
        raise RefusedError(f"{clusters} groups have all that is needed; fewer than {LEAST_GROUPS} are refused")
    columns = {name: _absorb(rows[name].to_numpy(float), rows, effects) for name in ("y", *terms)}
    moving = tuple(term for term in terms if _varies(columns[term], rows[term]))
    if not _varies(columns["y"], rows["y"]):
        raise RefusedError("the outcome does not vary" + _beyond(effects))
    if not moving:
        raise RefusedError(" and ".join(terms) + " do not vary" + _beyond(effects))
    design = np.column_stack([columns[term] for term in moving])
    if np.linalg.svd(design / np.linalg.norm(design, axis=0), compute_uv=False).min() < 1e-6:
        raise RefusedError(f"rank deficient: {' and '.join(moving)} move together exactly" + _beyond(effects))
    counted = len(moving) + (rows["trial"].nunique() if "trial" in effects else 1)
    if len(rows) <= counted:
        raise RefusedError(f"{len(rows)} rows are too few for {counted} parameters")
    codes = pd.factorize(rows["group"])[0]
    by_group = {"groups": codes, "use_correction": False}
    found = sm.OLS(columns["y"], design).fit(cov_type="cluster", cov_kwds=by_group, use_t=True)
    factor = clusters / (clusters - 1) * (len(rows) - 1) / (len(rows) - counted)
    constant = tuple(term for term in terms if term not in moving)
    return Fit(moving, found.params, found.cov_params() * factor, len(rows), clusters, constant)


def _absorb(values: np.ndarray, rows: pd.DataFrame, effects: Sequence[str]) -> np.ndarray:
    """Take out the mean, or the effects by turns until nothing moves (one turn where every group is in every trial)."""
    codes = [pd.factorize(rows[name])[0] for name in effects] or [np.zeros(len(values), int)]
    still = 1e-13 * np.abs(values).max()
    for _ in range(10_000):
        before = values
        for code in codes:
            values = values - (np.bincount(code, values) / np.bincount(code))[code]
        if np.abs(values - before).max() <= still:
            return values
    raise RefusedError("the effects could not be taken out: groups and trials hardly overlap")


def _varies(residual: np.ndarray, raw: pd.Series) -> bool:
    return bool(np.linalg.norm(residual) > 1e-9 * np.linalg.norm(raw))


def _beyond(effects: Sequence[str]) -> str:
    return " within groups and trials" if effects else " over groups"


@dataclass(frozen=True)
class Context:
    """What the rows of one study and estimand share."""

    study: str
    estimand: str
    metric: str
    scales: Mapping[str, float] = field(default_factory=dict)
    """Term -> raw units in one SD."""

    @property
    def outcome(self) -> Outcome:
        """How the metric enters."""
        return OUTCOMES[self.metric]

    def row(self, term: str, **values: Any) -> dict[str, Any]:
        """A row of the coefficients frame; what is not given is missing."""
        empty = dict.fromkeys(("coefficient", "standard_error", "low", "high", "scale"), math.nan)
        fixed = {"study": self.study, "outcome": self.metric, "estimand": self.estimand, "term": term}
        return fixed | empty | {"n": 0, "clusters": 0, "unit": "", "sentence": "", "reason": ""} | values

    def change(self, *values: float) -> list[str]:
        """Differences of y in words: per cent where y is a log, else in its unit."""
        if self.outcome.logs:
            return [_percent(value) for value in values]
        return [f"{value:+.3g} {self.outcome.unit}" for value in values]

    @property
    def noun(self) -> str:
        """What follows such a difference."""
        return self.outcome.label if self.outcome.logs else f"of {self.outcome.label}"


def outcomes(
    table: pd.DataFrame, primary: Mapping[str, Mapping[str, str]], least: int = LEAST_MENTIONS
) -> list[pd.DataFrame]:
    """Cells on the primary outcome, and on the logit gap for studies with a saturated trial, if they measured it (said to be
    exploratory). Arguments as for `cells`."""
    own = cells(table, primary, least)
    blunt = table[table["study"].isin(set(saturation(own)["study"]))]
    if not (blunt["metric"] == "logit_gap").any():
        return [own]
    secondary = {task: {**stages, "downstream": "logit_gap"} for task, stages in primary.items()}
    return [own, cells(blunt, secondary, least)]


def estimate(cells: pd.DataFrame) -> pd.DataFrame:
    """All three estimands and the size of bias, of all studies: the coefficients frame."""
    return pd.concat([between(cells), displacement(cells), arm_effects(cells)], ignore_index=True)


def between(cells: pd.DataFrame) -> pd.DataFrame:
    """B: one row a group of the untouched model, means over seeds: mean y = a + beta x + gamma z. Associational."""
    columns = ["x", "z", "z_level", "z_log", "y"]
    rows = list[dict[str, Any]]()
    for context, own in _studies(cells, "B"):
        untouched = own[own["arm"] == UNTOUCHED]
        means = untouched[~untouched["thin"]].groupby("group")[columns].mean().reset_index()
        found = _regress(means, context)
        rows += found if len(untouched) else [context.row(row["term"], reason=NO_UNTOUCHED) for row in found]
    return _frame(rows)


def displacement(cells: pd.DataFrame) -> pd.DataFrame:
    """W: y = group effect + trial effect + beta x + gamma z, over the arms but `CHANGE_WHAT_IS_LEARNED`.

    Causal only if the arms reach y through x alone.
    """
    rows = list[dict[str, Any]]()
    for context, own in _studies(cells, "W"):
        kept = ~own["thin"] & ~own["upstream"].isin(CHANGE_WHAT_IS_LEARNED)
        rows += _regress(own[kept], context, effects=("group", "trial"))
    return _frame(rows)


def _studies(cells: pd.DataFrame, estimand: str) -> Iterable[tuple[Context, pd.DataFrame]]:
    for study, own in cells.groupby("study", sort=False):
        scales = {"x": float(own["x_scale"].iloc[0]), "z": float(own["z_scale"].iloc[0])}
        yield Context(str(study), estimand, str(own["outcome"].iloc[0]), scales), own


def _frame(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(COLUMNS))


def _regress(rows: pd.DataFrame, context: Context, effects: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The main fit on x and z per SD, then dataset bias as a level and as a log: the poster's "10 %" may be either."""
    scaled = {name: rows[name] / (scale if scale > 0 else 1.0) for name, scale in context.scales.items()}
    rows = rows.assign(**scaled)
    found = [
        *_fitted(rows, ("x", "z"), ("x", "z", "x - z"), context, effects),
        *_fitted(rows, ("x", "z_level"), ("z_level",), context, effects),
        *_fitted(rows, ("x", "z_log"), ("z_log",), context, effects),
    ]
    unscaled = {name for name, scale in context.scales.items() if not scale > 0}
    return [_withheld(row, context) if unscaled & set(row["term"].split(" - ")) else row for row in found]


def _withheld(row: dict[str, Any], context: Context) -> dict[str, Any]:
    return context.row(row["term"], reason=row["reason"] or NO_STANDARD)


def _fitted(
    rows: pd.DataFrame, terms: Sequence[str], shown: Sequence[str], context: Context, effects: Sequence[str]
) -> list[dict[str, Any]]:
    try:
        found = fit(rows, terms, effects)
    except RefusedError as refusal:
        return [context.row(term, reason=str(refusal)) for term in shown]
    return [_line(found, term, context, _beyond(effects)) for term in shown]


def _line(found: Fit, term: str, context: Context, beyond: str) -> dict[str, Any]:
    weights = {"x": 1.0, "z": -1.0} if term == "x - z" else {term: 1.0}
    lost = [name for name in weights if name in found.constant]
    if lost:
        reason = f"{' and '.join(lost)} does not vary{beyond}"
        return context.row(term, n=found.n, clusters=found.clusters, reason=reason)
    coefficient, error = found.along(weights)
    reach = error * float(stats.t.ppf(0.975, found.clusters - 1))
    values = (coefficient, coefficient - reach, coefficient + reach)
    return context.row(
        term,
        coefficient=coefficient,
        standard_error=error,
        low=values[1],
        high=values[2],
        n=found.n,
        clusters=found.clusters,
        unit=f"{context.outcome.unit} per {PER.get(term, 'SD')}",
        scale=context.scales.get(term, math.nan),
        sentence=_sentence(term, values, found.clusters, context),
    )


def _percent(difference: float) -> str:
    """A difference of logs as per cent; beyond a tenfold, where per cent lose their meaning, as a factor."""
    if difference > math.log(10):
        return f"a factor of {math.exp(difference):.2g}"
    percent = 100 * math.expm1(difference)
    return f"{percent:+.1f} %" if abs(percent) >= 1 else f"{percent:+.2f} %"


def _sentence(term: str, values: Sequence[float], groups: int, context: Context) -> str:
    head = HEADS[context.estimand].format(groups=groups)
    if term == "x - z":
        middle, low, high = (f"{value:+.3g}" for value in values)
        what = f"the coefficient of upstream less that of dataset bias is {middle} per SD"
    else:
        step, words = STEPS[term]
        middle, low, high = context.change(*(step * value for value in values))
        what = f"{words.format(raw=step * context.scales.get(term, 1.0))} goes with {middle} {context.noun}"
    return f"{head}, {what} (95 % interval {low} to {high})."


def arm_effects(cells: pd.DataFrame) -> pd.DataFrame:
    """A: y(group, arm, seed) - y(group, untouched, seed), mean over groups and seeds, with an interval from the paired
    seeds' means (t); and for each arm the size of its bias, the noise-free SD of y over groups (`size_of_bias`).

    All groups with an outcome count, thin ones too: no dataset bias enters.
    """
    rows = list[dict[str, Any]]()
    for context, own in _studies(cells, "A"):
        arms = {str(arm): _wide(rows_of) for arm, rows_of in own.groupby("arm", sort=False)}
        untouched = arms.get(UNTOUCHED)
        rows += [_effect(y, untouched, arm, context) for arm, y in arms.items() if arm != UNTOUCHED]
        size = Context(context.study, "size", context.metric)
        rows += [_size(y, arm, size) for arm, y in arms.items()]
    return _frame(rows)


def _wide(rows: pd.DataFrame) -> pd.DataFrame:
    """y as (groups, seeds)."""
    return rows.pivot(index="group", columns="seed", values="y")  # noqa: PD010 (a doubled trial must raise)


def _effect(y: pd.DataFrame, untouched: pd.DataFrame | None, arm: str, context: Context) -> dict[str, Any]:
    if untouched is None or not (seeds := [seed for seed in y.columns if seed in untouched.columns]):
        return context.row(arm, reason=f"no seed that {UNTOUCHED} has as well")
    change = (y[seeds] - untouched[seeds]).dropna()
    if change.empty:
        return context.row(arm, reason="no group has an outcome in all seeds")
    means = change.to_numpy(float).mean(axis=0)
    mean, error = float(means.mean()), float(means.std(ddof=1)) / math.sqrt(len(seeds)) if len(seeds) > 1 else math.nan
    reach = error * float(stats.t.ppf(0.975, max(len(seeds) - 1, 1)))
    return context.row(
        arm,
        coefficient=mean,
        standard_error=error,
        low=mean - reach,
        high=mean + reach,
        n=change.size,
        clusters=len(seeds),
        unit=context.outcome.unit,
        sentence=_effect_sentence(arm, (mean, mean - reach, mean + reach), change.shape, context),
        reason="" if len(seeds) > 1 else "one seed gives no interval",
    )


def _effect_sentence(arm: str, values: Sequence[float], shape: tuple[int, ...], context: Context) -> str:
    middle, low, high = context.change(*values)
    interval = f"95 % interval {low} to {high}" if shape[1] > 1 else "one seed: no interval"
    over = f"{shape[0]} groups and {shape[1]} paired seed{'s' if shape[1] > 1 else ''}"
    return f"{arm} changed {context.outcome.label} by {middle} on average over {over} ({interval})."


def _size(y: pd.DataFrame, arm: str, context: Context) -> dict[str, Any]:
    value, groups = size_of_bias(y.to_numpy())
    seeds = y.shape[1]
    unit = f"SD of {context.outcome.unit} over groups"
    reason = "no interval yet" if seeds > 1 else "one seed: noise and bias cannot be told apart"
    return context.row(arm, coefficient=value, n=groups * seeds, clusters=seeds, unit=unit, reason=reason)


def size_of_bias(y: np.ndarray) -> tuple[float, int]:
    """y: (groups, seeds). The square root of the mean over groups and pairs of different seeds of y(g,s) y(g,s'), y
    centred over groups, floored at 0 (SCIENCE.md, "Downstream bias"); and the number of groups. NaN for one seed.

    Noise that seeds do not share drops out of the products; a mean |y| would rise with it.
    """
    whole = y[~np.isnan(y).any(axis=1)]
    groups, seeds = whole.shape
    if seeds < 2 or groups < 2:
        return math.nan, groups
    centred = whole - whole.mean(axis=0)
    products = (centred.sum(axis=1) ** 2 - (centred**2).sum(axis=1)) / (seeds * (seeds - 1))
    return math.sqrt(max(0.0, float(products.mean()))), groups


def saturation(cells: pd.DataFrame) -> pd.DataFrame:
    """study, arm, lowest, highest, saturated, trials: arms with trials in which all groups' rates lie at the floor or at
    the ceiling, how many of the arm's trials these are, and the rates' range in them."""
    rates = cells[cells["outcome"].map(lambda name: OUTCOMES[name].rate)]
    key = ["study", "arm"]
    ends = rates.groupby([*key, "trial"], sort=False)["y_rate"].agg(lowest="min", highest="max").reset_index()
    ends["trials"] = ends.groupby(key)["trial"].transform("size")
    blunt = ends[(ends["highest"] <= FLOOR) | (ends["lowest"] >= CEILING)].assign(saturated=1)
    how = {"lowest": "min", "highest": "max", "saturated": "sum", "trials": "first"}
    return blunt.groupby(key, sort=False).agg(how).reset_index()
