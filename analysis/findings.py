"""The findings of an experiment: its runs loaded, regressed, compared and tested. Returns frames; writes no file."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from analysis.data.declared import check_known
from analysis.data.machines import machines
from analysis.data.runs import Runs, load
from analysis.data.versions import versions
from analysis.estimands import (
    adaptations,
    answer,
    arm_effects,
    bias_size,
    caveats,
    comovement,
    dose_response,
    equivalence,
    evaluation_sets,
    influence,
    interactions,
    placebo,
    positive_control,
    ranking,
    reliability,
    slopes,
    template_sensitivity,
)
from bias_transfer.errors import UserError, unknown
from bias_transfer.spec import AnalysisPlan, Margins, Trial

if TYPE_CHECKING:  # it loads MLflow
    from bias_transfer.tracking.runs import Conditions

MarginsFrom = Literal["analysis", "config", "obsolete", "none"]
"""Given to the analysis; stated in the config; stated in the config in the form of 0.1.0, which counts as none; not at all."""


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
    """The plan that was used, with the margins given to the analysis."""
    margins_from: dict[tuple[str, str], MarginsFrom]
    """(study, outcome) -> where its margins come from."""
    outcome_scales: pd.DataFrame
    """`equivalence.outcome_scales`: the unit of the margins."""
    cells: list[pd.DataFrame]
    """Those of the primary outcome and, where that is saturated or missing, those of the logit gap."""
    evaluated: list[pd.DataFrame]
    """Those of the outcomes of evaluation sets (`evaluation_sets.outcomes`), which are exploratory."""
    coefficients: pd.DataFrame
    """All estimands and the sizes of bias: `rows.COLUMNS` and the columns of `equivalence.compare_with_margins`."""
    frames: dict[str, pd.DataFrame]
    """All other results, by name."""
    controls: dict[tuple[str, str], positive_control.ControlResult]
    """(study, outcome) -> the result of its positive control, judged by that outcome."""
    verdicts: dict[tuple[str, str], equivalence.Verdict]
    """(study, outcome) -> whether "no transfer" may be claimed."""
    caveats: caveats.Caveats
    """What the data cannot support."""
    warnings: list[TrialWarning]
    """What the trials themselves warned of."""
    versions: Mapping[str, Counter[str]]
    """Package -> version -> number of trials (`data.versions`)."""

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

    margins: the plan given on the command line, whose margins take precedence over the config's, and whose pre-training seeds
    and twins are added to the config's. Raises UserError as `runs.load` does, and for a given margin of a task or an outcome,
    or a declared model, that the experiment does not have.
    """
    given = margins or AnalysisPlan()
    runs = load(experiment, sweep, uri, allow_missing, declared=given)
    check_known(given, runs.trials)
    plan = _plan(runs.sweep.plan, given)
    cells = slopes.outcomes(runs.table, runs.primary, covariates=plan.covariates)
    evaluated = evaluation_sets.outcomes(runs.table, runs.primary, runs.evaluation_sets, covariates=plan.covariates)
    scales = pd.concat(
        [equivalence.outcome_scales(of_outcome) for of_outcome in (*cells, *evaluated)], ignore_index=True
    )
    _check_margins(given, scales)
    own = [slopes.estimate(of_outcome) for of_outcome in cells]
    of_sets = [rows for of_outcome in evaluated if len(rows := evaluation_sets.estimates(of_outcome))]
    coefficients = equivalence.compare_with_margins(pd.concat([*own, *of_sets], ignore_index=True), scales, plan)
    frames = _frames(runs, cells, evaluated)
    frames |= _ranked(runs, cells, frames["displacements"])
    frames["answer"] = answer.answer(cells[0], frames["ranking"], coefficients, scales)
    frames["adaptations"] = adaptations.adaptations(cells, coefficients, adaptation_of(runs))
    controls = _controls(plan.positive_control, runs, cells, uri)
    verdicts = _verdicts(coefficients, cells, frames, controls, runs.trials)
    missing = [(trial.id, runs.labels[trial.id].name) for trial in runs.missing]
    conditions = _conditions(runs, uri)
    frames["machines"] = machines(runs, conditions)
    limits = caveats.caveats(runs.table, cells[0], missing, conditions=conditions)
    return Findings(
        runs, plan, _margins_from(runs, given, scales), scales, cells, evaluated, coefficients, frames, controls, verdicts,
        limits, trial_warnings(runs, uri), versions(runs, uri),
    )  # fmt: skip


