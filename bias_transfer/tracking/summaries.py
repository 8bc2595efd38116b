"""One run per arm, next to the trials' runs, so that MLflow's UI compares a few arms and not hundreds of trials."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlflow.entities as entities
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from bias_transfer.tracking.store import KIND, open_experiment, search, source

SUMMARY = "arm"
"""Value of the tag `KIND`: such a run is no trial, and no seed is among its parameters."""

ARM, ARM_OF = "bias_transfer.arm", "bias_transfer.arm_of"
"""Tags of a summary: its name, and the sweep's parent run. It is no child of that run: MLflow's table folds children away, and
arms are what it should show first."""


@dataclass(frozen=True)
class ArmSummary:
    """An arm of a study, over its seeds."""

    name: str
    """Of the run: unique in a sweep."""
    parameters: Mapping[str, str]
    metrics: Mapping[str, float]
    """Without missing values."""


def write(client: MlflowClient, experiment: str, parent: str, summaries: Sequence[ArmSummary]) -> None:
    """Write a run per arm of the sweep with this parent run. Those of an earlier analysis are replaced."""
    experiment_id = open_experiment(client, experiment)
    query = f"tags.`{KIND}` = '{SUMMARY}' AND tags.`{ARM_OF}` = '{parent}'"
    for run in search(client, experiment_id, query):
        client.delete_run(run.info.run_id)
    for summary in summaries:
        tags = {KIND: SUMMARY, ARM: summary.name, ARM_OF: parent, **source()}
        run_id = client.create_run(experiment_id, run_name=f"arm: {summary.name}", tags=tags).info.run_id
        now = int(time.time() * 1000)
        client.log_batch(
            run_id,
            metrics=[entities.Metric(name, value, now, 0) for name, value in summary.metrics.items()],
            params=[entities.Param(name, value) for name, value in summary.parameters.items()],
        )
        client.set_terminated(run_id, "FINISHED")


def describe(client: MlflowClient, run_id: str, text: str) -> None:
    """Set the description of a run, which MLflow's UI shows on top as Markdown."""
    client.set_tag(run_id, MLFLOW_RUN_NOTE, text)


def plain(tags: Mapping[str, Any]) -> dict[str, str]:
    """Tags or parameters as MLflow takes them, without those that are not set."""
    return {name: str(value) for name, value in tags.items() if value is not None and value == value}
