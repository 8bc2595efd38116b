"""`--keep-models` and `--keep-predictions` in a sweep: what they will take, and which finished trials have none."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from bias_transfer.config import grid
from bias_transfer.console import tell
from bias_transfer.errors import UserError
from bias_transfer.sweep.plan import Plan

if TYPE_CHECKING:  # it loads torch, which --help does not wait for
    from bias_transfer.resolved import ResolvedTrial


def check(cluster: str | None, storage: str | None) -> None:
    """Raises UserError where each machine of a cluster would store classifiers in its own cache. storage: what they share."""
    if cluster and not storage:
        raise UserError(
            "--keep-models on a cluster needs a storage that all machines reach: set BIAS_TRANSFER_STORAGE to a shared folder "
            "or a URI such as s3://bucket/prefix. Without one, each machine would store its models in its own cache."
        )


def show_size(plan: Plan, resolved: Sequence[ResolvedTrial], storage: str) -> None:
    """What the classifiers of the trials that are to run take, by their models' configurations."""
    from bias_transfer.kept_models import kept_bytes
    from bias_transfer.training.kept import shown

    todo = {trial.id for trial in plan.todo}
    sizes = Counter(kept_bytes(entry) for entry in resolved if entry.id in todo and not entry.prompted)
    if not sizes:
        return
    each = ", ".join(f"{count} x {_bytes(size)}" for size, count in sorted(sizes.items()))
    total = sum(size * count for size, count in sizes.items())
    tell(f"--keep-models stores about {_bytes(total)} in {shown(storage)}: trials x bytes per model, {each}.")


def show_prompts(resolved: Sequence[ResolvedTrial]) -> None:
    """That trials by prompt keep nothing, if there are any."""
    from bias_transfer.training.tuning import NOTHING_TO_KEEP

    if any(entry.prompted for entry in resolved):
        tell(NOTHING_TO_KEEP)


def show_missing(plan: Plan, done: Collection[str], storage: str) -> None:
    """How many finished trials of the sweep have no classifier, and how to get one. A trial by prompt has none to keep."""
    from bias_transfer.training import kept

    try:
        stored = kept.ids(storage)
    except UserError as error:
        tell(f"Which trials have a kept model cannot be known: {error}")
        return
    finished = [trial for trial in plan.trials if trial.id in done and trial.tuning != "prompt"]
    missing = [trial for trial in finished if trial.id not in stored]
    if finished:
        tell(
            f"Kept models: {len(finished) - len(missing)} of {len(finished)} finished trials, in {kept.shown(storage)}."
        )
    if missing:
        words = ["bias-transfer", "trial", *grid.command_line(missing[0]), "--keep-models"]
        trials_have = "1 finished trial has" if len(missing) == 1 else f"{len(missing)} finished trials have"
        tell(
            f"{trials_have} no kept model: they ran without --keep-models, on a machine with "
            "another storage, or could not store it. A sweep does not run a finished trial again. To get their models, run "
            "the trials again: one by one, without a sweep, or all of them as a copy of the config under another name. The "
            f"first: {shlex.join(words)}"
        )


def show_size_of_predictions(plan: Plan, resolved: Sequence[ResolvedTrial]) -> None:
    """What the predictions of the trials that are to run take. It reads their data, to count the examples."""
    from bias_transfer.memory import load_splits
    from bias_transfer.pipeline import predicted_sets
    from bias_transfer.tasks import predictions

    todo, sizes = {trial.id for trial in plan.todo}, dict[tuple[str, ...], tuple[int, int]]()
    each = list[tuple[int, int]]()
    for entry in resolved:
        if entry.id in todo:
            key = entry.keys.splits, str(entry.evaluate), str(entry.options.metric)
            if key not in sizes:
                sets = predicted_sets(entry, load_splits(entry))
                sizes[key] = predictions.size(entry.task, sets), sum(map(len, sets.values()))
            each.append(sizes[key])
    if each:
        total = sum(size for size, _ in each)
        shown = ", ".join(
            f"{count} x {_bytes(size)} for {examples} examples"
            for (size, examples), count in sorted(Counter(each).items())
        )
        tell(f"--keep-predictions stores about {_bytes(total)} as artifacts: trials x bytes per file, {shown}.")


def show_without_predictions(plan: Plan, done: Collection[str], uri: str) -> None:
    """How many finished trials of the sweep have no predictions."""
    from bias_transfer.tracking import runs, store

    missing = len(set(done) & {trial.id for trial in plan.trials})
    if missing:
        missing -= len(set(done) & runs.with_predictions(store.connect(uri), plan.experiment))
    if missing:
        trials_have = "1 finished trial has" if missing == 1 else f"{missing} finished trials have"
        tell(
            f"{trials_have} no predictions: they ran without --keep-predictions, and a sweep does not run a finished trial "
            "again. To get them, delete the runs in MLflow and start the sweep again, or run a copy of the config under "
            "another name."
        )


def _bytes(count: int) -> str:
    """In decimal units, as disks are sold."""
    for size, unit in ((1e9, "GB"), (1e6, "MB")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"
