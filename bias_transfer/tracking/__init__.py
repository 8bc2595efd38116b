"""Runs in MLflow: only this folder imports it. One parent run a sweep, one run a trial, found again by the trial's id.

What others use of it is named here; they need not know its parts.
"""

from __future__ import annotations

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")

from mlflow import MlflowClient

from bias_transfer.tracking.lease import HeldError, Lease, alive, held
from bias_transfer.tracking.patience import full_disk, patiently, transient
from bias_transfer.tracking.results import MEASURE_COLUMNS, artifact, headlines, long_table, unreadable
from bias_transfer.tracking.runs import DONE, Recorded, failed, finished
from bias_transfer.tracking.store import (
    DEFAULT_URI,
    ERROR,
    GRID,
    KIND,
    MEASURES,
    RESULT,
    SQLITE,
    SWEEP,
    TRIAL,
    client_of,
    connect,
    exists,
    open_experiment,
    option,
    shown,
    tracking_uri,
)
from bias_transfer.tracking.sweeps import (
    Primary,
    Sweep,
    attach,
    attached,
    close_sweep,
    has_parent,
    measures,
    open_sweep,
    read,
)
from bias_transfer.tracking.trials import begin, fail, interrupt, record, start
from bias_transfer.tracking.watch import Progress, experiments, watch

__all__ = [
    "DEFAULT_URI",
    "DONE",
    "ERROR",
    "GRID",
    "KIND",
    "MEASURES",
    "MEASURE_COLUMNS",
    "RESULT",
    "SQLITE",
    "SWEEP",
    "TRIAL",
    "HeldError",
    "Lease",
    "MlflowClient",
    "Primary",
    "Progress",
    "Recorded",
    "Sweep",
    "alive",
    "artifact",
    "attach",
    "attached",
    "begin",
    "client_of",
    "close_sweep",
    "connect",
    "exists",
    "experiments",
    "fail",
    "failed",
    "finished",
    "full_disk",
    "has_parent",
    "headlines",
    "held",
    "interrupt",
    "long_table",
    "measures",
    "open_experiment",
    "open_sweep",
    "option",
    "patiently",
    "read",
    "record",
    "shown",
    "start",
    "tracking_uri",
    "transient",
    "unreadable",
    "watch",
]
