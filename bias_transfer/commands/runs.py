"""`bias-transfer runs`: carry finished trials from one MLflow store to another, in one file."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bias_transfer.console import TrackingUri, application, redacted, tell, user_errors
from bias_transfer.errors import UserError
from bias_transfer.spec import NUMERICS

if TYPE_CHECKING:  # it loads MLflow, which --help does not wait for
    from bias_transfer.tracking.carried import Study
    from bias_transfer.tracking.exchange import Imported


def export(
    experiment: Annotated[str, typer.Argument(metavar="EXPERIMENT", help="The experiment whose trials are exported.")],
    out: Annotated[
        Path, typer.Option(metavar="FILE.parquet", help="The file to write; one that is there is replaced.")
    ],
    tracking_uri: TrackingUri = None,
) -> None:
    """Write an experiment's finished trials to one file.

    It has a row per trial with everything that its run recorded (parameters, facts, warnings, headline metrics, all measures,
    and the machine and package versions), and the sweeps with their plans. It is for publishing a study with its raw results,
    and for going on with a sweep elsewhere. Exported again, the same trials give the same bytes. Predictions, reports and
    models are not part of it.

    \b
    bias-transfer runs export wiki_small --out wiki_small.parquet
    """
    # Imported late: --help need not wait for MLflow.
    from bias_transfer.tracking import carried, exchange, store

    with user_errors():
        if not out.parent.is_dir():
            raise UserError(f"--out {out}: there is no folder {out.parent}.")
        found = exchange.collect(store.connect(tracking_uri), experiment)
        try:
            carried.write(out, found.study)
        except OSError as error:
            raise UserError(f"--out {out} cannot be written: {error.strerror or error}.") from None
        rows = sum(len(trial.measures) for trial in found.study.trials)
        tell(f"{experiment}: {len(found.study.trials)} finished trials with {rows:,} measures exported")
        for text in _left_out(found.unfinished, found.older, found.predictions):
            tell(text)
        tell(
            f"File: {out} ({out.stat().st_size:,} bytes, digest {found.study.digest[:12]})\n"
            f"Next, where its trials are wanted: bias-transfer runs import {shlex.quote(str(out))}"
        )


def _left_out(unfinished: Mapping[str, int], older: int, predictions: int) -> list[str]:
    states = ", ".join(f"{count} {state}" for state, count in sorted(unfinished.items()))
    lines = [f"Left out, since they have not finished: {states}"] if unfinished else []
    if older:
        lines.append(f"Left out, since their ids are of other numerics than today's ({NUMERICS}): {older} finished")
    if predictions:
        lines.append(f"Not part of the file: the predictions that {predictions} of the trials kept")
    return lines


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE.parquet", help="A file of `runs export`.")],
    experiment: Annotated[
        str | None, typer.Option(metavar="NAME", help="The experiment to import into (default: the file's).")
    ] = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Record the trials of such a file in MLflow.

    They are then runs like any other: `status` counts them, `analyse` reads them, and a sweep does not run them again. Each
    keeps the machine, the package versions and the times of the store that it is from, and the report says which trials were
    imported. The whole file is checked before anything is written. A trial that the experiment has already is skipped if its
    numbers are the same, and otherwise stops the import. An import that was cut off is completed by repeating it.

    \b
    bias-transfer runs import wiki_small.parquet
    bias-transfer runs import wiki_small.parquet --experiment wiki_published --tracking-uri http://127.0.0.1:5000
    """
    from bias_transfer.tracking import carried, delivery, exchange, retry, store

    with user_errors():
        study = carried.read(file)
        name, uri = experiment or study.experiment, store.tracking_uri(tracking_uri)
        client = store.connect(uri, create=True)
        try:
            imported = exchange.bring_in(client, study, name)
        except Exception as error:
            if not retry.transient(error) and retry.full_disk(error) is None:
                raise
            shown = redacted(uri)
            raise UserError(
                f"MLflow at {shown} stopped answering: {delivery.describe(error, shown)}. Run this command again: it imports "
                f"what is missing."
            ) from None
        _tell_imported(study, imported, name)
        tell(f"Runs: in {redacted(uri)}\n{_next(study, name, store.option(uri))}")


def _tell_imported(study: Study, imported: Imported, name: str) -> None:
    tell(
        f"{name}: {imported.new} trials imported, {imported.present} were there already with the same numbers (file of "
        f"bias-transfer {study.package}, digest {study.digest[:12]})"
    )
    for sweep in imported.kept_grids:
        tell(f"The sweep {sweep} was there already with another plan or other labels, and keeps its own.")
    if study.numerics != NUMERICS:
        tell(
            f"The file has numerics {study.numerics}, and this bias-transfer has {NUMERICS}: its trials have other ids than "
            f"those of today, so they do not count as done for a sweep, and `analyse` does not read them."
        )


def _next(study: Study, name: str, option: str) -> str:
    if study.numerics != NUMERICS:
        return f"Next: mlflow ui shows them; bias-transfer {study.package} analyses them."
    return (
        f"Next: bias-transfer analyse {shlex.quote(name)}{option} (--allow-missing if the sweep is not complete), or the "
        f"sweep's command with its config named {name}.yaml, which runs only what is missing (on another kind of machine with "
        f"--accept-machine)."
    )


app = application(help="Carry finished trials between MLflow stores.", export=export, **{"import": import_})
