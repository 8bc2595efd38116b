"""Estimands B and W: slopes of downstream bias on upstream and dataset bias (docs/science.md).

B, between groups of the untouched model, is associational. W, displacement within groups over the arms, is causal only if the
arms reach y through x alone. They are never mixed with each other, nor with A (`arm_effects`). Each takes `cells.cells` and
returns rows of the coefficients frame (`rows.COLUMNS`), with a reason where the data do not permit a number. y is in the
outcome's unit (`cells.outcome_named`), x and z in SD of the untouched model.

The slope on x is that on the *measured* mean over templates. The noise of single templates pulls it towards 0; the slope on
what the templates measure is estimated by `template_sensitivity.corrected`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.data.cells import by_group, cells
from analysis.data.names import COVARIATES
from analysis.data.runs import UNTOUCHED
from analysis.estimands.arm_effects import arm_effects
from analysis.estimands.bias_size import sizes
from analysis.estimands.rows import UNIT_PER, RowContext, frame, regressor, saturation, studies, unlogged
from analysis.stats.inference import infer, method
from analysis.stats.regression import Fit, RefusedError, beyond, fit, from_rows, identified
from analysis.stats.wild_bootstrap import DRAWS
from bias_transfer.spec import LEAST_MENTIONS

CHANGE_WHAT_IS_LEARNED = ("reinitialise", "permute")
"""Upstream arms that reach y by other paths than x, and are left out of W."""

NO_UNTOUCHED = f"no finished untouched trial ({UNTOUCHED})"
ONE_ARM = "a single arm displaces nothing"
NO_STANDARD = f"{NO_UNTOUCHED} to standardise by, or no spread over its groups"

PLAIN = "plain"
"""B's fit without the covariates of the groups' names, next to the main fit that has them: terms `x | plain` and so on."""

TERMS_OF_FIT: dict[tuple[str, ...], tuple[str, ...]] = {
    ("x", "z"): ("x", "z", "x - z"),
    ("x", "z_level"): ("z_level",),
    ("x", "z_log"): ("z_log",),
}
"""Regressors of a fit -> the terms that are reported from it.

The main fit comes first, then dataset bias as a level and as a log, since the poster's "10 %" may be either.
"""
WITHOUT_Z: dict[tuple[str, ...], tuple[str, ...]] = {("x",): ("x",)}
"""The same where the fine-tuning set mentions no group, so that there is no dataset bias."""


def outcomes(
    table: pd.DataFrame,
    primary: Mapping[str, Mapping[str, str]],
    least: int = LEAST_MENTIONS,
    covariates: Sequence[str] | None = None,
) -> list[pd.DataFrame]:
    """The cells of the primary outcome and, for studies with a saturated trial or without any value of a logarithm
    (`rows.unlogged`), those of the logit gap, where it was measured.

    The latter are exploratory. Arguments as for `cells.cells`.
    """
    first = cells(table, primary, least, covariates)
    silent = table[table["study"].isin({*saturation(first)["study"], *unlogged(first)})]
    if not (silent["metric"] == "logit_gap").any():
        return [first]
    secondary = {task: {**stages, "downstream": "logit_gap"} for task, stages in primary.items()}
    return [first, cells(silent, secondary, least, covariates)]


def estimate(cells: pd.DataFrame, draws: int = DRAWS, two_way: bool = False) -> pd.DataFrame:
    """The coefficients frame: estimands A, B and W and the size of bias, for all studies."""
    frames = between(cells, draws), displacement(cells, draws, two_way), arm_effects(cells, draws), sizes(cells)
    return pd.concat([rows for rows in frames if len(rows)] or frames[:1], ignore_index=True)


def between(cells: pd.DataFrame, draws: int = DRAWS) -> pd.DataFrame:
    """Estimand B: mean y = a + beta x + gamma z + delta n, over groups of the untouched model, each a mean over seeds.

    n are the covariates of the groups' names: names of two words, say, stand out in x and in y for that alone, and what another
    model learned "goes with" this one's y (`placebo`). The fit without them stands next to it (`PLAIN`). Associational.

    With one row per group CRV1 is HC1: robust to errors that differ in size.
    """
    rows = list[dict[str, Any]]()
    for context, of_study in studies(cells, "B"):
        fitted = _regress(group_means(of_study), context, False, draws)
        untouched = (of_study["arm"] == UNTOUCHED).any()
        rows += fitted if untouched else [context.row(row["term"], reason=NO_UNTOUCHED) for row in fitted]
    return frame(rows)


def displacement(cells: pd.DataFrame, draws: int = DRAWS, two_way: bool = False) -> pd.DataFrame:
    """Estimand W: y = group effect + trial effect + beta x + gamma z, over all arms except `CHANGE_WHAT_IS_LEARNED`.

    Causal only if the arms reach y through x alone. two_way: also give standard errors clustered by group and seed
    (exploratory, since few seeds make few clusters).
    """
    rows = list[dict[str, Any]]()
    for context, of_study in studies(cells, "W"):
        moved, unseen = displaced(of_study), without_z(of_study)
        fitted = _regress(moved, context, True, draws, two_way)
        several = len(set(moved["arm"])) > 1
        fitted = fitted if several else [context.row(row["term"], reason=ONE_ARM) for row in fitted]
        note = f"without {', '.join(unseen)}, whose texts show no dataset bias" if unseen else ""
        rows += [row | {"reason": "; ".join(filter(None, [row["reason"], note]))} for row in fitted]
    return frame(rows)


def without_z(cells: pd.DataFrame) -> list[str]:
    """One study's arms that have no z in any group, where others do: W leaves them out."""
    has_z = cells["z"].notna().groupby(cells["arm"], sort=False).any()
    return [str(arm) for arm in has_z.index[~has_z]] if has_z.any() else []


