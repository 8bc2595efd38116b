"""Rows of the coefficients frame, and their plain sentences in the poster's kind: "goes with", and an interval."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from analysis.data.runs import OUTCOMES
from analysis.data.runs import Outcome

NUMBERS = (
    "coefficient", "standard_error", "low", "high", "low_90", "high_90", "p", "p_permutation", "p_adjusted", "crv1_error",
    "crv1_low", "crv1_high", "crv3_low", "crv3_high", "two_way_error", "two_way_low", "two_way_high", "scale",
)  # fmt: skip

COLUMNS = ("study", "outcome", "estimand", "term", *NUMBERS, "n", "clusters", "unit", "method", "sentence", "reason")
"""low, high: the default 95 % interval, by `method`; low_90, high_90: that of the equivalence test at 5 %; standard_error:
CRV3 (B, W) or over seeds (A); p_permutation: over groups (B, W) or by signs of paired seeds (A); p_adjusted: Holm over the
arms (A); clusters: groups (B, W, size) or paired seeds (A); scale: raw units in one SD; reason: why a number, or an
interval, is missing."""

HEADS = {
    "B": "Across {groups} groups of the untouched model",
    "W": "Within {groups} groups, over the arms' displacements",
}
TAILS = {"B": "", "W": "; causal only if the arms reach the outcome through x and z alone"}
STEPS = {
    "x": (0.1, "0.1 SD (= {raw:.3g} in raw units) higher upstream bias, at equal dataset bias,"),
    "z": (0.1, "0.1 SD (= {raw:.3g} on the logit scale) higher dataset bias, at equal upstream bias,"),
    "z_level": (0.1, "10 percentage points more dataset bias, at equal upstream bias,"),
    "x | words": (
        0.1,
        "0.1 SD (= {raw:.3g} in raw units) higher upstream bias, at equal dataset bias, and at equal numbers of words in "
        "a group's name (exploratory),",
    ),
    "z_log": (math.log(1.1), "10 % (relative) more dataset bias, at equal upstream bias,"),
}
"""Term -> the step that its sentence speaks of, in the term's unit."""

PER = {"z_level": "unit of share", "z_log": "log share"}
"""Term -> its unit, where that is not the SD."""


def regressor(term: str) -> str:
    """Whose coefficient a term shows: x for `x | words`."""
    return term.partition(" | ")[0]


@dataclass(frozen=True)
class Context:
    """What the rows of one study and estimand share."""

    study: str
    estimand: str
    metric: str
    scales: Mapping[str, float] = field(default_factory=dict)
    """Term -> raw units in one SD."""

    @property
    def outcome(self) -> Outcome:
        """How the metric enters."""
        return OUTCOMES[self.metric]

    def row(self, term: str, **values: Any) -> dict[str, Any]:
        """A row of the coefficients frame; what is not given is missing."""
        fixed = {"study": self.study, "outcome": self.metric, "estimand": self.estimand, "term": term}
        rest = {"n": 0, "clusters": 0, "unit": "", "method": "", "sentence": "", "reason": ""}
        return fixed | dict.fromkeys(NUMBERS, math.nan) | rest | values

    def change(self, *values: float) -> list[str]:
        """Differences of y in words: per cent where y is a log, else in its unit."""
        if self.outcome.logs:
            return [percent(value) for value in values]
        return [f"{value:+.3g} {self.outcome.unit}" for value in values]

    @property
    def noun(self) -> str:
        """What follows such a difference."""
        return self.outcome.label if self.outcome.logs else f"of {self.outcome.label}"


def studies(cells: pd.DataFrame, estimand: str) -> Iterable[tuple[Context, pd.DataFrame]]:
    """Each study's cells with what its rows share."""
    for study, own in cells.groupby("study", sort=False):
        scales = {"x": float(own["x_scale"].iloc[0]), "z": float(own["z_scale"].iloc[0])}
        yield Context(str(study), estimand, str(own["outcome"].iloc[0]), scales), own


def frame(rows: Iterable[Mapping[str, Any]], columns: Sequence[str] = COLUMNS) -> pd.DataFrame:
    """Rows -> frame, with its columns even where there is no row."""
    return pd.DataFrame(list(rows), columns=list(columns))


def percent(difference: float) -> str:
    """A difference of logs as per cent; beyond a tenfold, where per cent lose their meaning, as a factor."""
    if math.isinf(difference):
        return "no bound"
    if difference > math.log(10):
        return f"a factor of {math.exp(difference):.2g}"
    value = 100 * math.expm1(difference)
    return f"{value:+.1f} %" if abs(value) >= 1 else f"{value:+.2f} %"


def association(term: str, values: Sequence[float], groups: int, context: Context) -> str:
    """values: coefficient, low, high, per SD or in the term's unit; NaN bounds are said to be missing."""
    head, tail = HEADS[context.estimand].format(groups=groups), TAILS[context.estimand]
    if term == "x - z":
        middle, *bounds = (f"{value:+.3g}" for value in values)
        what = f"the coefficient of upstream less that of dataset bias is {middle} per SD"
    else:
        step, words = STEPS[term]
        if math.isnan(context.scales.get("z", 0.0)):
            words = words.replace(", at equal dataset bias,", " (the fine-tuning set names no group)")
        middle, *bounds = context.change(*(step * value for value in values))
        scale = context.scales.get(regressor(term), 1.0)
        what = f"{words.format(raw=step * scale)} goes with {middle} {context.noun}"
    return f"{head}, {what} ({interval(values, bounds)}){tail}."


def interval(values: Sequence[float], bounds: Sequence[str], otherwise: str = "no interval") -> str:
    """values: coefficient, low, high; bounds: low and high in words."""
    return otherwise if math.isnan(values[1]) else f"95 % interval {bounds[0]} to {bounds[1]}"
