"""What a start of a sweep has to do."""

from __future__ import annotations

from bias_transfer.training import finetune
from bias_transfer.spec import Trial
from bias_transfer.sweep.plan import Plan
from bias_transfer.sweep.plan import slow_here


def test_each_trial_has_the_state_that_the_store_and_the_outbox_give_it():
    trials = tuple(Trial(seed=seed, data_digest="d", model_digest="m") for seed in range(5))
    done, kept, failed, again, out = (trial.id for trial in trials)
    names = {trial.id: trial.name for trial in trials}
    errors = {failed: "no", again: "no"}
    plan = Plan("one", trials, names, (trials[3],), {done: "run"}, errors, frozenset([kept, done]))
    assert plan.states() == {done: "done", kept: "kept", failed: "failed", again: "to do", out: "left out"}


def test_trials_in_a_precision_that_this_machine_is_slow_in_are_counted(monkeypatch):
    monkeypatch.setattr(finetune, "slow_precision", lambda trial: "slow" if trial.precision == "bf16" else None)
    trials = [Trial(seed=0), Trial(seed=1, precision="bf16")]
    assert slow_here(trials) == "Warning, for 1 of 2 trials: slow"
    assert slow_here(trials[:1]) is None
