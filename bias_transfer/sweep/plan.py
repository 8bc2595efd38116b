"""What a start of a sweep has to do: the trials resolved and checked, less those that the store has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bias_transfer.config import grid
from bias_transfer.spec import AnalysisPlan
from bias_transfer.spec import Trial
from bias_transfer.errors import UserError


@dataclass(frozen=True)
class Wanted:
    """What a start of a sweep asks for."""

    experiment: str
    trials: tuple[Trial, ...]
    """The whole grid, resolved."""
    analysis: AnalysisPlan
    only: tuple[str, ...] = ()
    limit: int | None = None
    retry_failed: bool = False


@dataclass(frozen=True)
class Plan:
    """What a start of a sweep has to do, as the store is at this moment."""

    experiment: str
    trials: tuple[Trial, ...]
    """The whole grid, resolved."""
    names: dict[str, str]
    """Trial id -> what it is called, different for different trials."""
    todo: tuple[Trial, ...]
    done: dict[str, str]
    """Trial id -> run id."""
    failed: dict[str, str]
    """Trial id -> error, of an earlier start."""
    kept: frozenset[str]
    """Ids of trials whose result lies in the outbox."""

    def states(self) -> dict[str, str]:
        """Trial id -> done, kept, failed, to do, or left out (by --only or --limit)."""
        known = {
            **dict.fromkeys(self.failed, "failed"),
            **{trial.id: "to do" for trial in self.todo},
            **dict.fromkeys(self.kept, "kept"),
            **dict.fromkeys(self.done, "done"),
        }
        return {trial.id: known.get(trial.id, "left out") for trial in self.trials}


def resolve_all(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """Every trial resolved. Raises UserError for the first that cannot be, and for two that are one."""
    from bias_transfer.pipeline import resolve

    resolved = [resolve(trial) for trial in trials]
    seen: dict[str, Trial] = {}
    for trial in resolved:
        if trial.id in seen:
            raise UserError(
                f"the grid has one trial twice: {seen[trial.id].name} and {trial.name} give the same numbers"
            )
        seen[trial.id] = trial
    return tuple(resolved)


def unreachable(trials: Sequence[Trial]) -> str:
    """Why some trials cannot be resolved here, where that is the hub's absence alone; raises UserError as `resolve` does."""
    from bias_transfer.models.hub import NotReachedError
    from bias_transfer.pipeline import resolve

    why = ""
    for trial in {
        (trial.task, trial.data, trial.model, trial.arm, str(trial.options)): trial for trial in trials
    }.values():
        try:
            resolve(trial)
        except NotReachedError as error:
            why = str(error)
    return why


def check_all(trials: Sequence[Trial]) -> None:
    """Read the data and load the models of the trials. Raises UserError before any trial starts."""
    from bias_transfer.pipeline import Places
    from bias_transfer.pipeline import check

    places, seen = Places(), set[str]()
    for trial in trials:
        key = trial.model_copy(update={"seed": 0}).id
        if key not in seen:
            check(trial, places)
            seen.add(key)


def slow_here(trials: Sequence[Trial]) -> str | None:
    """What to tell before trials whose precision this machine is slow in; for a sweep that runs on it."""
    from bias_transfer.training.finetune import slow_precision

    slow = [text for trial in trials if (text := slow_precision(trial))]
    return f"Warning, for {len(slow)} of {len(trials)} trials: {slow[0]}" if slow else None


def make_plan(wanted: Wanted, uri: str) -> Plan:
    """Which trials are to run: those that match `only` and are neither done nor, unless retried, failed."""
    from bias_transfer.tracking import outbox
    from bias_transfer.tracking import runs
    from bias_transfer.tracking import store

    client = store.connect(uri) if store.exists(uri) else None
    done = runs.finished(client, wanted.experiment) if client else {}
    failed = runs.failed(client, wanted.experiment) if client else {}
    waiting = outbox.outcomes(wanted.experiment)
    failed |= {key: error for key, error in waiting.items() if error}
    kept = frozenset(key for key, error in waiting.items() if not error and key not in done)
    failed = {key: error for key, error in failed.items() if key not in done and key not in kept}
    chosen = grid.only(wanted.trials, wanted.only) if wanted.only else wanted.trials
    ended = {*done, *kept, *(() if wanted.retry_failed else failed)}
    todo = tuple(trial for trial in chosen if trial.id not in ended)[: wanted.limit]
    names = dict(zip((trial.id for trial in wanted.trials), grid.names(wanted.trials), strict=True))
    return Plan(wanted.experiment, wanted.trials, names, todo, done, failed, kept)
