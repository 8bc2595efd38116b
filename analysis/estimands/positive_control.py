"""The positive control of an experiment: was transfer found where it had been planted, on this model and these settings?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.stats.inference import infer
from analysis.data.runs import OUTCOMES
from analysis.data.runs import UNTOUCHED
from analysis.data.runs import Runs
from analysis.data.runs import load
from analysis.stats.regression import RefusedError
from analysis.stats.regression import fit
from analysis.stats.regression import from_rows
from bias_transfer.spec import Trial
from bias_transfer.errors import UserError

DIRECTION = "planted_direction"
"""What synthetic data record of each group: its place in the order by which its association was planted, -1 to 1."""

NOT_SETTINGS = frozenset(
    {"task", "data", "data_digest", "seed", "upstream", "upstream_dose", "downstream", "downstream_dose", "options"}
)
"""Fields that a control may differ in: the data have to, since they are planted."""


@dataclass(frozen=True)
class Positive:
    """Of one study."""

    passed: bool | None
    """None: not known."""
    sentence: str


def positive(experiment: str | None, runs: Runs, uri: str | None = None) -> dict[str, Positive]:
    """Study -> what the named control says of it. A control counts where its model and training settings are the study's."""
    studies = {
        str(study): str(own["trial"].iloc[0]) for study, own in runs.table.groupby("study", sort=False, observed=True)
    }
    if experiment is None:
        none = Positive(None, "No positive control was named (analysis.positive_control in the config).")
        return dict.fromkeys(studies, none)
    try:
        control = load(experiment, None, uri, allow_missing=True)
    except UserError as error:
        return dict.fromkeys(studies, Positive(None, f"The positive control {experiment!r} cannot be read: {error}"))
    trials = {trial.id: trial for trial in runs.trials}
    return {study: _judge(trials[trial], control, runs.primary) for study, trial in studies.items()}


def _judge(trial: Trial, control: Runs, primary: Mapping[str, Mapping[str, str]]) -> Positive:
    name = control.sweep.experiment
    wanted, task = settings(trial), trial.task
    alike = {
        one.id for one in control.trials if one.task == task and settings(one) == wanted and one.upstream == "none"
    }
    table = control.table[control.table["trial"].isin(alike)]
    rows = planted(table, primary[task]["downstream"])
    if rows.empty:
        return Positive(None, f"{name!r} has no planted trial of {task} with this model and these settings.")
    try:
        found = infer(fit(from_rows(rows, ("x",), within=False)), {"x": 1.0})
    except RefusedError as refusal:
        return Positive(None, f"The positive control {name!r} cannot be regressed: {refusal}.")
    told = f"{found.coefficient:+.3g} (95 % interval {found.low:+.3g} to {found.high:+.3g}, {len(rows)} groups)"
    verb = "found" if found.low > 0 else "did not find"
    return Positive(bool(found.low > 0), f"The positive control {name!r} {verb} what was planted: slope {told}.")


def settings(trial: Trial) -> dict[str, Any]:
    """The model and how it is fine-tuned."""
    fields = {key: value for key, value in trial.model_dump().items() if key not in NOT_SETTINGS}
    return fields | {key: value for key, value in trial.options.items() if key.startswith("model.")}


def planted(table: pd.DataFrame, outcome: str) -> pd.DataFrame:
    """group, x (planted direction), y (outcome, mean over trials) of the untouched trials whose fine-tuning set names no
    group and in whose pre-training text something was planted."""
    shares = table[table["metric"] == "planted_share"].groupby("trial", observed=True)["value"].std()
    mentions = table[(table["stage"] == "dataset") & table["metric"].isin(("toxic_share", "she_share"))]
    named = mentions[mentions["group"] != ""].groupby("trial", observed=True)["n"].sum()
    kept = set(shares.index[shares > 0]) & set(named.index[named == 0])
    own = table[
        table["trial"].isin(kept) & (table["group"] != "") & (table["template"] == "") & (table["arm"] == UNTOUCHED)
    ]
    rates = own[own["metric"] == outcome]
    transformed = rates.assign(value=OUTCOMES[outcome].transform(rates["value"], rates["n"]))
    y = transformed.groupby("group", observed=True)["value"].mean()
    x = own[own["metric"] == DIRECTION].groupby("group", observed=True)["value"].mean()
    return pd.DataFrame({"x": x, "y": y}).dropna().reset_index()
