"""The environment variables of every Ray that a sweep starts, on this machine or in the nodes of an allocation."""

from __future__ import annotations

STARTING = 120
"""Seconds that each part of a Ray started here has to come up; 30 were too few on an overloaded machine."""

QUIET = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a relative path means the same in every process
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # its banner; we show the progress
    "TUNE_MAX_PENDING_TRIALS_PG": "4",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # files of each trial's result, which nobody reads
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # Tune's own state; no sweep is restored from it
    "TOKENIZERS_PARALLELISM": "false",
    "MALLOC_ARENA_MAX": "1",  # each trial of a warm worker is a new thread, and would leave a memory arena behind
    "RAY_gcs_server_port_wait_time_s": f"{STARTING}",
    "RAY_raylet_start_wait_time_s": f"{STARTING}",
    "RAY_agent_register_timeout_ms": f"{STARTING * 1000}",
}
"""Set before Ray starts, and so in its workers too."""

CLOSED = {
    "RAY_AUTH_MODE": "token",
    "AUTOSCALER_METRIC_PORT": "70000",
    "DASHBOARD_METRIC_PORT": "70000",
    "RAY_enable_metrics_collection": "0",
}
"""Of a Ray whose ports other machines reach. Ray's Prometheus servers would answer without a token; 70000 is no valid port, and
turns them off."""

ALLOCATION = "BIAS_TRANSFER_ALLOCATION"
"""Set for a sweep's driver in a SLURM allocation: the command by which the user starts the sweep again. Its workers find the
code where the driver finds it, so Ray need not send it."""
