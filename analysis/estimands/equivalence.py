"""Evidence of absence: equivalence tests, the smallest margin that passes, and when "no transfer" may be claimed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.data.runs import UNTOUCHED
from analysis.estimands.reliability import RELIABLE
from analysis.estimands.rows import studies
from analysis.stats.inference import t_quantile

MOVED = 0.2
"""An arm moved x if the interval of its displacement, in SD of the untouched model, is above this (ours)."""


def smallest_margin(low_90: float, high_90: float) -> float:
    """The smallest margin at which a test of equivalence at 5 % passes.

    Two one-sided tests pass where the 90 % interval is within the margin (Schuirmann 1987).
    """
    return max(abs(low_90), abs(high_90))


def passes(low_90: float, high_90: float, margin: float | None) -> bool | None:
    """Whether the test of equivalence passes; None where there is no margin or no interval."""
    smallest = smallest_margin(low_90, high_90)
    return None if margin is None or math.isnan(margin) or math.isnan(smallest) else bool(smallest < margin)


def compare_with_margins(
    coefficients: pd.DataFrame,
    slope: float | None = None,
    arms: float | None = None,
    untouched: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """The coefficients with smallest_margin, margin (both in the outcome's unit) and equivalent (True, False or None).

    coefficients: `rows.COLUMNS`. slope: margin of B's and W's coefficients per SD of x or z, in the outcome's unit; arms:
    margin of A's effects as a share of the untouched arm's size of bias, which is taken from `untouched` (`bias_size.sizes`).
    Without a margin nothing is tested. Margins have to be stated before the data are seen.
    """
    margins = [_margin(row, slope, arms, untouched) for row in coefficients.to_dict("records")]
    intervals = list(zip(coefficients["low_90"], coefficients["high_90"], strict=True))
    smallest = [smallest_margin(*interval) for interval in intervals]
    passed = [passes(*interval, margin) for interval, margin in zip(intervals, margins, strict=True)]
    numbers = [math.nan if margin is None else margin for margin in margins]
    equivalent = pd.Series(passed, dtype=object, index=coefficients.index)
    return coefficients.assign(smallest_margin=smallest, margin=numbers, equivalent=equivalent)


def _margin(
    row: Mapping[object, object], slope: float | None, arms: float | None, untouched: pd.DataFrame | None
) -> float | None:
    if row["estimand"] in ("B", "W"):
        return slope if row["term"] in ("x", "z") else None
    if row["estimand"] != "A" or arms is None or untouched is None:
        return None
    size = untouched[
        (untouched["study"] == row["study"]) & (untouched["outcome"] == row["outcome"]) & (untouched["term"] == UNTOUCHED)
        & (untouched["estimand"] == "size")
    ]  # fmt: skip
    return arms * float(size["coefficient"].iloc[0]) if len(size) else None


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


@dataclass(frozen=True)
class Verdict:
    """The four conditions of a claim of "no transfer"; None and NaN are unknown, which is not enough."""

    equivalent: bool | None
    """Whether the slope is equivalent to 0 at the stated margin."""
    moved: bool | None
    """Whether the arms moved x."""
    reliability: float
    """Cronbach's alpha of x."""
    positive_control: bool | None
    """Whether planted transfer was found with this model and these settings."""

    @property
    def licensed(self) -> bool:
        """Whether "no transfer" may be claimed."""
        return bool(self.equivalent and self.moved and self.reliability >= RELIABLE and self.positive_control)


def _answer(value: Any) -> bool | None:
    """Frames turn None into NaN, and True into numpy's True, which is another object."""
    return None if pd.isna(value) else bool(value)


def no_transfer(
    equivalent: bool | None, moved: bool | None, reliability: float, positive_control: bool | None = None
) -> Verdict:
    """Whether "no transfer" may be claimed (docs/science.md, "No transfer"): all four conditions are needed.

    equivalent: of the primary row (`compare_with_margins`); moved: of the arms that it rests on (`displacements`);
    reliability: of x (`reliability.reliability`); positive_control: `positive_control.ControlResult.passed`.
    """
    equivalent, moved, positive_control = map(_answer, (equivalent, moved, positive_control))
    return Verdict(equivalent, moved, reliability, positive_control)
