"""Evaluation sets: their outcomes next to the task's own, and every rate and AUC per group and functionality with intervals.

Groups of a set are mostly not those of the task, so that they have no upstream bias: then only arms' effects (A) and sizes of
bias are estimated, and no slope (B, W).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.data.cells import cells
from analysis.data.runs import UNTOUCHED, plain
from analysis.estimands.arm_effects import arm_effects, change, counts, q_values, wide
from analysis.estimands.bias_size import sizes
from analysis.estimands.rows import frame, saturation
from analysis.estimands.slopes import estimate
from analysis.stats.paired import nested
from analysis.stats.wild_bootstrap import DRAWS
from bias_transfer.spec import LEAST_MENTIONS

FIRST = ("fpr", "tpr_gap", "accuracy")
"""The outcome of a set is the first of these that it has per group."""

FUNCTIONALITIES, STAND_IN = "functionality_accuracy", "logit_gap"
"""The outcome of a set's functionalities; what stands in for a saturated FPR."""


def names(table: pd.DataFrame, sets: Sequence[str], primary: Mapping[str, Mapping[str, str]]) -> list[str]:
    """The outcomes of the sets: of each the first of `FIRST`, and the accuracy per functionality. A task's primary outcome is
    left out."""
    downstream = table[(table["stage"] == "downstream") & (table["group"] != "")]
    measured = set(downstream["metric"].astype(str).unique())
    chosen = list[str]()
    for name in sets:
        chosen += [metric for suffix in FIRST if (metric := f"{name}_{suffix}") in measured][:1]
        chosen += [metric for metric in (f"{name}_{FUNCTIONALITIES}",) if metric in measured]
    return [metric for metric in chosen if metric not in {stages["downstream"] for stages in primary.values()}]


def outcomes(
    table: pd.DataFrame,
    primary: Mapping[str, Mapping[str, str]],
    sets: Sequence[str],
    least: int = LEAST_MENTIONS,
    covariates: Sequence[str] | None = None,
) -> list[pd.DataFrame]:
    """The cells of each outcome of the sets (`names`), and those of the logit gap for studies with a trial whose FPR is
    saturated. All are exploratory. Arguments as for `cells.cells`; sets: names of evaluation sets."""
    found = list[pd.DataFrame]()
    for metric in names(table, sets, primary):
        of_metric = _cells(table, primary, metric, least, covariates)
        found.append(of_metric)
        saturated = table[table["study"].isin(set(saturation(of_metric)["study"]))]
        if metric.endswith(f"_{FIRST[0]}") and len(saturated):
            stand_in = f"{metric.removesuffix(FIRST[0])}{STAND_IN}"
            found.append(_cells(saturated, primary, stand_in, least, covariates))
    return found


def _cells(
    table: pd.DataFrame,
    primary: Mapping[str, Mapping[str, str]],
    metric: str,
    least: int,
    covariates: Sequence[str] | None,
) -> pd.DataFrame:
    """Those of the studies that have measured the metric."""
    studies = set(table.loc[table["metric"] == metric, "study"])
    of_metric = {task: {**stages, "downstream": metric} for task, stages in primary.items()}
    return cells(table[table["study"].isin(studies)], of_metric, least, covariates)


def estimates(of_outcome: pd.DataFrame, draws: int = DRAWS) -> pd.DataFrame:
    """The coefficients of one outcome: all estimands where the set's groups have upstream bias, else A and sizes of bias; of
    functionalities A alone."""
    if of_outcome["x"].notna().any():
        return estimate(of_outcome, draws)
    parts = [arm_effects(of_outcome, draws), *([sizes(of_outcome)] if about_groups(of_outcome) else [])]
    return pd.concat([rows for rows in parts if len(rows)] or parts[:1], ignore_index=True)


def about_groups(of_outcome: pd.DataFrame) -> bool:
    """Whether differences between the cells' groups are bias. Those between functionalities are what a set tests."""
    return not str(of_outcome["outcome"].iloc[0]).endswith(f"_{FUNCTIONALITIES}")


COLUMNS = (
    "study", "metric", "arm", "group", "value", "low", "high", "n", "difference", "difference_low", "difference_high", "q",
    "seeds", "models", "draws", "reason",
)  # fmt: skip


def per_group(table: pd.DataFrame, sets: Sequence[str]) -> pd.DataFrame:
    """Every metric of the sets, per arm and group or functionality ("" for a whole set), with `COLUMNS`.

    value: mean over models, each over its seeds, with its 95 % interval by `paired.nested`: t over models or, with one model,
    over its seeds, which holds for this checkpoint and these examples. n: examples. difference: from the untouched arm, paired
    by seed, with q by Benjamini and Hochberg over the groups (`arm_effects.q_values`). Missing where any seed has no value.
    """
    prefixes = tuple(f"{name}_" for name in sets)
    about = (table["stage"] == "downstream") & (table["template"] == "")
    metrics = [str(metric) for metric in table.loc[about, "metric"].unique() if str(metric).startswith(prefixes)]
    rows = list[dict[str, Any]]()
    for study, of_study in table[about & table["metric"].isin(metrics)].groupby("study", sort=False, observed=True):
        for metric, of_metric in of_study.groupby("metric", sort=False, observed=True):
            rows += _of_metric({"study": str(study), "metric": str(metric)}, plain(of_metric))
    return frame(rows, COLUMNS)


def _of_metric(key: Mapping[str, str], rows: pd.DataFrame) -> list[dict[str, Any]]:
    """One metric of one study. rows: of the measures; key: what the frame's rows share."""
    arms, examples = wide(rows, "value"), rows.groupby("group")["n"].max().to_dict()
    found = list[dict[str, Any]]()
    for arm, values in arms.items():
        moved = change(values, arms.get(UNTOUCHED)) if arm != UNTOUCHED else pd.DataFrame()
        of_arm = [
            {**key, "arm": arm, "group": group, "n": examples[group]} | _value(of_group) | _difference(moved, group)
            for group, of_group in values.iterrows()
        ]
        tested = [row["p"] if row["group"] else math.nan for row in of_arm]
        q = q_values(pd.Series(tested, dtype=float), pd.Series([row["units"] for row in of_arm], dtype=float))
        found += [row | {"q": value} for row, value in zip(of_arm, q, strict=True)]
    return found


def _value(values: pd.Series) -> dict[str, Any]:
    if values.isna().any():
        return {**counts(values.index), "reason": "no value in some trial"}
    test = nested(values)
    return {"value": test.mean, "low": test.low, "high": test.high, **counts(values.index), "reason": test.reason}


def _difference(moved: pd.DataFrame, group: Any) -> dict[str, Any]:
    if group not in moved.index:
        return {"p": math.nan, "units": 0}
    test = nested(moved.loc[group])
    named = {"difference": test.mean, "difference_low": test.low, "difference_high": test.high}
    return named | {"p": test.p, "units": test.units}
