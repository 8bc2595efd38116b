"""Reliability of upstream bias: whether the templates agree on which groups score high."""

from __future__ import annotations

import math

import pandas as pd

from analysis.data.runs import UNTOUCHED

RELIABLE = 0.7
"""Below this reliability of x over templates, a weak slope says little (docs/science.md, "No transfer")."""


def template_scores(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Upstream scores of the untouched arm in raw units: (groups, templates). table: one study's measures.

    Means over the seeds of a model first, then over models. Rows without a template are the pooled score and left out.
    """
    upstream = table[(table["stage"] == "upstream") & (table["metric"] == metric) & (table["arm"] == UNTOUCHED)]
    by_template = upstream[(upstream["group"] != "") & (upstream["template"] != "")]
    of_models = by_template.pivot_table(index=["group", "replicate"], columns="template", values="value", sort=False)
    return of_models.groupby(level="group", sort=False).mean()


def reliability(scores: pd.DataFrame) -> float:
    """Cronbach's alpha of the mean over templates, in (-inf, 1]. scores: (groups, templates).

    For templates with the same spread this is the Spearman-Brown reliability. NaN for fewer than two templates or complete
    groups, and without spread.
    """
    complete = scores.dropna()
    groups, templates = complete.shape
    if groups < 2 or templates < 2:
        return math.nan
    total = float(complete.sum(axis=1).var())
    return templates / (templates - 1) * (1 - float(complete.var().sum()) / total) if total > 0 else math.nan
