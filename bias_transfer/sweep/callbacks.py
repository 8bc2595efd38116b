"""What a sweep's driver learns from Ray Tune: how each trial ended, which processes died, and when to stop."""

from __future__ import annotations

import threading
from typing import Any

from ray.exceptions import RayActorError
from ray.tune import Callback, Stopper
from ray.tune.stopper import NoopStopper

from bias_transfer.console import Counts
from bias_transfer.tracking.delivery import TrialEnd

RETRIES = 3
"""How often a trial whose process died starts again."""

DIED = (
    f"its process died {RETRIES + 1} times; out of memory? Lower micro_batch_size, or raise --cpus-per-trial so that fewer "
    f"run at once"
)

BAD = ("failed", "died", "incomplete")

EVENTS = {
    "done": "done",
    "pending": "done, pending until MLflow is reachable:",
    "failed": "failed",
    "incomplete": "not run ({why}):",
}
"""State -> what the progress display says of it."""


def follow(
    report: Counts,
    outcomes: dict[str, TrialEnd],
    lost: threading.Event,
    fail_fast: bool,
    running: dict[str, str] | None = None,
) -> tuple[Callback, Stopper]:
    """A callback that reports progress and fills `outcomes` (by trial id), and a stopper that ends the sweep when `lost` is set
    or, with `fail_fast`, when a trial failed. running: is kept as the names of the running trials, by their id."""
    names = {} if running is None else running
    bad = set[str]()

    def ended(trial: Any, outcome: TrialEnd) -> None:
        trial_id = trial.config["trial"]["id"]
        outcomes[trial_id] = outcome
        (bad.add if outcome.state in BAD else bad.discard)(trial_id)

    def tell(event: str, trial: Any) -> None:
        report(len(outcomes) - len(bad), len(names), len(bad), f"{event} {trial.config['trial']['name']}")

    class Follow(Callback):
        def __reduce__(self) -> tuple[type, tuple[()]]:
            # Tune pickles its settings to disk; the display cannot be pickled and stays in this process.
            return Callback, ()

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            names[trial.config["trial"]["id"]] = trial.config["trial"]["name"]
            tell("started", trial)

        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            ended(trial, TrialEnd(result["state"], result["why"], result["place"]))

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            names.pop(trial.config["trial"]["id"], None)
            outcome = outcomes.get(trial.config["trial"]["id"], TrialEnd("incomplete"))
            tell(EVENTS[outcome.state].format(why=outcome.why), trial)

        def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            names.pop(trial.config["trial"]["id"], None)
            tell("process died, starts again:", trial)

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            names.pop(trial.config["trial"]["id"], None)
            # A trial may have reported its result before its process died.
            if trial.config["trial"]["id"] not in outcomes:
                ended(trial, _outcome_of_a_dead_process(trial))
            tell("failed", trial)

    class Stop(Stopper):
        def __reduce__(self) -> tuple[type, tuple[()]]:
            return NoopStopper, ()

        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return False

        def stop_all(self) -> bool:
            return lost.is_set() or (fail_fast and bool(bad))

    return Follow(), Stop()


def _outcome_of_a_dead_process(trial: Any) -> TrialEnd:
    """How a trial ended that Tune gave up. One whose process did not even start has not failed: the next sweep runs it."""
    error = trial.get_pickled_error()
    if error is not None and not isinstance(error, RayActorError):
        return TrialEnd("died", str(error).strip().splitlines()[-1])
    if trial.num_failures <= RETRIES:
        return TrialEnd("incomplete", "its process died while it was being started")
    return TrialEnd("died", DIED)
