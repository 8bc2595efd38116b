"""The positive control of an experiment: whether planted transfer is found with the same model and settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.data.cells import OUTCOMES
from analysis.data.runs import UNTOUCHED, Runs, load
from analysis.stats.inference import infer
from analysis.stats.regression import RefusedError, fit, from_rows
from bias_transfer.errors import UserError
from bias_transfer.spec import Trial

DIRECTION = "planted_direction"
"""Metric that synthetic data record per group: the position, from -1 to 1, by which its association was planted."""

NOT_SETTINGS = frozenset(
    {"task", "data", "data_digest", "seed", "upstream", "upstream_dose", "downstream", "downstream_dose", "options"}
)
"""Fields in which a control may differ from the study. Its data must differ, since they are planted."""


@dataclass(frozen=True)
class ControlResult:
    """The result of the positive control for one study."""

    experiment: str | None
    """The control's name; None if none was given."""
    passed: bool | None = None
    """Whether the interval is above 0; None if it is unknown."""
    coefficient: float = math.nan
    """Slope of the outcome on the planted direction."""
    low: float = math.nan
    high: float = math.nan
    groups: int = 0
    reason: str = ""
    """Why the result is unknown."""


def control_results(experiment: str | None, runs: Runs, uri: str | None = None) -> dict[str, ControlResult]:
    """Study -> the result of the control. A control counts where its model and training settings are those of the study."""
    by_study = runs.table.groupby("study", sort=False, observed=True)
    studies = {str(study): str(of_study["trial"].iloc[0]) for study, of_study in by_study}
    if experiment is None:
        return dict.fromkeys(studies, ControlResult(None, reason="none was named"))
    try:
        control = load(experiment, None, uri, allow_missing=True)
    except UserError as error:
        return dict.fromkeys(studies, ControlResult(experiment, reason=f"cannot be read: {error}"))
    trials = {trial.id: trial for trial in runs.trials}
    return {study: _result(trials[trial], control, runs.primary) for study, trial in studies.items()}


def _result(trial: Trial, control: Runs, primary: Mapping[str, Mapping[str, str]]) -> ControlResult:
    name, wanted, task = control.sweep.experiment, settings(trial), trial.task
    untreated = [other for other in control.trials if other.task == task and other.upstream == "none"]
    alike = {other.id for other in untreated if settings(other) == wanted}
    table = control.table[control.table["trial"].isin(alike)]
    rows = planted(table, primary[task]["downstream"])
    if rows.empty:
        return ControlResult(name, reason=f"has no planted trial of {task} with this model and these settings")
    try:
        slope = infer(fit(from_rows(rows, ("x",), within=False)), {"x": 1.0})
    except RefusedError as refusal:
        return ControlResult(name, reason=f"cannot be regressed: {refusal}")
    return ControlResult(name, bool(slope.low > 0), slope.coefficient, slope.low, slope.high, len(rows))


def settings(trial: Trial) -> dict[str, Any]:
    """The model and the training settings of a trial."""
    fields = {key: value for key, value in trial.model_dump().items() if key not in NOT_SETTINGS}
    return fields | {key: value for key, value in trial.options.items() if key.startswith("model.")}


def planted(table: pd.DataFrame, outcome: str) -> pd.DataFrame:
    """group, x (planted direction), y (outcome, mean over trials) of the untouched trials with planted transfer.

    These are the trials whose fine-tuning set mentions no group and in whose pre-training text something was planted.
    """
    shares = table[table["metric"] == "planted_share"].groupby("trial", observed=True)["value"].std()
    mentions = table[(table["stage"] == "dataset") & table["metric"].isin(("toxic_share", "she_share"))]
    mentioned = mentions[mentions["group"] != ""].groupby("trial", observed=True)["n"].sum()
    chosen = table["trial"].isin(set(shares.index[shares > 0]) & set(mentioned.index[mentioned == 0]))
    measures = table[chosen & (table["group"] != "") & (table["template"] == "") & (table["arm"] == UNTOUCHED)]
    rates = measures[measures["metric"] == outcome]
    transformed = rates.assign(value=OUTCOMES[outcome].transform(rates["value"], rates["n"]))
    y = transformed.groupby("group", observed=True)["value"].mean()
    x = measures[measures["metric"] == DIRECTION].groupby("group", observed=True)["value"].mean()
    return pd.DataFrame({"x": x, "y": y}).dropna().reset_index()
