"""What the choice of upstream templates does to B: a fit for each, the poster's own way, and a correction for their noise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.api as sm

from analysis.stats.inference import infer
from analysis.estimands.caveats import RELIABLE
from analysis.estimands.caveats import reliability
from analysis.data.runs import UNTOUCHED
from analysis.stats.regression import LEAST_GROUPS
from analysis.stats.regression import RefusedError
from analysis.stats.regression import fit
from analysis.stats.regression import from_rows
from analysis.stats.regression import panel
from analysis.stats.quantiles import t_quantile
from analysis.estimands.slopes import group_means
from analysis.estimands.slopes import main_terms
from analysis.estimands.slopes import standardised
from analysis.estimands.sentences import Context
from analysis.estimands.sentences import frame
from analysis.estimands.sentences import studies
from analysis.stats.wild_bootstrap import DRAWS

REPLICA_WRONG = (
    "Poster replica, not to be relied on: y is repeated for every upstream template, so that rows are counted that hold no new "
    "outcome (errors too small), and the noise of single templates pulls the slope towards 0."
)
CORRECTED = "B, corrected for templates"


def scores(table: pd.DataFrame, study: str, metric: str) -> pd.DataFrame:
    """(groups, templates): upstream scores of the untouched arm, means over seeds, raw units; complete templates only by
    group, columns without a name are the pooled score and left out."""
    own = table[(table["study"] == study) & (table["stage"] == "upstream") & (table["metric"] == metric)]
    own = own[(own["arm"] == UNTOUCHED) & (own["group"] != "") & (own["template"] != "")]
    return own.pivot_table(index="group", columns="template", values="value", sort=False)


def _parts(table: pd.DataFrame, cells: pd.DataFrame, estimand: str) -> list[tuple[Context, pd.DataFrame, pd.DataFrame]]:
    """Each study's context, its rows for B (x and z per SD), and its groups' scores by template in the same SD."""
    parts = []
    for context, own in studies(cells, estimand):
        by_template = scores(table, context.study, str(own["x_metric"].iloc[0]))
        scale = context.scales["x"]
        parts.append((context, standardised(group_means(own), context), by_template / (scale if scale > 0 else 1.0)))
    return parts


PER_TEMPLATE_COLUMNS = ("study", "outcome", "estimand", "template", "coefficient", "low", "high", "p", "n", "reason")


def per_template(table: pd.DataFrame, cells: pd.DataFrame, draws: int = DRAWS) -> pd.DataFrame:
    """B's coefficient of x from each upstream template alone, a row a template of `PER_TEMPLATE_COLUMNS`; x in the same SD as
    everywhere, that of the mean over templates. table: `load.Runs.table`, cells: of the same table."""
    rows = list[dict[str, Any]]()
    for context, means, by_template in _parts(table, cells, "B"):
        for template in by_template.columns:
            one = means.assign(x=means["group"].map(by_template[template]))
            named = {"study": context.study, "outcome": context.metric, "estimand": "B", "template": template}
            rows.append(named | _slope(one, draws))
    return frame(rows, PER_TEMPLATE_COLUMNS)


def _slope(rows: pd.DataFrame, draws: int) -> dict[str, Any]:
    try:
        found = fit(from_rows(rows, main_terms(rows), within=False))
        if "x" in found.panel.constant:
            raise RefusedError("x does not vary over groups")
        own = infer(found, {"x": 1.0}, draws)
    except RefusedError as refusal:
        return {"n": 0, "reason": str(refusal)}
    return {
        "coefficient": own.coefficient,
        "low": own.low,
        "high": own.high,
        "p": own.p,
        "n": found.panel.n,
        "reason": "",
    }


def template_range(fits: pd.DataFrame) -> pd.DataFrame:
    """fits: of `per_template`. study, outcome, templates, lowest, highest, sentence."""
    rows = list[dict[str, Any]]()
    for (study, outcome), own in fits.dropna(subset=["coefficient"]).groupby(["study", "outcome"], sort=False):
        low, high = float(own["coefficient"].min()), float(own["coefficient"].max())
        found = int(((own["low"] > 0) | (own["high"] < 0)).sum())
        sentence = (
            f"With one upstream template at a time, the coefficient of x goes from {low:+.3g} to {high:+.3g} over {len(own)} "
            f"templates; the interval of {found} of them leaves out 0."
        )
        named = {"study": study, "outcome": outcome, "templates": len(own)}
        rows.append(named | {"lowest": low, "highest": high, "sentence": sentence})
    return frame(rows, ("study", "outcome", "templates", "lowest", "highest", "sentence"))


def poster_replica(table: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """The regression as the poster seems to have run it: a row a group and upstream template, y repeated, template dummies,
    ordinary errors. Terms x and z of `sentences.COLUMNS`, estimand "poster replica"; the sentence says what is wrong."""
    rows = list[dict[str, Any]]()
    for context, means, by_template in _parts(table, cells, "poster replica"):
        kept = means.dropna(subset=["y", "z"]).set_index("group")
        shared = by_template.dropna().index.intersection(kept.index)
        z = kept.loc[shared, "z"].to_numpy(float)
        rows += _replica(kept.loc[shared, "y"].to_numpy(float), z, by_template.loc[shared].to_numpy(float), context)
    return frame(rows)


def repeated(y: np.ndarray, z: np.ndarray, by_template: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """y, z: (groups,), by_template: (groups, templates). Coefficients of x and z, their ordinary standard errors, and degrees
    of freedom. Raises RefusedError as `panel.panel`."""
    templates = by_template.shape[1]
    x = np.stack([by_template, np.repeat(z[:, None], templates, axis=1)], axis=-1)
    own = panel(np.repeat(y[:, None], templates, axis=1), x, ("x", "z"), within=False)
    if own.constant:
        raise RefusedError(f"{own.constant[0]} does not vary over groups")
    fitted = sm.OLS(own.y.ravel(), own.x.reshape(-1, 2)).fit()
    freedom = own.n - 2 - templates
    return fitted.params, fitted.bse * math.sqrt((own.n - 2) / freedom), freedom


def _replica(y: np.ndarray, z: np.ndarray, by_template: np.ndarray, context: Context) -> list[dict[str, Any]]:
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
            scale=context.scales[term], sentence=f"{REPLICA_WRONG} Its coefficient of {term} is {value:+.3g} per SD.",
        )
        for term, value, error in zip(("x", "z"), values, errors, strict=True)
    ]  # fmt: skip


def corrected(table: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """B's coefficient of x were it measured without the noise of templates (exploratory): the moments of x less the variance
    of its mean over templates, estimated from their disagreement (Fuller 1987, eq. 2.2.12). Term "x" of `sentences.COLUMNS`,
    estimand "B, corrected for templates"; per SD of the measured mean; interval by leaving out each group (t).

    It takes templates for a random draw of all that could have been written, and their noise for independent over groups.
    """
    rows = list[dict[str, Any]]()
    for context, means, by_template in _parts(table, cells, CORRECTED):
        kept = means.dropna(subset=["y", "z"]).set_index("group")
        shared = by_template.dropna().index.intersection(kept.index)
        y, z = (kept.loc[shared, name].to_numpy(float) for name in ("y", "z"))
        rows.append(_corrected(y, z, by_template.loc[shared].to_numpy(float), context))
    return frame(rows)


def _corrected(y: np.ndarray, z: np.ndarray, by_template: np.ndarray, context: Context) -> dict[str, Any]:
    groups, templates = by_template.shape
    if groups < LEAST_GROUPS or templates < 2:
        return context.row(
            "x", reason=f"{groups} groups and {templates} templates: it takes {LEAST_GROUPS} and 2 or more"
        )
    if np.ptp(z) <= 1e-9 * np.abs(z).max() or np.ptp(by_template.mean(axis=1)) == 0:
        return context.row("x", reason="x or z does not vary over groups: only a fit with both is corrected")
    value, error = errors_in_variables(y, z, by_template)
    alpha = reliability(pd.DataFrame(by_template))
    if not alpha >= RELIABLE or not math.isfinite(error):
        return context.row("x", n=groups, reason=f"the reliability of x is {alpha:.2f}: too low to be corrected for")
    wide, narrow = (error * t_quantile(level, groups - 1) for level in (0.975, 0.95))
    return context.row(
        "x", coefficient=value, standard_error=error, low=value - wide, high=value + wide, low_90=value - narrow,
        high_90=value + narrow, n=groups, clusters=groups, unit=f"{context.outcome.unit} per SD", scale=context.scales["x"],
        method="errors in variables, jackknife over groups",
    )  # fmt: skip


def errors_in_variables(y: np.ndarray, z: np.ndarray, by_template: np.ndarray) -> tuple[float, float]:
    """y, z: (groups,), by_template: (groups, templates). Corrected slope of x and its jackknife error over groups."""
    groups = len(y)
    others = ~np.eye(groups, dtype=bool)
    kept = np.vstack([np.ones(groups), others])  # (1 + groups, groups): everyone, then all but one
    whole, *left = _moments(kept, y, z, by_template)
    return float(whole), math.sqrt((groups - 1) / groups * float(((np.array(left) - whole) ** 2).sum()))


def _moments(kept: np.ndarray, y: np.ndarray, z: np.ndarray, by_template: np.ndarray) -> np.ndarray:
    """kept: (subsets, groups), 1 for a group of the subset. (subsets,): the corrected slope of x in each."""
    counts, templates = kept.sum(axis=1), by_template.shape[1]
    columns = np.column_stack([by_template.mean(axis=1), z, y, by_template])
    centred = columns - columns.mean(axis=0)  # moments are taken about it, for precision
    means = kept @ centred / counts[:, None]
    crossed = np.einsum("sg,gp,gq->spq", kept, centred[:, :3], centred[:, :3], optimize=True)
    crossed = crossed - counts[:, None, None] * means[:, :3, None] * means[:, None, :3]
    off = centred[:, 3:] - centred[:, :1]
    drift = means[:, 3:] - means[:, :1]
    spread = (kept @ (off**2) - counts[:, None] * drift**2).sum(axis=1)
    noise = spread / (templates - 1) / templates  # (groups - 1) times the variance of a mean over templates
    moments = crossed[:, :2, :2] - noise[:, None, None] * np.diag([1.0, 0.0])
    return np.asarray(np.linalg.solve(moments, crossed[:, :2, 2:])[:, 0, 0])
