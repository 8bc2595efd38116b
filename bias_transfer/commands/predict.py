"""`bias-transfer predict`: ask a classifier that a trial kept about new texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bias_transfer.config import grid
from bias_transfer.console import tell, user_errors
from bias_transfer.errors import UserError, unknown
from bias_transfer.storage import atomic

TEXT = ("text", "comment", "comment_text", "hard_text")
"""Names of columns that are read as text, if --column names none."""

MOVED = ("data", "model", "task")


def main(
    id: Annotated[str, typer.Argument(metavar="ID", help="The id of a trial that ran with --keep-models.")],
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A table with the texts (.csv, .jsonl, .parquet and others).")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE.csv", help="The file to write the logits to.")],
    column: Annotated[
        str | None, typer.Option(metavar="NAME", help=f"Column of the texts (default: the first of {', '.join(TEXT)}).")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=PATH", help="Where the trial's data, model or task are now; repeatable."),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="The trial's --cache (default: the variable BIAS_TRANSFER_CACHE, or else ~/.cache/bias-transfer).",
        ),
    ] = None,
) -> None:
    """Predict texts with a trial's classifier.

    The trial must have run with --keep-models. The output has one row per text, in the order of the texts. The classifier of a
    LoRA or frozen trial is put together from the trial's own data and model, which must be at hand.

    \b
    bias-transfer predict ID comments.csv --out logits.csv
    bias-transfer predict ID comments.csv --out logits.csv --set model=FOLDER
    """
    # Imported late: --help need not wait for torch.
    import pandas as pd

    from bias_transfer.kept_models import ask
    from bias_transfer.resolved import Places
    from bias_transfer.tasks import readers
    from bias_transfer.training import kept

    with user_errors():
        moved = grid.assignments(set_ or [])
        for key in moved:
            if key not in MOVED:
                raise UserError(f"--set: {unknown('key', key, MOVED)}")
        if not out.parent.is_dir():
            raise UserError(f"--out {out}: there is no folder {out.parent}")
        places = Places(cache=cache) if cache else Places()
        classifier = kept.load(places.stored, id)
        table = readers.read_table(file)
        texts = readers.check_texts(table, readers.find_column(table, "text", (column,) if column else TEXT))
        logits = ask(classifier, texts, places, **{key: str(path) for key, path in moved.items()})
        # Names of classes come from a task's file: behind a word, none is a formula for a spreadsheet.
        names = [f"logit {label}" for label in classifier.labels]
        frame = pd.DataFrame(logits, columns=names, index=table.frame.index)
        with atomic.new_file(out) as new:
            frame.to_csv(new)
        tell(f"{len(frame)} texts: {out}")
