"""The rows that estimands return: their columns, what the rows of one study share, and which trials are saturated or
without an outcome.

Rows hold numbers with their units. Sentences about them are made in `analysis.report.wording`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from analysis.data.cells import Outcome, outcome_named

NUMBERS = (
    "coefficient", "standard_error", "low", "high", "low_90", "high_90", "p", "p_permutation", "p_adjusted", "crv1_error",
    "crv1_low", "crv1_high", "crv3_low", "crv3_high", "two_way_error", "two_way_low", "two_way_high", "scale",
)  # fmt: skip

COLUMNS = (
    "study", "outcome", "estimand", "term", *NUMBERS, "n", "clusters", "seeds", "models", "draws", "unit", "method",
    "reason", "n_groups", "adjusted_for",
)  # fmt: skip
"""Columns of the coefficients frame.

low, high: the default 95 % interval, by `method`; low_90, high_90: the 90 % interval, for the equivalence test at 5 %;
standard_error: CRV3 (B, W) or over seeds (A); p_permutation: over groups (B, W) or by the signs of paired seeds (A);
p_adjusted: Holm over the arms (A); clusters: what the interval counts as independent: groups (B, W), models or, with one model,
its seeds (A, size); seeds, models, draws: how many trials of the arm (A: pairs), and of how many models and draws; scale:
raw units in one SD; reason: why a number or an interval is missing; n_groups: groups that the number is about; adjusted_for:
the other terms of the fit (B, W).
"""

UNIT_PER = {"z_level": "unit of share", "z_log": "log share"}
"""Term -> the unit of the regressor, where that is not the SD."""

FLOOR, CEILING = 0.01, 0.99
"""A trial is saturated where the rates of all groups are at or beyond one of these (ours)."""


def regressor(term: str) -> str:
    """The regressor whose coefficient a term shows: x for `x | plain`."""
    return term.partition(" | ")[0]


@dataclass(frozen=True)
class RowContext:
    """What the rows of one study and estimand share."""

    study: str
    estimand: str
    metric: str
    """The downstream metric."""
    scales: Mapping[str, float] = field(default_factory=dict)
    """Term -> raw units in one SD."""

    @property
    def outcome(self) -> Outcome:
        """The transformation and unit of the downstream metric."""
        return outcome_named(self.metric)

    def row(self, term: str, **values: Any) -> dict[str, Any]:
        """A row of the coefficients frame; numbers that are not given are NaN."""
        key = {"study": self.study, "outcome": self.metric, "estimand": self.estimand, "term": term}
        counts = dict.fromkeys(("n", "clusters", "seeds", "models", "draws", "n_groups"), 0)
        defaults = {**counts, "unit": "", "method": "", "reason": "", "adjusted_for": ""}
        return key | dict.fromkeys(NUMBERS, math.nan) | defaults | values


def studies(cells: pd.DataFrame, estimand: str) -> Iterable[tuple[RowContext, pd.DataFrame]]:
    """Each study's cells, with what its rows share."""
    for study, of_study in cells.groupby("study", sort=False):
        scales = {"x": float(of_study["x_scale"].iloc[0]), "z": float(of_study["z_scale"].iloc[0])}
        yield RowContext(str(study), estimand, str(of_study["outcome"].iloc[0]), scales), of_study


def frame(rows: Iterable[Mapping[str, Any]], columns: Sequence[str] = COLUMNS) -> pd.DataFrame:
    """Rows as a frame that has its columns even where there are no rows."""
    return pd.DataFrame(list(rows), columns=list(columns))


def saturation(cells: pd.DataFrame) -> pd.DataFrame:
    """study, arm, lowest, highest, saturated, trials: the arms with saturated trials.

    saturated: how many of the arm's `trials` have the rates of all groups at the floor or at the ceiling; lowest, highest:
    the range of the rates in them. Such trials carry no information on differences between groups.
    """
    rates = cells[cells["outcome"].map(lambda name: outcome_named(name).rate)]
    key = ["study", "arm"]
    ends = rates.groupby([*key, "trial"], sort=False)["y_rate"].agg(lowest="min", highest="max").reset_index()
    ends["trials"] = ends.groupby(key)["trial"].transform("size")
    at_an_end = ends[(ends["highest"] <= FLOOR) | (ends["lowest"] >= CEILING)].assign(saturated=1)
    how = {"lowest": "min", "highest": "max", "saturated": "sum", "trials": "first"}
    return at_an_end.groupby(key, sort=False).agg(how).reset_index()


def unlogged(cells: pd.DataFrame) -> dict[str, int]:
    """Study -> the most phrases that a group has, for studies whose outcome is a logarithm that no group has a value of: with
    fewer than `LEAST_FOR_LOGS` phrases none is given."""
    of_logs = cells[cells["outcome"].map(lambda name: outcome_named(name).logs)]
    missing = of_logs.groupby("study", sort=False).filter(lambda study: study["y"].isna().all())
    return {str(study): int(n) for study, n in missing.groupby("study", sort=False)["y_n"].max().items()}
