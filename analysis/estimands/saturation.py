"""Trials whose rates say nothing of differences between groups."""

from __future__ import annotations

import pandas as pd

from analysis.data.runs import OUTCOMES

FLOOR, CEILING = 0.01, 0.99
"""A trial is saturated where all groups' rates lie at or beyond one of these (ours)."""


def saturation(cells: pd.DataFrame) -> pd.DataFrame:
    """study, arm, lowest, highest, saturated, trials: arms with trials in which all groups' rates lie at the floor or at
    the ceiling, how many of the arm's trials these are, and the rates' range in them."""
    rates = cells[cells["outcome"].map(lambda name: OUTCOMES[name].rate)]
    key = ["study", "arm"]
    ends = rates.groupby([*key, "trial"], sort=False)["y_rate"].agg(lowest="min", highest="max").reset_index()
    ends["trials"] = ends.groupby(key)["trial"].transform("size")
    blunt = ends[(ends["highest"] <= FLOOR) | (ends["lowest"] >= CEILING)].assign(saturated=1)
    how = {"lowest": "min", "highest": "max", "saturated": "sum", "trials": "first"}
    return blunt.groupby(key, sort=False).agg(how).reset_index()
