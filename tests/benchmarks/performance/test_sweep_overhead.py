"""How the benchmarks of overhead and start-up summarise their measurements."""

from __future__ import annotations

import pytest

from benchmarks.performance import start_up
from benchmarks.performance.empty_sweep import returned
from benchmarks.performance.load_stores import EXPERIMENT
from benchmarks.performance.sweep_overhead import Cost, cells, counted, page
from bias_transfer.spec import Trial
from bias_transfer.tracking import recorder, store


def test_overhead_per_trial_is_the_excess_over_the_shortest_sweep():
    short = [Cost("ours", 10, wall, 5.0, 700, 0, 0) for wall in (30.0, 20.0, 21.0)]
    rows = cells([*short, Cost("ours", 110, 27.0, 6.0, 712.4, 1, 2), Cost("plain", 10, 9, 9, 9, 0, 0)])
    assert rows == [("this sweep", "110", "27.0", "21.0", "60.0", "10.0", "712", "1", "2")]
    assert page(rows).endswith("| this sweep | 110 | 27.0 | 21.0 | 60.0 | 10.0 | 712 | 1 | 2 |")


def test_lost_and_duplicated_trials_are_counted(new_store):
    client = store.connect(new_store)
    trials = [Trial(seed=seed, data_digest="d", model_digest="m", learning_rate=1e-3) for seed in range(3)]
    runs = [recorder.start(client, EXPERIMENT, trial) for trial in trials]
    for run, trial in zip(runs[:2], trials[:2], strict=True):
        recorder.record(client, run, returned(trial))
    assert counted(new_store, 3) == (1, 0)
    recorder.record(client, runs[2], returned(trials[2]))
    assert counted(new_store, 3) == (0, 0)
    twin = client.create_run(store.open_experiment(client, EXPERIMENT)).info.run_id
    client.log_param(twin, "seed", "0")
    client.set_terminated(twin)
    assert counted(new_store, 3) == (0, 1)


def test_the_second_run_of_a_command_has_a_different_label():
    rows = start_up.cells([[(1.0, 0.5)] * len(start_up.COMMANDS), [(3.0, 0.7)] * len(start_up.COMMANDS)])
    assert rows[0] == ("-c pass", "2.00", "0.60")
    assert len({row[0] for row in rows}) == len(start_up.COMMANDS)
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        start_up.cells([[(1.0, 0.5)]])