def group_means(cells: pd.DataFrame) -> pd.DataFrame:
    """One study's rows for B, without thin groups: group, x, z, z_level, z_log, y and the covariates of the untouched arm.

    Means over the seeds of a model first, then over models. A group that lacks a value in one seed is missing in all, so that
    all groups have the same seeds.
    """
    used = cells[(cells["arm"] == UNTOUCHED) & ~cells["thin"]]
    columns = ["x", "z", "z_level", "z_log", "y", *recorded(cells)]
    means = by_group(used, columns)
    return means.mask(used[columns].isna().groupby(used["group"]).any()).reset_index()


def wanted(cells: pd.DataFrame) -> list[str]:
    """The covariates of the groups' names that B of one study is to have."""
    return [name for name in str(cells["covariates"].iloc[0]).split(", ") if name]


def recorded(cells: pd.DataFrame) -> list[str]:
    """Those of them that have values."""
    return [name for name in wanted(cells) if cells[name].notna().any()]


def displaced(cells: pd.DataFrame) -> pd.DataFrame:
    """One study's rows for W: without thin groups, the arms that change what is learned, and those without z.

    Where there are several models (pre-training seeds), each arm's trials on a model are averaged first, so that the number of
    its seeds is no weight; trial and seed then name the arm on that model, and the model.
    """
    left_out = cells["thin"] | cells["upstream"].isin(CHANGE_WHAT_IS_LEARNED) | cells["arm"].isin(without_z(cells))
    used = cells[~left_out]
    if used["replicate"].nunique() < 2:
        return used
    key, columns = ["arm", "replicate", "group"], ["x", "z", "z_level", "z_log", "y"]
    means = used.groupby(key, sort=False)[columns].mean()
    complete = means.mask(used[columns].isna().groupby([used[name] for name in key], sort=False).any()).reset_index()
    return complete.assign(trial=complete["arm"] + " " + complete["replicate"].astype(str), seed=complete["replicate"])


def standardised(rows: pd.DataFrame, context: RowContext) -> pd.DataFrame:
    """The rows with x and z in SD of the untouched model (raw where that SD is 0 or unknown)."""
    return rows.assign(**{name: rows[name] / (scale if scale > 0 else 1.0) for name, scale in context.scales.items()})