def adaptation_of(runs: Runs) -> dict[str, str]:
    """Study -> its adaptation."""
    names = {trial.id: trial.adaptation for trial in runs.trials}
    known = runs.table[["study", "trial"]].drop_duplicates().astype(str)
    return {study: names[trial] for study, trial in zip(known["study"], known["trial"], strict=True)}


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


def _controls(
    experiment: str | None, runs: Runs, cells: Sequence[pd.DataFrame], uri: str | None
) -> dict[tuple[str, str], positive_control.ControlResult]:
    """A control that is judged by a saturated rate says nothing of the logit gap, so each outcome has its own."""
    results = dict[tuple[str, str], positive_control.ControlResult]()
    for of_outcome in cells:
        by_task = dict(zip(of_outcome["task"].astype(str), of_outcome["outcome"].astype(str), strict=True))
        primary = {
            task: {**stages, "downstream": by_task.get(task, stages["downstream"])}
            for task, stages in runs.primary.items()
        }
        by_study = positive_control.control_results(experiment, runs, uri, primary)
        names = of_outcome[["study", "outcome"]].drop_duplicates().astype(str).to_numpy().tolist()
        results |= {(study, outcome): by_study[study] for study, outcome in names}
    return results


def _plan(stated: AnalysisPlan, given: AnalysisPlan) -> AnalysisPlan:
    """The plan to use: what is given replaces what is stated, margin by margin."""
    margins: dict[str, dict[str, dict[str, float]]] = {}
    for plan in (stated, given):
        for task, outcomes in plan.margins.items():
            for outcome, of_outcome in outcomes.items():
                known = margins.setdefault(task, {}).setdefault(outcome, {})
                known |= of_outcome.model_dump(exclude_none=True)
    overrides = given.model_dump(exclude_defaults=True)
    return AnalysisPlan(**{**stated.model_dump(), **overrides, "margins": margins})


def _check_margins(given: AnalysisPlan, scales: pd.DataFrame) -> None:
    """Raises UserError for a margin that would apply to nothing."""
    for task, outcomes in given.margins.items():
        analysed = scales.loc[scales["task"] == task, "outcome"].tolist()
        if not analysed:
            raise UserError(unknown("task in --margin", task, set(scales["task"])))
        for outcome in outcomes:
            if outcome not in analysed:
                raise UserError(unknown(f"outcome of {task} in --margin", outcome, set(analysed)))


def _margins_from(runs: Runs, given: AnalysisPlan, scales: pd.DataFrame) -> dict[tuple[str, str], MarginsFrom]:
    origins = dict[tuple[str, str], MarginsFrom]()
    for study, outcome, task in scales[["study", "outcome", "task"]].astype(str).to_numpy().tolist():
        stated: dict[MarginsFrom, bool] = {
            "analysis": given.margins_of(task, outcome) != Margins(),
            "config": runs.sweep.plan.margins_of(task, outcome) != Margins(),
            "obsolete": runs.sweep.obsolete_margins,
        }
        origins[study, outcome] = next((origin for origin, holds in stated.items() if holds), "none")
    return origins


def _frames(runs: Runs, cells: Sequence[pd.DataFrame], evaluated: Sequence[pd.DataFrame]) -> dict[str, pd.DataFrame]:
    first, table = cells[0], runs.table
    of_groups = [of_outcome for of_outcome in evaluated if evaluation_sets.about_groups(of_outcome)]
    return {
        "utility": arm_effects.utility(table),
        "displacements": equivalence.displacements(first),
        "reliability": _reliability(table, first),
        "per_template": template_sensitivity.per_template(table, first),
        "poster_replica": template_sensitivity.poster_replica(table, first),
        "corrected": template_sensitivity.corrected(table, first),
        "influence": influence.influence(first),
        "inflation": influence.inflation(first),
        "evaluation": evaluation_sets.per_group(table, runs.evaluation_sets),
        **{name: _over(cells, compute) for name, compute in OVER_OUTCOMES.items()},
        **{name: _over([*cells, *of_groups], compute) for name, compute in OVER_SETS_TOO.items()},
        **{name: _over([*cells, *evaluated], compute) for name, compute in OVER_FUNCTIONALITIES_TOO.items()},
    }


