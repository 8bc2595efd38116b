"""The positive control of an experiment: whether planted transfer is found with the same model and settings.

There are two kinds. *Planted in pre-training*: `tiny` read a text with an association, and the fine-tuning set mentions no
group. *Injected*, which works for any checkpoint: `inject` at dose 1 against dose -1, trained equally long on texts that
differ in the swap alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from analysis.data.cells import cells
from analysis.data.runs import DRAW, NO_DRAW, REPEATS, UNTOUCHED, Runs, load
from analysis.stats.inference import infer
from analysis.stats.paired import nested
from analysis.stats.regression import RefusedError, fit, from_rows
from bias_transfer.errors import UserError
from bias_transfer.spec import Trial

DIRECTION = "planted_direction"
"""Metric that synthetic data record per group: the position, from -1 to 1, by which its association was planted."""

PUSHED = "injected_direction"
"""Metric that `inject` records per group: 1 or -1, the way in which a positive dose pushes it."""

NOT_SETTINGS = frozenset(
    {
        "task",
        "data",
        "data_digest",
        "seed",
        "upstream",
        "upstream_dose",
        "downstream",
        "downstream_dose",
        "options",
        "plugins",
        "plugins_digest",
    }
)
"""Fields in which a control may differ from the study. Its data must differ where they are planted."""

Primary = Mapping[str, Mapping[str, str]]
"""Task -> stage -> the metric of regressions."""


@dataclass(frozen=True)
class ControlResult:
    """The result of the positive control for one study."""

    experiment: str | None
    """The control's name; None if there is none."""
    passed: bool | None = None
    """Whether the interval is above 0; None if it is unknown."""
    coefficient: float = math.nan
    """Slope of the outcome on the planted direction; of an injection, the mean change in the direction of the push."""
    low: float = math.nan
    high: float = math.nan
    groups: int = 0
    reason: str = ""
    """Why the result is unknown."""
    injected: bool = False
    """Whether it is `inject` at dose 1 against dose -1."""
    models: int = 0
    """Of an injection: pre-trained models, over which the interval is if there are several."""
    seeds: int = 0
    """Of an injection: pairs of opposite trials."""


def control_results(
    experiment: str | None, runs: Runs, uri: str | None = None, primary: Primary | None = None
) -> dict[str, ControlResult]:
    """Study -> the result of the control. primary: the metrics to judge it by (default: those of the runs).

    A pair of opposite injections in the study itself comes first; `experiment` is read where there is none, or where its
    result is unknown. A control counts where its model and training settings are those of the study.
    """
    by_study = runs.table.groupby("study", sort=False, observed=True)
    studies = {str(study): set(of_study["trial"].unique()) for study, of_study in by_study}
    primary = primary or runs.primary
    within = {study: _within(runs, trials, primary) for study, trials in studies.items()}
    undecided = [study for study, result in within.items() if result.passed is None]
    if experiment is None or not undecided:
        return within
    try:
        control = load(experiment, None, uri, allow_missing=True, declared=runs.declared)
    except UserError as error:
        return within | dict.fromkeys(undecided, ControlResult(experiment, reason=f"cannot be read: {error}"))
    return within | {study: _elsewhere(_trials(runs, studies[study]), control, primary) for study in undecided}


def _trials(runs: Runs, ids: Iterable[str]) -> list[Trial]:
    wanted = set(ids)
    return [trial for trial in runs.trials if trial.id in wanted]


def _within(runs: Runs, ids: Iterable[str], primary: Primary) -> ControlResult:
    """The result of the injections of a study itself."""
    trials = _trials(runs, ids)
    return by_injection(runs.sweep.experiment, trials, runs.table, primary) or ControlResult(None, reason=NONE)


NONE = "none was named, and the experiment has no injections at dose 1 and -1"


def _elsewhere(study: Sequence[Trial], control: Runs, primary: Primary) -> ControlResult:
    name, task, wanted = control.sweep.experiment, study[0].task, [settings(trial) for trial in study]
    alike = [other for other in control.trials if other.task == task and settings(other) in wanted]
    if injected := by_injection(name, alike, control.table, primary):
        return injected
    # A checkpoint from elsewhere has not read the synthetic text, so nothing was planted in it, whatever was recorded.
    read_it = {other.id for other in alike if other.model == "tiny" and other.upstream == "none"}
    rows = planted(control.table[control.table["trial"].isin(read_it)], primary)
    if rows.empty:
        lacks = "has no planted trial" if study[0].model == "tiny" else "has no injections at dose 1 and -1"
        return ControlResult(name, reason=f"{lacks} of {task} with this model and these settings")
    try:
        slope = infer(fit(from_rows(rows, ("x",), within=False)), {"x": 1.0})
    except RefusedError as refusal:
        return ControlResult(name, reason=f"cannot be regressed: {refusal}")
    return ControlResult(name, bool(slope.low > 0), slope.coefficient, slope.low, slope.high, len(rows))


