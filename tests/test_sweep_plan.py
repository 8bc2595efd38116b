"""What a start of a sweep has to do."""

from __future__ import annotations

from bias_transfer.spec import Trial
from bias_transfer.sweep_plan import Plan


def test_each_trial_has_the_state_that_the_store_and_the_outbox_give_it():
    trials = tuple(Trial(seed=seed, data_digest="d", model_digest="m") for seed in range(5))
    done, kept, failed, again, out = (trial.id for trial in trials)
    names = {trial.id: trial.name for trial in trials}
    errors = {failed: "no", again: "no"}
    plan = Plan("one", trials, names, (trials[3],), {done: "run"}, errors, frozenset([kept, done]))
    assert plan.states() == {done: "done", kept: "kept", failed: "failed", again: "to do", out: "left out"}
