"""How much B and W rest on single groups, and how far x and z move together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.stats.regression import Fit
from analysis.stats.regression import RefusedError
from analysis.stats.regression import fit
from analysis.stats.regression import from_rows
from analysis.estimands.slopes import ONE_ARM
from analysis.estimands.slopes import displaced
from analysis.estimands.slopes import group_means
from analysis.estimands.slopes import main_terms
from analysis.estimands.slopes import standardised
from analysis.estimands.sentences import Context
from analysis.estimands.sentences import frame
from analysis.estimands.sentences import studies

INFLUENCE_COLUMNS = (
    "study", "outcome", "estimand", "term", "coefficient", "group", "without", "change", "lowest", "highest", "sentence",
    "reason",
)  # fmt: skip


def _fits(cells: pd.DataFrame) -> Iterator[tuple[Context, Fit | str]]:
    """The main fit of B and of W for each study, or why there is none."""
    for estimand in ("B", "W"):
        for context, own in studies(cells, estimand):
            rows = group_means(own) if estimand == "B" else displaced(own)
            if estimand == "W" and len(set(rows["arm"])) < 2:
                yield context, ONE_ARM
                continue
            try:
                yield context, fit(from_rows(standardised(rows, context), main_terms(rows), estimand == "W"))
            except RefusedError as refusal:
                yield context, str(refusal)


def influence(cells: pd.DataFrame) -> pd.DataFrame:
    """Leave one group out: the largest change of each coefficient, whose it is, the coefficient without that group, and the
    range over all; per SD of the untouched model, a row a study, estimand and term of `INFLUENCE_COLUMNS`."""
    rows = list[dict[str, Any]]()
    for context, found in _fits(cells):
        named = {"study": context.study, "outcome": context.metric, "estimand": context.estimand}
        if isinstance(found, str):
            rows.append(named | {"term": "", "sentence": "", "reason": found})
            continue
        for number, term in enumerate(found.panel.terms):
            largest = _largest(found, number)
            told = f"{context.estimand}: {largest['sentence']}"
            rows.append(named | {"term": term} | largest | {"sentence": told})
    return frame(rows, INFLUENCE_COLUMNS)


def _largest(found: Fit, number: int) -> dict[str, Any]:
    whole, left = float(found.coefficients[number]), found.left_out[:, number]
    unknown = np.isnan(left)
    group = int(np.flatnonzero(unknown)[0] if unknown.any() else np.abs(left - whole).argmax())
    name, without = found.panel.groups[group], float(left[group])
    told = f"the coefficient of {found.panel.terms[number]} is {whole:+.3g}"
    if unknown.any():
        return {"coefficient": whole, "group": name, "sentence": f"{told} and rests on {name} alone.", "reason": ""}
    values = {"coefficient": whole, "group": name, "without": without, "change": without - whole}
    ends = {"lowest": float(left.min()), "highest": float(left.max())}
    sentence = f"{told}; without {name}, which matters most, it is {without:+.3g} (range over all {len(left)} groups "
    return {**values, **ends, "sentence": f"{sentence}{ends['lowest']:+.3g} to {ends['highest']:+.3g}).", "reason": ""}


def inflation(cells: pd.DataFrame) -> pd.DataFrame:
    """study, outcome, estimand, correlation (of x and z, beyond the effects), inflation (1/(1 - r^2)), groups, reason."""
    rows = list[Mapping[str, Any]]()
    for context, found in _fits(cells):
        named = {"study": context.study, "outcome": context.metric, "estimand": context.estimand}
        rows.append(named | _inflation(found))
    columns = ("study", "outcome", "estimand", "correlation", "inflation", "groups", "reason")
    return frame(rows, columns)


def _inflation(found: Fit | str) -> dict[str, Any]:
    if isinstance(found, str):
        return {"correlation": math.nan, "inflation": math.nan, "groups": 0, "reason": found}
    if len(found.panel.terms) < 2:
        why = f"{found.panel.constant[0]} does not vary" if found.panel.constant else "there is no dataset bias"
        reason = f"{why}: nothing can be inflated"
        return {"correlation": math.nan, "inflation": math.nan, "groups": found.groups, "reason": reason}
    r = float(np.corrcoef(found.panel.x.reshape(-1, 2).T)[0, 1])
    return {"correlation": r, "inflation": 1 / (1 - r**2), "groups": found.groups, "reason": ""}