def settings(trial: Trial) -> dict[str, Any]:
    """The model and the training settings of a trial."""
    fields = {key: value for key, value in trial.model_dump().items() if key not in NOT_SETTINGS}
    return fields | {key: value for key, value in trial.options.items() if key.startswith("model.")}


def by_injection(
    experiment: str, trials: Sequence[Trial], table: pd.DataFrame, primary: Primary
) -> ControlResult | None:
    """The result of the opposite injections among the trials; None where there is no pair of them.

    Averaged over the groups of a pair, then within a model; t over models or, with one model, over seeds.
    """
    models_of: dict[str, int] = dict(table[["trial", "replicate"]].drop_duplicates().itertuples(index=False))
    pairs = opposite([trial for trial in trials if trial.id in models_of], models_of)
    if not pairs:
        return None
    rows = table[table["trial"].isin({trial.id for pair in pairs.values() for trial in pair})]
    y, pushed = _by_trial(cells(rows, primary), "y"), _by_trial(rows[rows["metric"] == PUSHED], "value")
    pushed = pushed.reindex(columns=y.columns)
    # Dose 1 says for both which way each group is pushed.
    changes = pd.DataFrame(
        {key: pushed[plus.id] * (y[plus.id] - y[minus.id]) / 2 for key, (plus, minus) in pairs.items()}
    ).dropna()
    changes.columns = pd.MultiIndex.from_tuples(list(pairs), names=[*REPEATS, "variant"])
    models = len(changes.columns.unique("replicate"))
    known = ControlResult(
        experiment, groups=len(changes), injected=True, models=models, seeds=len(changes.columns.unique("seed"))
    )
    if changes.empty:
        return replace(known, reason=f"has no group with an outcome and {PUSHED} in all of its trials")
    test = nested(changes.mean().groupby(level=list(REPEATS)).mean())
    if math.isnan(test.low):
        return replace(known, coefficient=test.mean, reason=f"has no interval: {test.reason}")
    return replace(known, passed=bool(test.low > 0), coefficient=test.mean, low=test.low, high=test.high)


def _by_trial(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """(groups, trials): a column of rows that have one value per trial and group."""
    return rows.pivot(index="group", columns="trial", values=name)  # noqa: PD010 (pivot_table drops trials without a value)


def opposite(trials: Sequence[Trial], models_of: Mapping[str, int]) -> dict[tuple[Any, ...], tuple[Trial, Trial]]:
    """The trials with `inject` at dose 1 and at -1 that differ in nothing else, by `runs.REPEATS` and number of the variant.

    models_of: trial id -> its model (`replicate`). Trials with a downstream arm are left out.
    """
    chosen = [trial for trial in trials if (trial.upstream, trial.downstream) == ("inject", "none")]
    by_dose = {dose: {_but_dose(trial): trial for trial in chosen if trial.upstream_dose == dose} for dose in (1, -1)}
    return {
        (models_of[plus.id], plus.options.get(DRAW, NO_DRAW), plus.seed, number): (plus, by_dose[-1][rest])
        for number, (rest, plus) in enumerate(by_dose[1].items())
        if rest in by_dose[-1]
    }


def _but_dose(trial: Trial) -> str:
    return trial.model_dump_json(exclude={"upstream_dose"})


def planted(table: pd.DataFrame, primary: Primary) -> pd.DataFrame:
    """group, x (planted direction), y (outcome, mean over trials) of the untouched trials with planted transfer.

    These are the trials whose fine-tuning set mentions no group and in whose pre-training text something was planted.
    """
    shares = table[table["metric"] == "planted_share"].groupby("trial", observed=True)["value"].std()
    mentions = table[(table["stage"] == "dataset") & table["metric"].isin(("toxic_share", "she_share"))]
    mentioned = mentions[mentions["group"] != ""].groupby("trial", observed=True)["n"].sum()
    chosen = table["trial"].isin(set(shares.index[shares > 0]) & set(mentioned.index[mentioned == 0]))
    untouched = table[chosen & (table["arm"] == UNTOUCHED)]
    if untouched.empty:
        return pd.DataFrame(columns=["group", "x", "y"])
    y = cells(untouched, primary).groupby("group")["y"].mean()
    x = untouched[untouched["metric"] == DIRECTION].groupby("group", observed=True)["value"].mean()
    return pd.DataFrame({"x": x, "y": y}).dropna().reset_index(names="group")
