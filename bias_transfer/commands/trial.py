"""`bias-transfer trial`: one trial in this process, without Ray or MLflow."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from bias_transfer.config import grid
from bias_transfer.console import (
    CheckpointMinutes,
    KeepModels,
    KeepPredictions,
    TrackingUri,
    console,
    redacted,
    reporting,
    tell,
    user_errors,
)
from bias_transfer.errors import UserError
from bias_transfer.spec import CHECKPOINT_MINUTES, Measure, TrialResult, parse_trial
from bias_transfer.storage import atomic

if TYPE_CHECKING:  # it loads torch, which --help does not wait for
    from bias_transfer.resolved import ResolvedTrial
    from bias_transfer.tasks.base import Task

EXPERIMENT = "trials"
"""Where --track records a trial that no config names."""


PREDICTIONS = ".predictions.parquet"
"""Suffix of the file of predictions, in place of that of --json."""


def main(
    words: Annotated[
        list[str],
        typer.Argument(metavar="KEY=VALUE", help="Fields of the trial. With --id, the sweep's CONFIG instead."),
    ],
    id: Annotated[str, typer.Option("--id", metavar="ID", help="Run the trial of CONFIG with this id.")] = "",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="With --id: override a field, as the sweep did; repeatable."),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write the whole result, with every measure, to this file."),
    ] = None,
    track: Annotated[bool, typer.Option("--track", help="Record the trial in MLflow.")] = False,
    tracking_uri: TrackingUri = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Cache for what trials share (default: the variable BIAS_TRANSFER_CACHE, or else ~/.cache/bias-transfer).",
        ),
    ] = None,
    checkpoint_minutes: CheckpointMinutes = CHECKPOINT_MINUTES,
    keep_models: KeepModels = False,
    keep_predictions: KeepPredictions = False,
) -> None:
    """Run one trial without Ray or MLflow.

    \b
    bias-transfer trial task=wiki data=synthetic model=tiny seed=0
    bias-transfer trial data=FOLDER upstream=perturb upstream_dose=0.5 downstream=scrub
    bias-transfer trial 'plugins=[my_lab.arms]' upstream=MY_ARM metric.MY_MEASURE=true
    bias-transfer trial data.size=1000 model.steps=300 epochs=1 --json result.json
    bias-transfer trial --id ID tune_configs/wiki_small.yaml --set data=FOLDER
    """
    # Imported late: --help need not wait for torch.
    from bias_transfer.memory import remarks
    from bias_transfer.pipeline import check, forget, run_trial
    from bias_transfer.resolved import Places
    from bias_transfer.training import kept, tuning
    from bias_transfer.training.finetune import slow_precision

    with user_errors():
        resolved, experiment = from_config(id, words, set_ or []) if id else _from_words(words, set_ or [])
        places = Places(
            checkpoint_minutes=checkpoint_minutes, keep_models=keep_models, keep_predictions=keep_predictions
        )
        places = replace(places, cache=cache) if cache else places
        if json_file and not (json_file.parent.is_dir() and os.access(json_file.parent, os.W_OK)):
            raise UserError(f"--json {json_file}: {json_file.parent} is not a folder that can be written to")
        if keep_predictions and not (json_file or track):
            raise UserError("--keep-predictions needs a place for them: --json FILE, or --track.")
        for plugin in resolved.plugins:
            tell(f"Plugin {plugin.described}")
        tell("Reading the data and the model ...")
        check(resolved, places)
        if track:
            _check_store(experiment, tracking_uri)
        for line in remarks(resolved):
            tell(line)
        if warning := slow_precision(resolved.trial):
            tell(f"Warning: {warning}")
        with reporting() as report:
            result = run_trial(resolved, replace(places, report=report))
        show(result, resolved)
        if json_file:
            _write(json_file, result)
        if track:
            _record(result, experiment, tracking_uri)
        forget(result.trial, places)
        if keep_models and resolved.prompted:
            tell(tuning.NOTHING_TO_KEEP)
        elif keep_models and result.trial.id in kept.ids(places.stored):
            tell(f"Classifier: {kept.shown(places.stored)}/{result.trial.id}")
        if not (json_file or track):
            tell("This result is not stored. --json FILE writes every measure, --track records it in MLflow.")


def _from_words(words: list[str], overrides: list[str]) -> tuple[ResolvedTrial, str]:
    from bias_transfer.resolved import resolve

    if overrides:
        raise UserError("--set goes with --id; without it, write KEY=VALUE alone")
    configs = [word for word in words if word.endswith((".yaml", ".yml")) and "=" not in word]
    if configs:
        raise UserError(f"{configs[0]} is a config with many trials: choose one by --id ID (see sweep --dry-run)")
    return resolve(parse_trial(grid.assignments(words))), EXPERIMENT


def from_config(wanted: str, words: list[str], overrides: list[str]) -> tuple[ResolvedTrial, str]:
    """The trial with the id `wanted` of the config that `words` names, and the config's name. Raises UserError."""
    from bias_transfer.resolved import resolve

    if len(words) != 1:
        raise UserError("--id takes one CONFIG; other fields are changed by --set KEY=VALUE")
    path = Path(words[0])
    resolved = [resolve(trial) for trial in grid.override(grid.load(path).trials, overrides)]
    by_id = {entry.id: entry for entry in resolved}
    if wanted not in by_id:
        names = grid.names([entry.trial for entry in by_id.values()])
        ids = "\n  ".join(f"{trial_id} {name}" for trial_id, name in zip(by_id, names, strict=True))
        raise UserError(
            f"{path} has no trial {wanted}. An id depends on the data's content and on --set. Its trials:\n  {ids}"
        )
    return by_id[wanted], path.stem


