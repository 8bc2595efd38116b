"""Each arm in a few numbers, for MLflow's table of runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from analysis.estimands.arm_effects import wide
from analysis.findings import Findings
from analysis.report.answer import Answer
from analysis.stats.paired import nested
from bias_transfer.tracking.summaries import ArmSummary, plain

FIELDS = ("task", "data", "model", "upstream", "upstream_dose", "downstream", "downstream_dose")
"""Columns of the cells that are parameters of a summary. There is no seed: a summary is no trial."""


def summaries(findings: Findings) -> list[ArmSummary]:
    """One per study and arm, by the primary outcome: its mean over seeds (of the mean over groups), SD and 95 % interval, the
    change against the untouched arm, and the utility."""
    several = len(findings.primary) > 1
    return [
        ArmSummary(f"{study}: {arm}" if several else arm, parameters, metrics)
        for study, arm, parameters, metrics in _arms(findings)
    ]


def _arms(findings: Findings) -> Iterable[tuple[str, str, dict[str, str], dict[str, float]]]:
    answers, utilities = findings.frames["answer"], findings.frames["utility"]
    for study, of_study in findings.cells[0].groupby("study", sort=False):
        outcome = str(of_study["outcome"].iloc[0])
        for arm, y in wide(of_study).items():
            first = of_study[of_study["arm"] == arm].iloc[0]
            changed = answers[(answers["study"] == study) & (answers["arm"] == arm)]
            utility = utilities[(utilities["study"] == study) & (utilities["arm"] == arm)]
            metrics = _level(outcome, y.mean()) | _change(changed) | _utility(utility)
            known = {name: float(value) for name, value in metrics.items() if not math.isnan(value)}
            yield (
                str(study),
                arm,
                plain({name: first[name] for name in FIELDS} | {"arm": arm, "outcome": outcome}),
                known,
            )


def _level(outcome: str, means: pd.Series) -> dict[str, float]:
    """Mean, SD and interval over seeds. means: one per trial, indexed by `runs.REPEATS`."""
    values = means.dropna()
    if values.empty:
        return {"seeds": 0.0}
    test = nested(values)
    named = {"mean": test.mean, "sd": float(values.std()), "low": test.low, "high": test.high}
    return {"seeds": float(len(values)), **{f"{outcome}.{name}": value for name, value in named.items()}}


def _change(rows: pd.DataFrame) -> dict[str, float]:
    """The change of harm against the untouched arm."""
    if rows.empty:
        return {}
    row: Mapping[Any, Any] = rows.iloc[0].to_dict()
    return {"harm.change": row["harm"], "harm.change.low": row["harm_low"], "harm.change.high": row["harm_high"]}


def _utility(rows: pd.DataFrame) -> dict[str, float]:
    values = {str(row["metric"]): row["value"] for row in rows.to_dict("records")}
    return values | {f"{row['metric']}.change": row["difference"] for row in rows.to_dict("records")}


def description(answers: Iterable[Answer], report: str) -> str:
    """What the parent run's description says: the headlines, and where the report is. report: its path among the artifacts."""
    lines = [f"**{each.study}**: {each.headline}" for each in answers]
    return "\n\n".join(
        [*lines, f"The report is the artifact `{report}` of this run; runs named `arm: ...` compare the arms."]
    )
