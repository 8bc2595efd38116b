"""What one start of a sweep has to do: the grid, resolved and checked, less the trials that MLflow or the outbox has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bias_transfer.config import grid
from bias_transfer.errors import UserError, unknown
from bias_transfer.hashing import digest
from bias_transfer.spec import AnalysisPlan, Label, Trial

if TYPE_CHECKING:  # it loads torch, which --help does not wait for
    from bias_transfer.resolved import ResolvedTrial
    from bias_transfer.tracking.runs import Conditions


@dataclass(frozen=True)
class Request:
    """What a start of a sweep asks for."""

    experiment: str
    resolved: tuple[ResolvedTrial, ...]
    """The whole grid."""
    analysis: AnalysisPlan
    only: tuple[str, ...] = ()
    limit: int | None = None
    retry_failed: bool = False

    @property
    def trials(self) -> tuple[Trial, ...]:
        """The whole grid; each trial has an id."""
        return tuple(resolved.trial for resolved in self.resolved)

    @property
    def labels(self) -> dict[str, Label]:
        """Trial id -> how it is shown: options that have their default value are left out."""
        short = [resolved.short for resolved in self.resolved]
        return {
            resolved.id: trial.label._replace(name=name)
            for resolved, trial, name in zip(self.resolved, short, grid.names(short), strict=True)
        }


@dataclass(frozen=True)
class Plan:
    """What a start of a sweep has to do, as MLflow and the outbox are at this moment."""

    experiment: str
    trials: tuple[Trial, ...]
    """The whole grid; each trial has an id."""
    labels: dict[str, Label]
    """Trial id -> how it is shown."""
    todo: tuple[Trial, ...]
    done: dict[str, str]
    """Trial id -> run id."""
    failed: dict[str, str]
    """Trial id -> its error at an earlier start."""
    pending: frozenset[str]
    """Ids of trials whose result waits in the outbox."""

    def states(self) -> dict[str, str]:
        """Trial id -> done, pending, failed, to do, or left out (by --only or --limit)."""
        known = {
            **dict.fromkeys(self.failed, "failed"),
            **{trial.id: "to do" for trial in self.todo},
            **dict.fromkeys(self.pending, "pending"),
            **dict.fromkeys(self.done, "done"),
        }
        return {trial.id: known.get(trial.id, "left out") for trial in self.trials}


def resolve_all(trials: Sequence[Trial]) -> tuple[ResolvedTrial, ...]:
    """Every trial resolved. Raises UserError for the first that cannot be, and for two that have the same id."""
    from bias_transfer.resolved import resolve

    resolved = tuple(resolve(trial) for trial in trials)
    seen: dict[str, Trial] = {}
    for trial in (entry.trial for entry in resolved):
        if trial.id in seen:
            raise UserError(
                f"the grid has one trial twice: {seen[trial.id].name} and {trial.name} give the same numbers"
            )
        seen[trial.id] = trial
    return resolved


def check_primary(request: Request) -> None:
    """Raises UserError for a primary outcome that the trials of its task do not measure, or that no analysis can read."""
    for task, outcome in request.analysis.primary.items():
        entries = [entry for entry in request.resolved if entry.trial.task == task]
        outcomes = {entries[0].task.primary["downstream"]: "", **entries[0].task.outcomes}
        allowed = {*outcomes, *(name for entry in entries for name in _outcomes_of_sets(entry))}
        if outcome not in allowed:
            raise UserError(unknown(f"outcome in analysis.primary.{task}", outcome, sorted(allowed)))
        if (option := outcomes.get(outcome)) and not all(
            getattr(entry.options.metric, option, None) for entry in entries
        ):
            raise UserError(
                f"analysis.primary.{task}: {outcome} is measured with metric.{option}: true alone, and not all trials of the "
                "grid have it. Add it to the defaults."
            )


def check_margins(request: Request) -> None:
    """Raises UserError for a margin of an outcome that the analysis does not read: it would be stated and never used."""
    for task, outcomes in request.analysis.margins.items():
        entries = [entry for entry in request.resolved if entry.trial.task == task]
        primary = request.analysis.primary.get(task, entries[0].task.primary["downstream"])
        # The logit gap stands in where a rate saturates.
        analysed = {primary, "logit_gap", *(name for entry in entries for name in _outcomes_of_sets(entry))}
        for outcome in outcomes:
            if outcome not in analysed:
                raise UserError(unknown(f"outcome in analysis.margins.{task}", outcome, analysed))


def _outcomes_of_sets(entry: ResolvedTrial) -> list[str]:
    """The outcomes of a trial's evaluation sets that the analysis may read (`analysis.estimands.evaluation_sets`)."""
    metrics = ("fpr", "logit_gap") if entry.task.harm_groups else ("tpr_gap", "accuracy")
    return [f"{name}_{metric}" for name in entry.evaluate for metric in (*metrics, "functionality_accuracy")]


