"""Absence is a claim of its own: equivalence tests, the smallest margin that would pass, and when "no transfer" may be said."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.estimands.caveats import RELIABLE
from analysis.data.runs import UNTOUCHED
from analysis.stats.quantiles import t_quantile
from analysis.estimands.sentences import studies

MOVED = 0.2
"""x moved where the interval of its displacement, in SD of the untouched model, lies above this (ours)."""


def smallest_margin(low_90: float, high_90: float) -> float:
    """The margin that a test of equivalence at 5 % just passes: two one-sided tests are a 90 % interval within the margin
    (Schuirmann 1987)."""
    return max(abs(low_90), abs(high_90))


def passes(low_90: float, high_90: float, margin: float | None) -> bool | None:
    """Whether the test passes; None where there is no margin or no interval."""
    smallest = smallest_margin(low_90, high_90)
    return None if margin is None or math.isnan(margin) or math.isnan(smallest) else bool(smallest < margin)


def judge(
    coefficients: pd.DataFrame,
    slope: float | None = None,
    arms: float | None = None,
    untouched: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """coefficients: `sentences.COLUMNS`. slope: margin of B's and W's coefficients per SD of x or z, in the outcome's unit;
    arms: margin of A's effects as a share of the untouched arm's size of bias, which `untouched` gives (`sizes`). None:
    not tested. Both are to be stated before the data are seen.

    Adds smallest_margin (always), margin (in the outcome's unit), equivalent (True, False or None) and equivalence (words).
    """
    margins = [_margin(row, slope, arms, untouched) for row in coefficients.to_dict("records")]
    ends = list(zip(coefficients["low_90"], coefficients["high_90"], strict=True))
    smallest = [smallest_margin(*end) for end in ends]
    passed = [passes(*end, margin) for end, margin in zip(ends, margins, strict=True)]
    told = [_told(*one) for one in zip(passed, margins, smallest, coefficients["unit"], strict=True)]
    numbers = [math.nan if margin is None else margin for margin in margins]
    equivalent = pd.Series(passed, dtype=object, index=coefficients.index)
    return coefficients.assign(smallest_margin=smallest, margin=numbers, equivalent=equivalent, equivalence=told)


def _margin(
    row: Mapping[object, object], slope: float | None, arms: float | None, untouched: pd.DataFrame | None
) -> float | None:
    if row["estimand"] in ("B", "W"):
        return slope if row["term"] in ("x", "z") else None
    if row["estimand"] != "A" or arms is None or untouched is None:
        return None
    own = untouched[
        (untouched["study"] == row["study"]) & (untouched["outcome"] == row["outcome"]) & (untouched["term"] == UNTOUCHED)
        & (untouched["estimand"] == "size")
    ]  # fmt: skip
    return arms * float(own["coefficient"].iloc[0]) if len(own) else None


def _told(passed: bool | None, margin: float | None, smallest: float, unit: str) -> str:
    if math.isnan(smallest):
        return "Not tested: there is no interval."
    would = f"the smallest margin that would pass is {smallest:.3g} {unit}"
    if passed is None:
        return f"Not tested: no margin was stated; {would}."
    verb = "passes" if passed else "does not pass"
    return f"Equivalence to 0 {verb} at a margin of {margin:.3g} {unit} (two one-sided tests at 5 %); {would}."


def displacements(cells: pd.DataFrame) -> pd.DataFrame:
    """Did x move? study, arm, displacement, low, high, groups, seeds, moved, reason: the root mean square over groups and
    seeds of x(arm) - x(untouched), in SD of the untouched model; 95 % interval by leaving out each group (t on the square);
    moved: it lies above `MOVED`. Arms that leave x alone by design (no upstream arm) are not listed."""
    rows = []
    for context, own in studies(cells, "x"):
        base = own[own["arm"] == UNTOUCHED].groupby("group")["x"].mean()
        for arm, treated in own[own["upstream"] != "none"].groupby("arm", sort=False):
            away = (treated["x"] - treated["group"].map(base)) / context.scales["x"]
            squares = (away**2).groupby(treated["group"]).mean().replace(np.inf, math.nan).dropna()
            named = {"study": context.study, "arm": arm, "groups": len(squares), "seeds": treated["seed"].nunique()}
            rows.append(named | _root_mean(squares.to_numpy(float)))
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
    """Whether "no transfer" may be said, and what it lacks."""

    licensed: bool
    lacking: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """In words; where it is not licensed, nothing is claimed either way."""
        if self.licensed:
            return (
                "No transfer, within the stated margin: equivalence passes, x moved, x is reliable, and the positive control "
                "passed on this model and these settings."
            )
        return f"'No transfer' is not licensed: {'; '.join(self.lacking)}."


def _answer(value: Any) -> bool | None:
    """Frames turn None into NaN, and True into numpy's, which is another object."""
    return None if pd.isna(value) else bool(value)


def no_transfer(
    equivalent: bool | None, moved: bool | None, reliability: float, positive_control: bool | None = None
) -> Verdict:
    """SCIENCE.md, "No transfer": all four are needed; None and NaN are unknown, which is not enough.

    equivalent: of the primary row (`judge`); moved: of the arms that it rests on (`displacements`); reliability: Cronbach's
    alpha of x (`limits.reliability`); positive_control: whether planted transfer was found on this model and settings.
    """
    equivalent, moved, positive_control = map(_answer, (equivalent, moved, positive_control))
    known = not math.isnan(reliability)
    asked = {
        "no margin was stated, so equivalence was not tested": equivalent is None,
        "equivalence does not pass at the stated margin": equivalent is False,
        "it is not known whether x moved": moved is None,
        f"x did not move (by more than {MOVED} SD)": moved is False,
        "the reliability of x is not known": not known,
        f"the reliability of x is {reliability:.2f}, below {RELIABLE}": known and reliability < RELIABLE,
        "it is not known whether the positive control passed on this model and these settings": positive_control
        is None,
        "the positive control did not pass": positive_control is False,
    }
    lacking = tuple(text for text, lacks in asked.items() if lacks)
    return Verdict(not lacking, lacking)
