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

from bias_transfer.tracking.lease import HeldError
from bias_transfer.tracking.lease import Lease
from bias_transfer.tracking.lease import alive
from bias_transfer.tracking.lease import held
from bias_transfer.tracking.retry import full_disk
from bias_transfer.tracking.retry import patiently
from bias_transfer.tracking.retry import transient
from bias_transfer.tracking.results import MEASURE_COLUMNS
from bias_transfer.tracking.results import artifact
from bias_transfer.tracking.results import headlines
from bias_transfer.tracking.results import long_table
from bias_transfer.tracking.results import unreadable
from bias_transfer.tracking.runs import DONE
from bias_transfer.tracking.runs import Recorded
from bias_transfer.tracking.runs import failed
from bias_transfer.tracking.runs import finished
from bias_transfer.tracking.store import DEFAULT_URI
from bias_transfer.tracking.store import ERROR
from bias_transfer.tracking.store import GRID
from bias_transfer.tracking.store import KIND
from bias_transfer.tracking.store import MEASURES
from bias_transfer.tracking.store import RESULT
from bias_transfer.tracking.store import SQLITE
from bias_transfer.tracking.store import SWEEP
from bias_transfer.tracking.store import TRIAL
from bias_transfer.tracking.store import client_of
from bias_transfer.tracking.store import connect
from bias_transfer.tracking.store import exists
from bias_transfer.tracking.store import open_experiment
from bias_transfer.tracking.store import option
from bias_transfer.tracking.store import shown
from bias_transfer.tracking.store import tracking_uri
from bias_transfer.tracking.sweeps import Primary
from bias_transfer.tracking.sweeps import Sweep
from bias_transfer.tracking.sweeps import attach
from bias_transfer.tracking.sweeps import attached
from bias_transfer.tracking.sweeps import close_sweep
from bias_transfer.tracking.sweeps import has_parent
from bias_transfer.tracking.sweeps import measures
from bias_transfer.tracking.sweeps import open_sweep
from bias_transfer.tracking.sweeps import read
from bias_transfer.tracking.recorder import begin
from bias_transfer.tracking.recorder import fail
from bias_transfer.tracking.recorder import interrupt
from bias_transfer.tracking.recorder import record
from bias_transfer.tracking.recorder import start
from bias_transfer.tracking.progress import Progress
from bias_transfer.tracking.progress import experiments
from bias_transfer.tracking.progress import watch

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
