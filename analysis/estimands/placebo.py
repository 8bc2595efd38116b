"""The placebo of estimand B: each model's downstream bias regressed on what *other* models learned.

Models that differ in their pre-training seed alone read the same text. What one of them happened to learn beyond it cannot have
reached another's classifier, so a slope on it shows what groups share in all models: properties of their names, or what the
text says of them. B is evidence that a model's associations transfer only as far as it exceeds its placebo.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from analysis.data.runs import UNTOUCHED
from analysis.estimands.rows import RowContext, frame, studies
from analysis.estimands.slopes import between_terms, group_means
from analysis.stats.dyads import LEAST_UNITS, dyadic
from analysis.stats.inference import t_quantile
from analysis.stats.regression import RefusedError, fit, from_rows

PLACEBO = "placebo"
"""Its name in the column `estimand`."""

OTHERS, OWN = "x | other models", "x | own model"

ONE_MODEL = (
    "there is one pre-trained model, and a placebo takes several pre-training seeds; B shows what is associated with what this "
    "model has, and is never evidence of why the model has it"
)
TWO_MODELS = "two models give no interval"


def placebo(cells: pd.DataFrame) -> pd.DataFrame:
    """B of each model's y on the other models' x, and next to it on its own: two rows per study, `rows.COLUMNS`.

    Both are means over models of B's main fit, per SD over groups of the x that is regressed on. The placebo's interval is a
    jackknife that deletes a model in both roles (`dyads`), since the pairs share models; that of the own slopes is t over
    models. Groups are fixed. n: slopes; clusters: models.
    """
    rows = list[dict[str, Any]]()
    for context, of_study in studies(cells, PLACEBO):
        untouched = of_study[of_study["arm"] == UNTOUCHED]
        models = [group_means(of_model) for _, of_model in untouched.groupby("replicate")]
        if len(models) < 2:
            rows.append(context.row(OTHERS, reason=ONE_MODEL))
            continue
        rows += _rows(pairs([_scaled(model) for model in models]), context)
    return frame(rows)


def pairs(models: list[pd.DataFrame]) -> np.ndarray:
    """(models, models): the slope of the row's y on the column's x, in B's main fit; NaN where it is refused.

    models: one frame per model as `slopes.group_means` returns it.
    """
    xs = [model.set_index("group")["x"] for model in models]
    return np.array([[_slope(model.assign(x=model["group"].map(x))) for x in xs] for model in models])


def _scaled(model: pd.DataFrame) -> pd.DataFrame:
    """x in SD over the groups of the regression."""
    used = model.dropna(subset=["x", "y"] if model["z"].isna().all() else ["x", "y", "z"])
    return model.assign(x=model["x"] / used["x"].std())


def _slope(rows: pd.DataFrame) -> float:
    try:
        fitted = fit(from_rows(rows, between_terms(rows), within=False))
    except RefusedError:
        return math.nan
    return math.nan if "x" in fitted.panel.constant else float(fitted.weights({"x": 1.0}) @ fitted.coefficients)


def _rows(slopes: np.ndarray, context: RowContext) -> list[dict[str, Any]]:
    others, own = dyadic(slopes), np.diag(slopes)[~np.isnan(np.diag(slopes))]
    unit = f"{context.outcome.unit} per SD"
    if not others.pairs:
        return [context.row(OTHERS, reason="B is refused in every model")]
    found = context.row(
        OTHERS, coefficient=others.mean, standard_error=others.error, low=others.low, high=others.high, low_90=others.low_90,
        high_90=others.high_90, p=others.p, n=others.pairs, clusters=others.units, unit=unit,
        method="jackknife over models, in both roles", reason=TWO_MODELS if others.units < LEAST_UNITS else "",
    )  # fmt: skip
    if len(own) < 2:
        return [found]
    error = float(own.std(ddof=1)) / math.sqrt(len(own))
    reach = t_quantile(0.975, len(own) - 1) * error
    mean = float(own.mean())
    return [
        found,
        context.row(
            OWN, coefficient=mean, standard_error=error, low=mean - reach, high=mean + reach, n=len(own), clusters=len(own),
            unit=unit, method="t over models",
        ),
    ]  # fmt: skip