def show(result: TrialResult, resolved: ResolvedTrial) -> None:
    """The measures as tables: per group, and overall; warnings last."""
    from bias_transfer.memory import load_splits
    from bias_transfer.tasks.baseline import tfidf

    console().print(_group_table(result, resolved.task))
    for table in (table for name in resolved.evaluate for table in _set_tables(result, name)):
        console().print(table)
    table = Table(title=f"{resolved.short.name} ({result.trial.id})")
    for name in ("stage", "metric", "value", "n"):
        table.add_column(name, justify="right" if name in ("value", "n") else "left")
    for row in result.measures:
        if not row.group and not row.template:
            table.add_row(row.stage, row.metric, _number(row.value), str(row.n))
    for row in tfidf(load_splits(resolved)):
        if row.metric == "roc_auc":
            table.add_row("baseline", "roc_auc of TF-IDF and logistic regression", _number(row.value), str(row.n))
    console().print(table)
    console().print(", ".join(f"{name} {seconds:.1f} s" for name, seconds in result.seconds.items()))
    for warning in result.warnings:
        console().print(f"Warning: {warning}")


def _group_table(result: TrialResult, task: Task) -> Table:
    """One row per group: the primary metrics (the mean over upstream templates) and the logit gap. There are too many others
    to read."""
    measured = dict.fromkeys((row.stage, row.metric) for row in result.measures if row.group)
    # A custom task's primary metric may be the logit gap itself.
    wanted = dict.fromkeys((*task.primary.items(), ("downstream", "logit_gap")))
    metrics = [key for key in wanted if key in measured]
    more = len(measured) - len(metrics)
    table = Table(
        "group", title=f"By group (upstream: mean over templates; n in brackets); {more} more metrics by --json"
    )
    for _, metric in metrics:
        table.add_column(metric.replace("_", " "), justify="right")
    for group in task.groups:
        table.add_row(
            group,
            *(
                _cell([row for row in result.measures if (row.stage, row.metric, row.group) == (*key, group)])
                for key in metrics
            ),
        )
    return table


OF_GROUPS = ("accuracy", "fpr", "fnr", "logit_gap", "subgroup_auc", "bpsn_auc", "bnsp_auc", "roc_auc", "tpr_gap")
OF_FUNCTIONALITIES = ("functionality_accuracy",)
"""Metrics of an evaluation set that are shown, those of them that it has."""


def _set_tables(result: TrialResult, name: str) -> Iterator[Table]:
    """One row per group of an evaluation set, and one per functionality."""
    for by, metrics in (("group", OF_GROUPS), ("functionality", OF_FUNCTIONALITIES)):
        names = {f"{name}_{metric}": metric for metric in metrics}
        rows = [row for row in result.measures if row.metric in names and row.group and not row.template]
        values = {(row.group, row.metric): row for row in rows}
        shown = [metric for metric in names if any(row.metric == metric for row in rows)]
        table = Table(title=f"{name}, by {by} (n in brackets)")
        table.add_column(by, no_wrap=True)
        for metric in shown:
            table.add_column(names[metric].replace("_", " "), justify="right")
        for group in dict.fromkeys(row.group for row in rows):
            of_group = [values.get((group, metric)) for metric in shown]
            table.add_row(group, *("" if row is None else _cell([row]) for row in of_group))
        if rows:
            yield table


def _cell(rows: list[Measure]) -> str:
    pooled = [row for row in rows if not row.template] or rows
    mean = math.fsum(row.value for row in pooled) / len(pooled)
    return f"{_number(mean)} ({pooled[0].n})" if len(pooled) == 1 else _number(mean)


def _number(value: float) -> str:
    return "missing" if math.isnan(value) else f"{value:.4f}"


def as_json(result: TrialResult) -> dict[str, Any]:
    """The whole result; missing values are null."""
    content = {"id": result.trial.id, "trial": result.trial.model_dump()}
    content |= {name: _nulls(getattr(result, name)) for name in ("headline", "facts", "warnings", "seconds")}
    return content | {name: [_nulls(asdict(row)) for row in getattr(result, name)] for name in ("measures", "curve")}


def _nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _nulls(entry) for key, entry in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write(path: Path, result: TrialResult) -> None:
    try:
        with atomic.new_file(path) as new:
            new.write_text(json.dumps(as_json(result), indent=1, allow_nan=False))
        if result.predictions is not None:
            with atomic.new_file(path.with_suffix(PREDICTIONS)) as new:
                new.write_bytes(result.predictions)
    except OSError as error:
        raise UserError(f"--json {path} cannot be written: {error.strerror}") from None
    tell(f"Result: {path}")
    if result.predictions is not None:
        tell(f"Predictions: {path.with_suffix(PREDICTIONS)} ({len(result.predictions)} bytes)")


def _check_store(experiment: str, uri: str | None) -> None:
    """Raises UserError where a result could not be recorded."""
    from bias_transfer.tracking import store

    store.check_artifacts(store.connect(uri, create=True), experiment)


def _record(result: TrialResult, experiment: str, uri: str | None) -> None:
    from bias_transfer.tracking import recorder, store

    client = store.connect(uri, create=True)
    run_id = recorder.start(client, experiment, result.trial)
    recorder.record(client, run_id, result)
    tell(f"Recorded in the experiment {experiment!r} of {redacted(store.tracking_uri(uri))}, run {run_id}.")
