"""Where each trial ran, as its run recorded it, and whether it was imported from another store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from analysis.data.runs import Runs

if TYPE_CHECKING:  # it loads MLflow
    from bias_transfer.tracking.runs import Conditions

COLUMNS = ("trial", "name", "machine", "versions", "imported")


def machines(runs: Runs, conditions: Mapping[str, Conditions]) -> pd.DataFrame:
    """One row per finished trial: its id, its name, the machine's fingerprint, the versions of packages (both empty where they
    were not recorded), and the digest of the file that it was imported from (empty if it ran into this store).

    conditions: by trial id.
    """
    missing = {trial.id for trial in runs.missing}
    rows = [
        (trial.id, runs.labels[trial.id].name, ran.machine, ran.versions, ran.imported)
        for trial in runs.trials
        if trial.id not in missing and (ran := conditions.get(trial.id))
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype=str)