def _fits(rows: pd.DataFrame, within: bool) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Regressors of each fit -> the terms that are reported from it, the main fit first."""
    main = main_terms(rows)
    fits = WITHOUT_Z if main == ("x",) else TERMS_OF_FIT
    names = () if within else held_fixed(rows)
    if not names:
        return fits
    plain = {main: tuple(f"{term} | {PLAIN}" for term in fits[main])}
    return {(*regressors, *names): terms for regressors, terms in fits.items()} | plain


def main_terms(rows: pd.DataFrame) -> tuple[str, ...]:
    """The regressors that the main fit is about: x and z, or x alone where z is missing in all rows."""
    return ("x",) if len(rows) and rows["z"].isna().all() else ("x", "z")


def held_fixed(rows: pd.DataFrame) -> tuple[str, ...]:
    """The covariates of the groups' names that B's main fit has: those that vary and do not follow from the ones before.

    rows: of `group_means`. A covariate that sets only one group apart counts as constant (`regression.identified`).
    """
    names = [name for name in COVARIATES if name in rows]
    complete = rows.dropna(subset=["y", *main_terms(rows), *names])
    included = list[str]()
    for name in names:
        if identified(complete[[*included, name]].to_numpy(float)):
            included.append(name)
    return tuple(included)


def between_terms(rows: pd.DataFrame) -> tuple[str, ...]:
    """The regressors of B's main fit."""
    return (*main_terms(rows), *held_fixed(rows))


def _regress(
    rows: pd.DataFrame, context: RowContext, within: bool, draws: int, two_way: bool = False
) -> list[dict[str, Any]]:
    rows = standardised(rows, context)
    fitted = [
        row
        for regressors, terms in _fits(rows, within).items()
        for row in _fitted(rows, regressors, terms, context, within, draws, two_way)
    ]
    # a coefficient per SD has no meaning where there is no SD
    unscaled = {name for name, scale in context.scales.items() if not scale > 0}
    return [
        context.row(row["term"], reason=row["reason"] or NO_STANDARD)
        if unscaled & contrast_of(row["term"]).keys()
        else row
        for row in fitted
    ]


def _fitted(
    rows: pd.DataFrame,
    regressors: Sequence[str],
    terms: Sequence[str],
    context: RowContext,
    within: bool,
    draws: int,
    two_way: bool,
) -> list[dict[str, Any]]:
    try:
        fitted = fit(from_rows(rows, regressors, within))
    except RefusedError as refusal:
        return [context.row(term, reason=str(refusal)) for term in terms]
    return [
        _coefficient(fitted, term, context, within, draws, two_way)
        | {"adjusted_for": ", ".join(name for name in regressors if name not in contrast_of(term))}
        for term in terms
    ]


def contrast_of(term: str) -> dict[str, float]:
    """A reported term as a contrast, regressor -> weight: `x - z` is a difference, `x | plain` is x alone."""
    first, _, second = regressor(term).partition(" - ")
    return {first: 1.0, second: -1.0} if second else {first: 1.0}


def _coefficient(
    fitted: Fit, term: str, context: RowContext, within: bool, draws: int, two_way: bool
) -> dict[str, Any]:
    weights, size = contrast_of(term), {"n": fitted.panel.n, "clusters": fitted.groups, "n_groups": fitted.groups}
    if constant := [name for name in weights if name in fitted.panel.constant]:
        return context.row(term, **size, reason=f"{' and '.join(constant)} does not vary{beyond(within)}")
    values: dict[str, Any] = {"coefficient": float(fitted.weights(weights) @ fitted.coefficients)}
    dropped = fitted.panel.dropped
    reason = f"left out: {', '.join(dropped)} (missing in some trial)" if dropped else ""
    try:
        values = infer(fitted, weights, draws, two_way=two_way).columns | {"method": method(fitted.groups, draws)}
    except RefusedError as refusal:
        reason = "; ".join(filter(None, [str(refusal), reason]))
    unit = f"{context.outcome.unit} per {UNIT_PER.get(term, 'SD')}"
    return context.row(
        term, **values, **size, unit=unit, scale=context.scales.get(regressor(term), math.nan), reason=reason
    )
