"""The package versions with which trials ran, as their runs recorded them."""

from __future__ import annotations

from collections import Counter

from analysis.data.runs import Runs


def versions(runs: Runs, uri: str | None = None) -> dict[str, Counter[str]]:
    """Package -> version -> number of finished trials that ran with it. Packages and versions are sorted by name.

    A package that no trial recorded is absent; the numbers of a package sum to less than all trials where some did not record
    it.
    """
    from bias_transfer.tracking import (
        results,  # late: it loads MLflow
        store,  # late: it loads MLflow
    )

    client = store.connect(uri)
    of_trial: dict[str, dict[str, str]] = {}
    for sweep in runs.sweeps:
        of_trial = results.versions(client, sweep.experiment, sweep.trials) | of_trial
    pairs = Counter(pair for of_packages in of_trial.values() for pair in of_packages.items())
    counted: dict[str, Counter[str]] = {}
    for (package, version), trials in sorted(pairs.items()):
        counted.setdefault(package, Counter())[version] = trials
    return counted
