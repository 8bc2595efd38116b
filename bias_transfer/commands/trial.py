"""The command line of one trial: python -m bias_transfer.trial."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from bias_transfer.config import grid
from bias_transfer.console import CheckpointMinutes
from bias_transfer.console import TrackingUri
from bias_transfer.console import console
from bias_transfer.console import reporting
from bias_transfer.console import tell
from bias_transfer.console import user_errors
from bias_transfer.spec import CHECKPOINT_MINUTES
from bias_transfer.spec import Measure
from bias_transfer.spec import Trial
from bias_transfer.spec import TrialResult
from bias_transfer.errors import UserError
from bias_transfer.spec import parse_trial

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

EXPERIMENT = "trials"
"""Where --track records a trial that no config names."""


@app.command(context_settings={"max_content_width": 110})
def main(
    words: Annotated[
        list[str], typer.Argument(metavar="KEY=VALUE ... | CONFIG", help="Fields of the trial, or a config with --id.")
    ],
    id: Annotated[str, typer.Option("--id", metavar="ID", help="Take the trial with this id from CONFIG.")] = "",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="With --id: override a field, as the sweep did."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the whole result here.")
    ] = None,
    track: Annotated[bool, typer.Option("--track", help="Record the trial in MLflow.")] = False,
    tracking_uri: TrackingUri = None,
    cache: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where shared work is kept.")] = None,
    checkpoint_minutes: CheckpointMinutes = CHECKPOINT_MINUTES,
) -> None:
    """Run one trial in this process, without Ray or MLflow.

    \b
    python -m bias_transfer.trial task=wiki data=synthetic model=tiny seed=0
    python -m bias_transfer.trial data=FOLDER upstream=perturb upstream_dose=0.5 downstream=scrub
    python -m bias_transfer.trial data.size=1000 model.steps=300 epochs=1 --json result.json
    python -m bias_transfer.trial --id ID tune_configs/wiki_small.yaml --set data=FOLDER
    """
    from bias_transfer.training.finetune import slow_precision  # late: --help need not wait for torch
    from bias_transfer.pipeline import Places
    from bias_transfer.pipeline import check
    from bias_transfer.pipeline import forget
    from bias_transfer.pipeline import run_trial

    with user_errors():
        trial, experiment = _from_config(id, words, set_ or []) if id else _from_words(words, set_ or [])
        places = Places(checkpoint_minutes=checkpoint_minutes)
        places = replace(places, cache=cache) if cache else places
        if json_file and not (json_file.parent.is_dir() and os.access(json_file.parent, os.W_OK)):
            raise UserError(f"--json {json_file}: there is no folder {json_file.parent} that can be written")
        check(trial, places)
        if slow := slow_precision(trial):
            tell(f"Warning: {slow}")
        with reporting() as report:
            result = run_trial(trial, replace(places, report=report))
        show(result)
        if json_file:
            _write(json_file, result)
        if track:
            _record(result, experiment, tracking_uri)
        forget(result.trial, places)
        if not (json_file or track):
            console().print("Keep it: --json FILE writes every measure, --track records it in MLflow.")


def _from_words(words: list[str], overrides: list[str]) -> tuple[Trial, str]:
    from bias_transfer.pipeline import resolve

    if overrides:
        raise UserError("--set goes with --id; without it, write KEY=VALUE alone")
    configs = [word for word in words if word.endswith((".yaml", ".yml")) and "=" not in word]
    if configs:
        raise UserError(f"{configs[0]} is a config with many trials: name one by --id ID (see sweep --dry-run)")
    return resolve(parse_trial(grid.assignments(words))), EXPERIMENT


def _from_config(wanted: str, words: list[str], overrides: list[str]) -> tuple[Trial, str]:
    from bias_transfer.pipeline import resolve

    if len(words) != 1:
        raise UserError("--id takes one CONFIG; other fields are changed by --set KEY=VALUE")
    path = Path(words[0])
    trials = [resolve(trial) for trial in grid.override(grid.load(path).trials, overrides)]
    chosen = {trial.id: trial for trial in trials}
    if wanted not in chosen:
        ids = "\n  ".join(f"{key} {name}" for key, name in zip(chosen, grid.names([*chosen.values()]), strict=True))
        raise UserError(
            f"{path} has no trial {wanted}. An id depends on the data's content and on --set. Its trials:\n  {ids}"
        )
    return chosen[wanted], path.stem


def show(result: TrialResult) -> None:
    """The measures as tables: per group, and of the whole; warnings last."""
    from bias_transfer.pipeline import load_splits
    from bias_transfer.tasks.baseline import tfidf

    console().print(_group_table(result))
    table = Table(title=f"{result.trial.name} ({result.trial.id})")
    for name in ("stage", "metric", "value", "n"):
        table.add_column(name, justify="right" if name in ("value", "n") else "left")
    for row in result.measures:
        if not row.group and not row.template:
            table.add_row(row.stage, row.metric, _number(row.value), str(row.n))
    for row in tfidf(load_splits(result.trial)):
        if row.metric == "roc_auc":
            table.add_row("yardstick", "roc_auc of TF-IDF and logistic regression", _number(row.value), str(row.n))
    console().print(table)
    console().print(", ".join(f"{name} {seconds:.1f} s" for name, seconds in result.seconds.items()))
    for warning in result.warnings:
        console().print(f"Warning: {warning}")


def _group_table(result: TrialResult) -> Table:
    """One row a group: the primary metrics (the mean over upstream templates) and the logit gap. There are too many others
    to read."""
    from bias_transfer.tasks.registry import task_of

    task = task_of(result.trial.task, result.trial.data)
    own = dict.fromkeys((row.stage, row.metric) for row in result.measures if row.group)
    wanted = dict.fromkeys((*task.primary.items(), ("downstream", "logit_gap")))  # an own task's primary may be the gap
    metrics = [key for key in wanted if key in own]
    title = f"By group (upstream: mean over templates; n in brackets); {len(own) - len(metrics)} more metrics by --json"
    table = Table("group", title=title)
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
        return {key: _nulls(own) for key, own in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write(path: Path, result: TrialResult) -> None:
    try:
        aside = path.with_name(f".{path.name}.part")
        aside.write_text(json.dumps(as_json(result), indent=1, allow_nan=False))
        aside.replace(path)
    except OSError as error:
        raise UserError(f"--json {path} cannot be written: {error.strerror}") from None
    console().print(f"Result: {path}")


def _record(result: TrialResult, experiment: str, uri: str | None) -> None:
    from bias_transfer.tracking import recorder
    from bias_transfer.tracking import store

    client = store.connect(uri, create=True)
    run = recorder.start(client, experiment, result.trial)
    recorder.record(client, run, result)
    console().print(
        f"Recorded in the experiment {experiment!r} of {store.shown(store.tracking_uri(uri))}, run {run}."
    )
