"""Pairs of trials, an arm and the untouched one with the same seed, whose bits differ for another reason than the arm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from analysis.data.runs import UNTOUCHED

if TYPE_CHECKING:  # it loads MLflow
    from bias_transfer.tracking.runs import Conditions


@dataclass(frozen=True)
class MixedPairs:
    """The pairs of one arm that ran on two kinds of machine, or with two sets of packages."""

    arm: str
    machines: int
    """Pairs whose fingerprints differ."""
    versions: int
    """Pairs whose package versions differ."""
    of: int
    """All pairs of the arm whose machines were recorded."""


def mixed_pairs(table: pd.DataFrame, conditions: Mapping[str, Conditions]) -> tuple[MixedPairs, ...]:
    """The arms of one study with such pairs. A trial whose machine was not recorded is left out.

    table: that of `runs.Runs.table`; conditions: by trial id.
    """
    trials = table[["arm", "seed", "trial"]].drop_duplicates().astype({"arm": str, "trial": str})
    known = trials[[trial in conditions and bool(conditions[trial].machine) for trial in trials["trial"]]]
    untouched = known[known["arm"] == UNTOUCHED]
    pairs = known[known["arm"] != UNTOUCHED].merge(untouched, on="seed", suffixes=("", "_untouched"))
    mixed = []
    for arm, of_arm in pairs.groupby("arm", sort=False):
        both = [
            (conditions[one], conditions[other])
            for one, other in zip(of_arm["trial"], of_arm["trial_untouched"], strict=True)
        ]
        machines = sum(one.machine != other.machine for one, other in both)
        versions = sum(one.versions != other.versions for one, other in both)
        if machines or versions:
            mixed.append(MixedPairs(str(arm), machines, versions, len(both)))
    return tuple(mixed)