def unreachable(trials: Sequence[Trial]) -> str:
    """Why some trials cannot be resolved here, if the only reason is that the hub cannot be reached; else nothing.

    Raises UserError as `resolve` does.
    """
    from bias_transfer.models.hub import NotReachedError
    from bias_transfer.resolved import resolve

    # Seeds do not change what is reached: one trial of each kind is asked about.
    reason = ""
    different = {(trial.task, trial.data, trial.model, trial.arm, str(trial.options)): trial for trial in trials}
    for trial in different.values():
        try:
            resolve(trial)
        except NotReachedError as error:
            reason = str(error)
    return reason


def check_all(resolved: Sequence[ResolvedTrial]) -> list[str]:
    """Read the data and load the models of the trials, and return the remarks on the data. Raises UserError before any trial
    starts."""
    from bias_transfer.memory import remarks
    from bias_transfer.pipeline import check
    from bias_transfer.resolved import Places

    places, checked, lines = Places(), set[str](), dict[str, None]()
    for entry in resolved:
        # Trials that differ in their seed alone read the same data and the same model. A prompt's examples are the seed's own.
        alike = entry.id if entry.prompted else entry.trial.model_copy(update={"seed": 0}).id
        if alike not in checked:
            check(entry, places)
            checked.add(alike)
            lines |= dict.fromkeys(remarks(entry))
    return list(lines)


def precision_warning(trials: Sequence[Trial]) -> str | None:
    """What to print before trials whose precision this machine computes slowly; for a sweep that runs on it."""
    from bias_transfer.training.finetune import slow_precision

    slow = [text for trial in trials if (text := slow_precision(trial))]
    return f"Warning, for {len(slow)} of {len(trials)} trials: {slow[0]}" if slow else None


def recorded_conditions(request: Request, uri: str) -> dict[str, Conditions]:
    """Trial id -> where and with what it ran, of the grid's finished trials."""
    from bias_transfer.tracking import runs, store

    of_all = runs.conditions(store.connect(uri), request.experiment) if store.exists(uri) else {}
    return {trial.id: of_all[trial.id] for trial in request.trials if trial.id in of_all}


def check_conditions(recorded: Mapping[str, Conditions], machines: Collection[str], versions: str) -> None:
    """Raises UserError if finished trials ran on none of these machines (fingerprints), or with other versions of packages.

    They are the other side of pairs: a difference between machines would be taken for the effect of an arm.
    """
    elsewhere = [ran.machine for ran in recorded.values() if ran.machine and ran.machine not in machines]
    before = [ran.versions for ran in recorded.values() if ran.versions and ran.versions != versions]
    reasons = []
    if elsewhere:
        kinds = "; ".join(sorted(set(elsewhere)))
        reasons.append(f"{len(elsewhere)} on another machine ({kinds}; now: {'; '.join(sorted(machines))})")
    if before:
        now = set(versions.split(", "))
        old = sorted({package for text in before for package in text.split(", ")} - now)
        new = sorted(package for package in now if package.split()[0] in {text.split()[0] for text in old})
        reasons.append(f"{len(before)} with other versions of packages ({', '.join(old)}; now: {', '.join(new)})")
    if reasons:
        raise UserError(
            f"of the {len(recorded)} finished trials, {' and '.join(reasons)} ran. The same trial has other bits there, which "
            f"arms would be compared by. Go on where they ran, or delete their runs in MLflow to run them again, or accept it "
            f"with --accept-machine: the report then names the pairs of trials that differ in more than the arm."
        )


def make_plan(request: Request, uri: str) -> Plan:
    """Which trials are to run: those that match `only` and are neither done nor, unless retried, failed."""
    from bias_transfer.tracking import outbox, runs, store

    client, trials = store.connect(uri) if store.exists(uri) else None, request.trials
    done = runs.finished(client, request.experiment) if client else {}
    failed = runs.failed(client, request.experiment) if client else {}
    waiting = outbox.outcomes(request.experiment)
    # An outbox entry counts like a record: its trial is not run again while MLflow is unreachable.
    failed |= {key: error for key, error in waiting.items() if error}
    pending = frozenset(key for key, error in waiting.items() if not error and key not in done)
    failed = {key: error for key, error in failed.items() if key not in done and key not in pending}
    chosen = grid.only(trials, request.only) if request.only else trials
    ended = {*done, *pending, *(() if request.retry_failed else failed)}
    todo = tuple(trial for trial in chosen if trial.id not in ended)[: request.limit]
    return Plan(request.experiment, trials, request.labels, todo, done, failed, pending)


def in_turn(resolved: Sequence[ResolvedTrial]) -> tuple[Trial, ...]:
    """The trials in an order in which those that share their upstream stage are far apart: the first has cached it when the
    next begins. Trials of one data set stay together, since a worker keeps it in memory."""
    seen = Counter[str]()
    places = dict[str, int]()
    keys = list[tuple[int, int]]()
    for entry in resolved:
        stage = digest(entry.keys.upstream)
        keys.append((places.setdefault(entry.keys.splits, len(places)), seen[stage]))
        seen[stage] += 1
    return tuple(resolved[index].trial for index in sorted(range(len(resolved)), key=keys.__getitem__))
