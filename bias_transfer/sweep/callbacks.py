"""What a sweep's driver hears from Ray Tune: how each trial ended, which processes died, and when to stop."""

from __future__ import annotations

import threading
from typing import Any

from ray.exceptions import RayActorError
from ray.tune import Callback, Stopper
from ray.tune.stopper import NoopStopper

from bias_transfer.tracking.delivery import Outcome
from bias_transfer.console import Counts

RETRIES = 3
"""How often a trial starts again whose process died."""

DIED = (
    f"its process died {RETRIES + 1} times; out of memory? Lower micro_batch_size, or raise --cpus-per-trial so that fewer "
    f"run at once"
)


BAD = ("failed", "died", "undone")


def follow(
    report: Counts, outcomes: dict[str, Outcome], lost: threading.Event, fail_fast: bool
) -> tuple[Callback, Stopper]:
    """A callback that reports progress and fills `outcomes` (by trial id), and a stopper that ends the sweep when `lost` is set
    or, with `fail_fast`, when a trial failed."""
    running, bad = set[str](), set[str]()

    def ended(trial: Any, outcome: Outcome) -> None:
        key = trial.config["trial"]["id"]
        outcomes[key] = outcome
        (bad.add if outcome.state in BAD else bad.discard)(key)

    def tell(event: str, trial: Any) -> None:
        report(len(outcomes) - len(bad), len(running), len(bad), f"{event} {trial.config['trial']['name']}")

    class Follow(Callback):
        def __reduce__(self) -> tuple[type, tuple[()]]:
            return Callback, ()  # Tune writes its settings to disk; the display stays here

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            running.add(trial.trial_id)
            tell("started", trial)

        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            ended(trial, Outcome(result["state"], result["why"], result["place"]))

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            running.discard(trial.trial_id)
            own = outcomes.get(trial.config["trial"]["id"], Outcome("undone"))
            tell(EVENTS[own.state].format(why=own.why), trial)

        def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            running.discard(trial.trial_id)
            tell("process died, to be started again:", trial)

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            running.discard(trial.trial_id)
            if trial.config["trial"]["id"] not in outcomes:
                ended(trial, _died(trial))
            tell("failed", trial)

    class Stop(Stopper):
        def __reduce__(self) -> tuple[type, tuple[()]]:
            return NoopStopper, ()

        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return False

        def stop_all(self) -> bool:
            return lost.is_set() or (fail_fast and bool(bad))

    return Follow(), Stop()


EVENTS = {
    "done": "done",
    "kept": "done, kept until the store is back:",
    "failed": "failed",
    "undone": "undone ({why}):",
}
"""State -> what the progress says of it."""


def _died(trial: Any) -> Outcome:
    """Of a trial that Tune gave up. One whose process did not even start has not failed: the next start runs it."""
    error = trial.get_pickled_error()
    if error is not None and not isinstance(error, RayActorError):
        return Outcome("died", str(error).strip().splitlines()[-1])
    if trial.num_failures <= RETRIES:
        return Outcome("undone", "its process died while it was being started")
    return Outcome("died", DIED)
