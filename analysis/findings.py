"""The findings of an experiment: its runs loaded, regressed, compared and tested. Returns frames; writes no file."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pandas as pd

from analysis.data.runs import Runs, load
from analysis.estimands import (
    arm_effects,
    bias_size,
    caveats,
    comovement,
    dose_response,
    equivalence,
    influence,
    interactions,
    positive_control,
    reliability,
    slopes,
    template_sensitivity,
)
from bias_transfer.spec import AnalysisPlan

if TYPE_CHECKING:  # it loads MLflow
    from bias_transfer.tracking.runs import Conditions

MarginsFrom = Literal["analysis", "config", "none"]


@dataclass(frozen=True)
class TrialWarning:
    """A warning that trials recorded."""

    text: str
    """As the first of these trials words it."""
    trials: int
    """Trials that give it."""
    of: int
    """All trials."""
    varies: bool
    """Whether numbers in the text differ between trials."""


@dataclass(frozen=True, eq=False)
class Findings:
    """What an experiment found, and the runs on which it rests."""

    runs: Runs
    plan: AnalysisPlan
    """The margins that were used."""
    margins_from: MarginsFrom
    """Whether they were given to the analysis, stated in the config, or not at all."""
    cells: list[pd.DataFrame]
    """Those of the primary outcome and, where that is saturated, those of the logit gap."""
    coefficients: pd.DataFrame
    """All estimands and the sizes of bias: `rows.COLUMNS` and the columns of `equivalence.compare_with_margins`."""
    frames: dict[str, pd.DataFrame]
    """All other results, by name."""
    controls: dict[str, positive_control.ControlResult]
    """Study -> the result of its positive control."""
    verdicts: dict[tuple[str, str], equivalence.Verdict]
    """(study, outcome) -> whether "no transfer" may be claimed."""
    caveats: caveats.Caveats
    """What the data cannot support."""
    warnings: list[TrialWarning]
    """What the trials themselves warned of."""

    @property
    def primary(self) -> dict[str, str]:
        """Study -> its primary outcome."""
        by_study = self.cells[0].groupby("study", sort=False)
        return {str(study): str(of_study["outcome"].iloc[0]) for study, of_study in by_study}


def analyse(
    experiment: str | Sequence[str],
    sweep: str | None = None,
    uri: str | None = None,
    allow_missing: bool = False,
    margins: AnalysisPlan | None = None,
) -> Findings:
    """The findings of one experiment or several.

    margins: those given on the command line, which take precedence over the config's. Raises UserError as `runs.load` does.
    """
    runs = load(experiment, sweep, uri, allow_missing)
    plan, margins_from = _plan(runs.sweep.plan, margins or AnalysisPlan())
    cells = slopes.outcomes(runs.table, runs.primary)
    estimates = pd.concat([slopes.estimate(of_outcome) for of_outcome in cells], ignore_index=True)
    coefficients = equivalence.compare_with_margins(estimates, plan.margin_slope, plan.margin_arms, estimates)
    frames = _frames(runs.table, cells)
    controls = positive_control.control_results(plan.positive_control, runs, uri)
    verdicts = _verdicts(coefficients, frames["displacements"], frames["reliability"], controls)
    missing = [(trial.id, runs.labels[trial.id].name) for trial in runs.missing]
    limits = caveats.caveats(runs.table, cells[0], missing, trials=runs.trials, conditions=_conditions(runs, uri))
    return Findings(
        runs, plan, margins_from, cells, coefficients, frames, controls, verdicts, limits, trial_warnings(runs, uri)
    )


def _conditions(runs: Runs, uri: str | None) -> dict[str, Conditions]:
    """Trial id -> where and with what it ran; of a trial in several sweeps as in the first one."""
    from bias_transfer.tracking import (
        runs as recorded,  # late: it loads MLflow
    )
    from bias_transfer.tracking import (
        store,  # late: it loads MLflow
    )

    client = store.connect(uri)
    return {
        trial: conditions
        for experiment in dict.fromkeys(sweep.experiment for sweep in reversed(runs.sweeps))
        for trial, conditions in recorded.conditions(client, experiment).items()
    }


def trial_warnings(runs: Runs, uri: str | None = None) -> list[TrialWarning]:
    """The warnings that trials recorded; texts that differ only in numbers are one warning."""
    from bias_transfer.tracking import (
        results,  # late: it loads MLflow
        store,  # late: it loads MLflow
    )

    client = store.connect(uri)
    by_text: dict[str, dict[str, str]] = {}
    for sweep in runs.sweeps:
        frame = results.headlines(client, sweep.experiment, sweep.trials)
        for trial, texts in zip(frame["id"], frame["warnings"], strict=True) if len(frame) else ():
            for text in texts:
                by_text.setdefault(re.sub(r"\d+", "#", text), {})[trial] = text
    return [
        TrialWarning(next(iter(texts.values())), len(texts), len(runs.trials), len(set(texts.values())) > 1)
        for texts in by_text.values()
    ]


def _plan(stated: AnalysisPlan, given: AnalysisPlan) -> tuple[AnalysisPlan, MarginsFrom]:
    """The plan to use, and where its margins come from."""
    overrides = given.model_dump(exclude_defaults=True)
    plan = AnalysisPlan(**{**stated.model_dump(), **overrides})
    if "margin_slope" in overrides or "margin_arms" in overrides:
        return plan, "analysis"
    return plan, "none" if stated.margin_slope is None and stated.margin_arms is None else "config"


def _frames(table: pd.DataFrame, cells: Sequence[pd.DataFrame]) -> dict[str, pd.DataFrame]:
    first = cells[0]
    return {
        "utility": arm_effects.utility(table),
        "displacements": equivalence.displacements(first),
        "reliability": _reliability(table, first),
        "per_template": template_sensitivity.per_template(table, first),
        "poster_replica": template_sensitivity.poster_replica(table, first),
        "corrected": template_sensitivity.corrected(table, first),
        "influence": influence.influence(first),
        "inflation": influence.inflation(first),
        **{name: _over(cells, compute) for name, compute in OVER_OUTCOMES.items()},
    }


OVER_OUTCOMES: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "size_changes": bias_size.size_changes,
    "spreads": bias_size.spreads,
    "group_effects": arm_effects.group_effects,
    "power": arm_effects.power,
    "arm_by_pretrained": interactions.arm_by_pretrained,
    "pretrained_by_dataset": interactions.pretrained_by_dataset,
    "doses": dose_response.responses,
    "dose_slopes": dose_response.slopes,
    "comovement": comovement.comovement,
    "shares": comovement.shares,
}
"""Name -> a function from cells to a frame, for the primary outcome and, where that is saturated, the logit gap."""


def _over(cells: Sequence[pd.DataFrame], compute: Callable[[pd.DataFrame], pd.DataFrame]) -> pd.DataFrame:
    frames = [compute(of_outcome) for of_outcome in cells]
    return pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)


def _reliability(table: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """study, reliability: Cronbach's alpha of x over templates, untouched model."""
    rows = []
    for study, of_study in cells.groupby("study", sort=False):
        scores = reliability.template_scores(table[table["study"] == study], of_study["x_metric"].iloc[0])
        rows.append({"study": study, "reliability": reliability.reliability(scores)})
    return pd.DataFrame(rows, columns=["study", "reliability"])


def _verdicts(
    coefficients: pd.DataFrame,
    displacements: pd.DataFrame,
    reliabilities: pd.DataFrame,
    controls: dict[str, positive_control.ControlResult],
) -> dict[tuple[str, str], equivalence.Verdict]:
    """The verdict on each of B's slopes on x. x has to move in every upstream arm."""
    verdicts = {}
    for row in coefficients[(coefficients["estimand"] == "B") & (coefficients["term"] == "x")].to_dict("records"):
        arms = displacements.loc[displacements["study"] == row["study"], "moved"].tolist()
        moved = None if not arms or None in arms else all(arms)
        alpha = reliabilities.loc[reliabilities["study"] == row["study"], "reliability"]
        passed = controls[row["study"]].passed if row["study"] in controls else None
        verdicts[row["study"], row["outcome"]] = equivalence.no_transfer(
            row["equivalent"], moved, float(alpha.iloc[0]) if len(alpha) else math.nan, passed
        )
    return verdicts
