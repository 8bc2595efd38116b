"""Evidence of absence: equivalence tests, the smallest margin that passes, and when "no transfer" may be claimed."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.data.runs import UNTOUCHED
from analysis.estimands.arm_effects import wide
from analysis.estimands.bias_size import spread_of_groups
from analysis.estimands.reliability import RELIABLE
from analysis.estimands.rows import studies
from analysis.estimands.slopes import displacement
from analysis.stats.inference import t_quantile
from bias_transfer.spec import AnalysisPlan, Margins

MOVED = 0.2
"""An arm moved x if the interval of its displacement, in SD of the untouched model, is above this (ours)."""


def smallest_margin(low_90: float, high_90: float) -> float:
    """The smallest margin at which a test of equivalence at 5 % passes.

    Two one-sided tests pass where the 90 % interval is within the margin (Schuirmann 1987).
    """
    return max(abs(low_90), abs(high_90))


def passes(low_90: float, high_90: float, margin: float) -> bool | None:
    """Whether the test of equivalence passes; None where the margin or the interval is missing (NaN)."""
    smallest = smallest_margin(low_90, high_90)
    return None if math.isnan(margin) or math.isnan(smallest) else bool(smallest < margin)


ONE_SEED = (
    "the SD over groups of the untouched arm's outcome takes two seeds of one model, so a margin in SD has no size"
)
NO_SPREAD = (
    "the untouched arm's outcome has an SD over groups of 0 beyond the noise of seeds, so a margin in SD has no size"
)
NOT_STATED = "no margin was stated"
NO_INTERVAL = "there is no interval"


ROUNDING = 1e-9
"""An SD below this share of the largest |y| is rounding noise."""


def outcome_scales(cells: pd.DataFrame) -> pd.DataFrame:
    """study, outcome, task, outcome_sd: the unit of margins, one row per study.

    outcome_sd: SD over groups of the untouched arm's outcome, without the noise of seeds (`bias_size.spread_of_groups`); NaN
    with fewer than two seeds of one model. All groups with an outcome count, thin ones too, as they do for the arms' effects.
    """
    rows = []
    for context, of_study in studies(cells, "margin"):
        y = wide(of_study[of_study["arm"] == UNTOUCHED]).get(UNTOUCHED)
        sd = math.nan if y is None else _sd(y)
        key = {"study": context.study, "outcome": context.metric, "task": str(of_study["task"].iloc[0])}
        rows.append(key | {"outcome_sd": sd})
    return pd.DataFrame(rows, columns=["study", "outcome", "task", "outcome_sd"])


def _sd(wide_y: pd.DataFrame) -> float:
    """SD over groups, 0 where groups are equal up to the rounding of sums, as saturated rates are. wide_y: (groups, trials)."""
    y, models = wide_y.to_numpy(float), wide_y.columns.get_level_values("replicate").tolist()
    sd, largest = spread_of_groups(y, models), float(np.abs(y).max(initial=0, where=~np.isnan(y)))
    return 0.0 if sd <= ROUNDING * largest else sd


def compare_with_margins(coefficients: pd.DataFrame, scales: pd.DataFrame, plan: AnalysisPlan) -> pd.DataFrame:
    """The coefficients with smallest_margin, margin, outcome_sd, equivalent (True, False or None) and untested.

    coefficients: `rows.COLUMNS`; scales: `outcome_scales`. B's and W's coefficients on x and z are compared with the plan's
    `slope_sd`, A's effects with its `arm_sd`; all other rows have no margin. smallest_margin, margin and outcome_sd are in the
    outcome's unit; untested: why there was no test. Margins have to be stated before the data are seen.
    """
    by_outcome = scales.set_index(["study", "outcome"])
    added = [
        _compared(row, by_outcome.loc[(row["study"], row["outcome"])], plan) for row in coefficients.to_dict("records")
    ]
    columns = pd.DataFrame(added, columns=list(COMPARED), index=coefficients.index)
    return coefficients.assign(**{name: columns[name] for name in COMPARED})


COMPARED = ("smallest_margin", "margin", "outcome_sd", "equivalent", "untested")


def _compared(
    row: Mapping[Any, Any], scale: pd.Series, plan: AnalysisPlan
) -> tuple[float, float, float, bool | None, str]:
    smallest, sd = smallest_margin(row["low_90"], row["high_90"]), float(scale["outcome_sd"])
    stated = _stated(row, plan.margins_of(str(scale["task"]), str(row["outcome"])))
    reasons = {
        NOT_STATED: stated is None, NO_INTERVAL: math.isnan(smallest), ONE_SEED: math.isnan(sd), NO_SPREAD: sd == 0,
    }  # fmt: skip
    untested = next((reason for reason, holds in reasons.items() if holds), "")
    margin = math.nan if untested or stated is None else stated * sd
    return smallest, margin, sd, passes(row["low_90"], row["high_90"], margin), untested


def _stated(row: Mapping[Any, Any], margins: Margins) -> float | None:
    """The margin that was stated for a row, in SD."""
    if row["estimand"] in ("B", "W"):
        return margins.slope_sd if row["term"] in ("x", "z") else None
    return margins.arm_sd if row["estimand"] == "A" else None


def displacements(cells: pd.DataFrame) -> pd.DataFrame:
    """study, arm, displacement, low, high, groups, seeds, moved, reason: how far each upstream arm moved x.

    displacement: root mean square over groups and seeds of x(arm) - x(untouched), in SD of the untouched model, with its 95 %
    interval over groups (t on the square); moved: whether the interval is above `MOVED`. Arms without an upstream
    intervention, which cannot move x, are not listed.
    """
    rows = []
    for context, of_study in studies(cells, "x"):
        base = of_study[of_study["arm"] == UNTOUCHED].groupby(["group", "replicate"])["x"].mean()
        for arm, treated in of_study[of_study["upstream"] != "none"].groupby("arm", sort=False):
            own = base.reindex(pd.MultiIndex.from_frame(treated[["group", "replicate"]])).to_numpy()
            away = (treated["x"] - own) / context.scales["x"]
            squares = (away**2).groupby(treated["group"]).mean().replace(np.inf, math.nan).dropna()
            key = {"study": context.study, "arm": arm, "groups": len(squares), "seeds": treated["seed"].nunique()}
            rows.append(key | _root_mean(squares.to_numpy(float)))
    columns = ["study", "arm", "displacement", "low", "high", "groups", "seeds", "moved", "reason"]
    return pd.DataFrame(rows, columns=columns)


def _root_mean(squares: np.ndarray) -> dict[str, object]:
    groups = len(squares)
    if groups < 2:
        reason = "no untouched trial to compare with, no spread of x over its groups, or a single group"
        return {"displacement": math.nan, "low": math.nan, "high": math.nan, "moved": None, "reason": reason}
    mean, reach = float(squares.mean()), t_quantile(0.975, groups - 1) * float(squares.std(ddof=1)) / math.sqrt(groups)
    low, high = (math.sqrt(max(0.0, end)) for end in (mean - reach, mean + reach))
    return {"displacement": math.sqrt(mean), "low": low, "high": high, "moved": low > MOVED, "reason": ""}


UPSTREAM_CONTROLS = ("sham_debias", "random_projection")
"""Arms that are meant to do nothing in particular. They are not asked to move x, nor are arms with an option `control`."""

SIGNIFICANT = 0.05


def treatments(cells: pd.DataFrame, controls: Collection[str] = ()) -> list[str]:
    """The upstream arms of one study that treat the model. controls: ids of trials with an option `control`.

    Left out are `UPSTREAM_CONTROLS`, `controls`, and the arms of a positive control in the study itself: those of `inject`
    where it has dose 1 and dose -1. They move x and y together by design.
    """
    treated = cells[(cells["upstream"] != "none") & ~cells["upstream"].isin(UPSTREAM_CONTROLS)]
    treated = treated[~treated["trial"].isin(set(controls))]
    if has_positive_control(cells):
        treated = treated[treated["upstream"] != "inject"]
    return list(dict.fromkeys(treated["arm"]))


def has_positive_control(cells: pd.DataFrame) -> bool:
    """Whether a study has `inject` at dose 1 and at dose -1, both without a downstream arm."""
    alone = cells[(cells["upstream"] == "inject") & (cells["downstream"] == "none")]
    return {1.0, -1.0} <= set(alone["upstream_dose"])


def moved(displaced: pd.DataFrame, arms: Collection[str]) -> bool | None:
    """Whether each of these arms moved x; None where it is unknown for one, or where there is no arm.

    displaced: the rows of one study in `displacements`.
    """
    answers = [_answer(value) for value in displaced.loc[displaced["arm"].isin(list(arms)), "moved"]]
    return None if not answers or None in answers else all(answers)


def contradictions(cells: pd.DataFrame, coefficients: pd.DataFrame, arms: Collection[str]) -> tuple[str, ...]:
    """What of A and W says that there is transfer: "W", and the arms whose effect does. One study and outcome.

    W: the 95 % interval of its slope on x leaves out 0; the arms of a positive control in the study itself are left out of it.
    A: the effect of an arm that treats the model (`arms`) and leaves the data alone is significant at 5 % after Holm's
    correction. Reinitialised and permuted models count here, though not in W: a claim of absence is refused on the safe side.
    What is unknown contradicts nothing.
    """
    if has_positive_control(cells):
        within = displacement(cells[cells["upstream"] != "inject"])
    else:
        within = coefficients[coefficients["estimand"] == "W"]
    slope = within[within["term"] == "x"]
    alone = set(cells.loc[cells["downstream"] == "none", "arm"]) & set(arms)
    effects = coefficients[(coefficients["estimand"] == "A") & coefficients["term"].isin(alone)]
    significant = effects.loc[effects["p_adjusted"] < SIGNIFICANT, "term"]
    return (*(["W"] if leaves_out_zero(slope) else []), *map(str, significant))


def leaves_out_zero(rows: pd.DataFrame) -> bool:
    """Whether one of the rows has a 95 % interval without 0."""
    return bool(((rows["low"] > 0) | (rows["high"] < 0)).any())


@dataclass(frozen=True)
class Verdict:
    """The conditions of a claim of "no transfer"; None and NaN are unknown, which is not enough."""

    equivalent: bool | None
    """Whether the slope is equivalent to 0 at the stated margin."""
    includes_zero: bool | None
    """Whether the 95 % interval of the slope includes 0."""
    moved: bool | None
    """Whether the arms moved x."""
    reliability: float
    """Cronbach's alpha of x."""
    positive_control: bool | None
    """Whether planted transfer was found with this model and these settings."""
    contradicted_by: tuple[str, ...] = ()
    """`contradictions`."""
    untested: str = ""
    """Why equivalence was not tested."""

    @property
    def licensed(self) -> bool:
        """Whether "no transfer" may be claimed."""
        return bool(
            self.equivalent and self.includes_zero and self.moved and self.reliability >= RELIABLE and self.positive_control
        ) and not self.contradicted_by  # fmt: skip


def no_transfer(
    slope: Mapping[Any, Any],
    moved: bool | None,
    reliability: float,
    positive_control: bool | None = None,
    contradicted_by: tuple[str, ...] = (),
) -> Verdict:
    """Whether "no transfer" may be claimed (docs/science.md, "No transfer"): all conditions are needed.

    slope: B's row on x (`compare_with_margins`); moved: of the arms that treat the model (`moved`); reliability: of x
    (`reliability.reliability`); positive_control: `positive_control.ControlResult.passed`.
    """
    includes_zero = None if pd.isna(slope["low"]) else bool(slope["low"] <= 0 <= slope["high"])
    return Verdict(
        _answer(slope["equivalent"]), includes_zero, _answer(moved), reliability, _answer(positive_control), contradicted_by,
        str(slope["untested"]),
    )  # fmt: skip


def _answer(value: Any) -> bool | None:
    """Frames turn None into NaN, and True into numpy's True, which is another object."""
    return None if pd.isna(value) else bool(value)