def _ranked(runs: Runs, cells: Sequence[pd.DataFrame], displaced: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The arms by harm reduced per utility lost, and which of them dominate others."""
    standing = ranking.apart(runs.table, cells[0], displaced, _marked(runs.trials))
    ranked = [ranking.ranking(runs.table, of_outcome, standing) for of_outcome in cells]
    pairs = [ranking.dominance(runs.table, *both) for both in zip(cells, ranked, strict=True)]
    return {"ranking": _stacked(ranked), "dominance": _stacked(pairs)}


OVER_OUTCOMES: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "pretrained_by_dataset": interactions.pretrained_by_dataset,
    "placebo": placebo.placebo,
    "comovement": comovement.comovement,
    "shares": comovement.shares,
}
"""Name -> a function from cells to a frame, for the primary outcome and, where that is saturated or missing, the logit gap."""

OVER_SETS_TOO: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "size_changes": bias_size.size_changes,
    "spreads": bias_size.spreads,
    "arm_by_pretrained": interactions.arm_by_pretrained,
    "doses": dose_response.responses,
    "dose_slopes": dose_response.slopes,
}
"""The same of what needs no upstream bias: for the outcomes of evaluation sets too."""

OVER_FUNCTIONALITIES_TOO: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "group_effects": arm_effects.group_effects,
    "power": arm_effects.power,
}
"""The same of what does not take differences between groups for bias."""


def _over(cells: Sequence[pd.DataFrame], compute: Callable[[pd.DataFrame], pd.DataFrame]) -> pd.DataFrame:
    return _stacked([compute(of_outcome) for of_outcome in cells])


def _stacked(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One below the other; the columns of the first where all are empty."""
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
    cells: Sequence[pd.DataFrame],
    frames: Mapping[str, pd.DataFrame],
    controls: Mapping[tuple[str, str], positive_control.ControlResult],
    trials: Sequence[Trial],
) -> dict[tuple[str, str], equivalence.Verdict]:
    """The verdict on each of B's slopes on x."""
    displaced, alphas = (frames[name] for name in ("displacements", "reliability"))
    marked = _marked(trials)
    verdicts, own = {}, {str(of_outcome["outcome"].iloc[0]) for of_outcome in cells}
    for (study, outcome), rows in coefficients[coefficients["outcome"].isin(own)].groupby(
        ["study", "outcome"], sort=False
    ):
        of_study = next(
            frame for of_outcome in cells if len(frame := _of(of_outcome, study, outcome))
        )  # fmt: skip
        arms = equivalence.treatments(of_study, marked)
        alpha = alphas.loc[alphas["study"] == study, "reliability"]
        for row in rows[(rows["estimand"] == "B") & (rows["term"] == "x")].to_dict("records"):
            verdicts[str(study), str(outcome)] = equivalence.no_transfer(
                row,
                equivalence.moved(displaced[displaced["study"] == study], arms),
                float(alpha.iloc[0]) if len(alpha) else math.nan,
                controls[str(study), str(outcome)].passed,
                equivalence.contradictions(of_study, rows, arms),
            )
    return verdicts


STAGES = ("upstream", "downstream")


def _marked(trials: Sequence[Trial]) -> set[str]:
    """Ids of the trials of control arms that an option `control` makes."""
    return {trial.id for trial in trials if any(trial.options.get(f"{stage}.control") for stage in STAGES)}


def _of(cells: pd.DataFrame, study: Any, outcome: Any) -> pd.DataFrame:
    chosen: pd.DataFrame = cells[(cells["study"] == study) & (cells["outcome"] == outcome)]
    return chosen
