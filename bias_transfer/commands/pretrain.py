"""The command line of pre-training: python -m bias_transfer.pretrain."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from bias_transfer.console import console
from bias_transfer.console import reporting
from bias_transfer.console import user_errors
from bias_transfer.spec import LEARNED
from bias_transfer.spec import Measure
from bias_transfer.errors import UserError
from bias_transfer.spec import parse

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

CONTINUED_RATE = 1e-4
"""Learning rate for a model that is pre-trained already (ours); from scratch it is `TinyOptions`'."""

TEXT = ("comment", "comment_text", "text", "hard_text")
"""Columns that are read from a table."""

HELDOUT_EVERY = 20
"""Every twentieth text is kept for the held-out loss."""


@app.command(context_settings={"max_content_width": 110})
def main(
    text: Annotated[
        list[Path],
        typer.Option(metavar="FILE", help="Text to learn: .txt (a text a line), .csv, .tsv, .parquet; repeatable."),
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the checkpoint goes; must not exist.")],
    start: Annotated[str, typer.Option("--from", metavar="FOLDER", help="Checkpoint to continue, or none.")] = "none",
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = 1000,
    tokens_per_step: Annotated[int, typer.Option(min=1, help="Tokens an optimiser step, about.")] = 1200,
    max_tokens: Annotated[int, typer.Option(min=8, max=512, help="Longer texts are cut into rows of so many.")] = 64,
    learning_rate: Annotated[float | None, typer.Option(help="Default: 2e-3 from scratch, 1e-4 continued.")] = None,
    width: Annotated[int, typer.Option(help="Hidden size; from scratch only.")] = 128,
    layers: Annotated[int, typer.Option(min=1, help="Layers; from scratch only.")] = 2,
    vocabulary: Annotated[int, typer.Option(min=300, help="Entries of the tokenizer; from scratch only.")] = 8000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Processor threads; they change the bits.")] = 1,
) -> None:
    """Pre-train a masked language model: from scratch, or continued from a checkpoint.

    Continuing also gives a masked-LM head to a checkpoint that has none.

    \b
    python -m bias_transfer.pretrain --text comments.csv --steps 1000 --out models/small
    python -m bias_transfer.pretrain --from models/minilm --text comments.csv --steps 2000 --out models/minilm-mlm
    """
    from bias_transfer import determinism  # late: --help need not wait for torch
    from bias_transfer.models import hub  # late: --help need not wait for torch
    from bias_transfer.models import language_model  # late: --help need not wait for torch
    from bias_transfer.training import lm_training  # late: --help need not wait for torch
    from bias_transfer.metrics.mask_filling import masked_lm_loss
    from bias_transfer.models.language_model import LanguageModel

    with user_errors():
        if out.exists():
            raise UserError(f"--out {out} exists already. Name a folder that does not.")
        if start != "none":
            hub.identify(start)
        rate = learning_rate or (2e-3 if start == "none" else CONTINUED_RATE)
        names = ("steps", "tokens_per_step", "max_tokens", "width", "layers", "vocabulary", "seed", "threads")
        values = {name: value for name, value in locals().items() if name in names}
        options = parse(lm_training.TinyOptions, {**values, "learning_rate": rate}, "")
        texts = [one for path in text for one in _texts(path)]
        training = [one for index, one in enumerate(texts) if index % HELDOUT_EVERY]
        heldout = texts[::HELDOUT_EVERY]
        if not training:
            raise UserError(f"--text: {len(texts)} texts are too few to learn from; give at least {HELDOUT_EVERY}")
        with determinism.using_threads(threads), reporting() as report:
            model, tokenizer = lm_training.begin(None if start == "none" else start, training, options)
            before = masked_lm_loss(LanguageModel(tokenizer, model, None), heldout, training)
            lm_training.train(model, tokenizer, training, options, report)
            after = masked_lm_loss(LanguageModel(tokenizer, model, None), heldout, training)
        _save(model, tokenizer, out)
        _tell(before, after, out)


def _texts(path: Path) -> list[str]:
    """A text a line of .txt, or the text column of a table. Raises UserError."""
    from bias_transfer.tasks import readers

    if path.suffix != ".txt":
        table = readers.read_table(path)
        return readers.check_texts(table, readers.find_column(table, "text", TEXT))
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--text {path} cannot be read as UTF-8 text ({type(error).__name__})") from None


def _save(model: Any, tokenizer: Any, out: Path) -> None:
    """Write aside, then rename: the folder appears whole or not at all."""
    from bias_transfer import determinism
    from bias_transfer.models import hub
    from bias_transfer.models import language_model

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise UserError(f"--out {out} cannot be written: {error.strerror}") from None
    try:
        with language_model.quiet():
            model.save_pretrained(aside)
            tokenizer.save_pretrained(aside)
        aside.chmod(0o777 & ~_umask())
        aside.rename(out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _tell(before: list[Measure], after: list[Measure], out: Path) -> None:
    (loss, unigram), start = (row.value for row in after), before[0].value
    console().print(f"Held-out masked-LM loss: {start:.2f} before, {loss:.2f} after (n = {after[0].n} tokens); "
                    f"word frequencies alone: {unigram:.2f} nats")  # fmt: skip
    if not loss < LEARNED * unigram:
        console().print("Warning: that is not clearly below word frequencies: upstream scores of this model are noise.")
    console().print(f"Checkpoint: {out}\nNext: python -m bias_transfer.trial model={out} data=FOLDER", markup=False)
