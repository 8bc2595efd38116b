"""What a sweep makes of a Ray Tune that breaks."""

from __future__ import annotations

import contextlib
import threading
from types import SimpleNamespace

import pytest

from bias_transfer.spec import Trial
from bias_transfer.sweep import tune as sweep_tune
from bias_transfer.sweep.worker import Where

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("how", ["memory", "disk"])
def test_what_has_not_ended_when_tune_breaks_is_undone_and_told(tmp_path, monkeypatch, how):
    """As where a worker without memory leaves an answer that Tune's own display cannot read, or Tune's folder has no room."""
    from ray import tune

    class Broken:
        def __init__(self, *words, **settings):
            if how == "disk":
                raise OSError(28, "Error writing bytes to file. Detail: [errno 28] No space left on device")

        def fit(self):
            raise tune.TuneError("Traceback (most recent call last):\n  ...\nMemoryError: no room")

    monkeypatch.setenv("BIAS_TRANSFER_CACHE", str(tmp_path))
    monkeypatch.setattr(tune, "Tuner", Broken)
    monkeypatch.setattr(tune, "with_resources", lambda one, resources: one)
    monkeypatch.setattr(tune, "with_parameters", lambda one, **given: one)
    monkeypatch.setattr(sweep_tune, "running_ray", lambda address: contextlib.nullcontext())
    monkeypatch.setattr(sweep_tune, "_per_trial", lambda scheduling, threads: {})
    trials = [Trial(seed=seed, data_digest="d", model_digest="m") for seed in range(2)]
    plan = SimpleNamespace(experiment="small", todo=trials, labels={trial.id: trial.label for trial in trials})
    where = Where("small", "parent", "sqlite:///x.db", 1.0)
    outcomes = sweep_tune.run_trials(plan, where, sweep_tune.Scheduling(), threading.Event())
    why = "MemoryError: no room" if how == "memory" else f"the disk of {tmp_path / 'ray'} is full"
    assert {key: (one.state, one.why) for key, one in outcomes.items()} == {
        trial.id: ("incomplete", f"Ray Tune stopped: {why}") for trial in trials
    }
