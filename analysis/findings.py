"""All that an experiment's runs say: loaded, regressed, compared and judged, as frames by name. No file is written here."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.estimands import comovement
from analysis.estimands import arm_effects
from analysis.estimands import positive_control
from analysis.estimands import dose_response
from analysis.estimands import equivalence
from analysis.estimands import interactions
from analysis.estimands import caveats
from analysis.estimands import slopes
from analysis.estimands import influence
from analysis.estimands import bias_size
from analysis.estimands import template_sensitivity
from analysis.data.runs import Runs
from analysis.data.runs import load
from bias_transfer.spec import AnalysisPlan


@dataclass(frozen=True, eq=False)
class Findings:
    """What was found, and on what it rests."""

    runs: Runs
    plan: AnalysisPlan
    """The margins that were used."""
    margins_from: str
    """Where they were stated, and when."""
    cells: list[pd.DataFrame]
    """On the primary outcome, and on the logit gap where that is saturated."""
    coefficients: pd.DataFrame
    """`sentences.COLUMNS` and what `equivalence.judge` adds: all estimands and the sizes of bias."""
    frames: dict[str, pd.DataFrame]
    """Everything else, by name."""
    controls: dict[str, positive_control.Positive]
    """Study -> what its positive control says."""
    verdicts: dict[tuple[str, str], equivalence.Verdict]
    """(study, outcome) -> whether "no transfer" may be said."""
    limits: list[str]
    warnings: list[str]
    """What the trials themselves warned of."""

    @property
    def primary(self) -> dict[str, str]:
        """Study -> its primary outcome."""
        return {str(study): str(own["outcome"].iloc[0]) for study, own in self.cells[0].groupby("study", sort=False)}


def analyse(
    experiment: str | Sequence[str],
    sweep: str | None = None,
    uri: str | None = None,
    allow_missing: bool = False,
    margins: AnalysisPlan | None = None,
) -> Findings:
    """Load, regress, compare and judge. margins: those of the command line, which go before the config's. Raises UserError
    as `load.load` does."""
    runs = load(experiment, sweep, uri, allow_missing)
    plan, told = _plan(runs.sweep.plan, margins or AnalysisPlan())
    cells = slopes.outcomes(runs.table, runs.primary)
    found = pd.concat([slopes.estimate(own) for own in cells], ignore_index=True)
    coefficients = equivalence.judge(found, plan.margin_slope, plan.margin_arms, found)
    frames = _frames(runs.table, cells)
    controls = positive_control.positive(plan.positive_control, runs, uri)
    verdicts = _verdicts(coefficients, frames["displacements"], frames["reliability"], controls)
    thin = caveats.too_thin(runs.table, cells[0], runs.missing, trials=runs.trials)
    return Findings(runs, plan, told, cells, coefficients, frames, controls, verdicts, thin, warnings(runs, uri))


def warnings(runs: Runs, uri: str | None = None) -> list[str]:
    """What trials warned of in their runs: each text once, whatever the numbers in it, with how many of the trials say so."""
    from bias_transfer.tracking import results  # late: it loads MLflow
    from bias_transfer.tracking import store  # late: it loads MLflow

    client = store.connect(uri)
    told: dict[str, dict[str, str]] = {}
    for sweep in runs.sweeps:
        frame = results.headlines(client, sweep.experiment, sweep.trials)
        for trial, texts in zip(frame["id"], frame["warnings"], strict=True) if len(frame) else ():
            for text in texts:
                told.setdefault(re.sub(r"\d+", "#", text), {})[trial] = text
    return [
        f"{len(own)} of {len(runs.trials)} trials warn: {next(iter(own.values()))}"
        + (" (numbers differ between trials)" if len(set(own.values())) > 1 else "")
        for own in told.values()
    ]


def _plan(stated: AnalysisPlan, given: AnalysisPlan) -> tuple[AnalysisPlan, str]:
    """The plan to use, and where its margins come from."""
    own = given.model_dump(exclude_defaults=True)
    plan = AnalysisPlan(**{**stated.model_dump(), **own})
    if "margin_slope" in own or "margin_arms" in own:
        return plan, "given to the analysis, when results may have been seen"
    fixed = stated.margin_slope is not None or stated.margin_arms is not None
    return plan, "stated in the config before the sweep was first started" if fixed else "none was stated"


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
        **{name: _over(cells, own) for name, own in OVER_OUTCOMES.items()},
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
"""Name -> cells -> frame: computed for the primary outcome, and for the logit gap where that is saturated."""


def _over(cells: Sequence[pd.DataFrame], compute: Callable[[pd.DataFrame], pd.DataFrame]) -> pd.DataFrame:
    found = [compute(own) for own in cells]
    return pd.concat([one for one in found if len(one)] or found[:1], ignore_index=True)


def _reliability(table: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """study, reliability: Cronbach's alpha of x over templates, untouched model."""
    rows = [
        {
            "study": study,
            "reliability": caveats.reliability(template_sensitivity.scores(table, str(study), own["x_metric"].iloc[0])),
        }
        for study, own in cells.groupby("study", sort=False)
    ]
    return pd.DataFrame(rows, columns=["study", "reliability"])


def _verdicts(
    coefficients: pd.DataFrame,
    displacements: pd.DataFrame,
    reliability: pd.DataFrame,
    controls: dict[str, positive_control.Positive],
) -> dict[tuple[str, str], equivalence.Verdict]:
    """From B's slope on x. x moved where it did in every arm that was to move it."""
    found = {}
    for row in coefficients[(coefficients["estimand"] == "B") & (coefficients["term"] == "x")].to_dict("records"):
        own = displacements.loc[displacements["study"] == row["study"], "moved"].tolist()
        moved = None if not own or None in own else all(own)
        alpha = reliability.loc[reliability["study"] == row["study"], "reliability"]
        passed = controls[row["study"]].passed if row["study"] in controls else None
        found[row["study"], row["outcome"]] = equivalence.no_transfer(
            row["equivalent"], moved, float(alpha.iloc[0]) if len(alpha) else math.nan, passed
        )
    return found
