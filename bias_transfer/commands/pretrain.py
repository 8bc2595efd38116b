"""`bias-transfer pretrain`: pre-train a language model on text files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bias_transfer.console import console, reporting, user_errors
from bias_transfer.errors import UserError
from bias_transfer.spec import LEARNED, Measure, parse

if TYPE_CHECKING:
    from bias_transfer.models.language_model import LanguageModel

CONTINUED_RATE = 1e-4
"""Learning rate for a model that is pre-trained already (ours). From scratch, `TinyOptions` has the default."""

TEXT = ("comment", "comment_text", "text", "hard_text")
"""Names of columns that are read as text from a table, the first that is there."""

HELDOUT_EVERY = 20
"""Every twentieth text is held out, for the held-out loss."""


def main(
    text: Annotated[
        list[Path],
        typer.Option(
            metavar="FILE",
            help="Text to learn from: .txt (one text per line), or a table (.csv, .jsonl, .parquet and others); repeatable.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for the checkpoint; it must not exist.")],
    start: Annotated[
        str,
        typer.Option(
            "--from", metavar="FOLDER", help="Checkpoint to continue from (default: from scratch).", show_default=False
        ),
    ] = "none",
    steps: Annotated[int, typer.Option(min=1, metavar="N", help="Number of optimiser steps.")] = 1000,
    tokens_per_step: Annotated[
        int, typer.Option(min=1, metavar="N", help="Tokens per optimiser step, approximately.")
    ] = 1200,
    max_tokens: Annotated[
        int, typer.Option(min=8, max=512, metavar="N", help="Texts with more tokens are cut into pieces of N.")
    ] = 64,
    learning_rate: Annotated[
        float | None,
        typer.Option(metavar="RATE", help="Learning rate (default: 2e-3 from scratch, 1e-4 from a checkpoint)."),
    ] = None,
    width: Annotated[int, typer.Option(metavar="N", help="Hidden size; only from scratch.")] = 128,
    layers: Annotated[int, typer.Option(min=1, metavar="N", help="Number of layers; only from scratch.")] = 2,
    vocabulary: Annotated[
        int, typer.Option(min=300, metavar="N", help="Size of the tokenizer's vocabulary; only from scratch.")
    ] = 8000,
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="KIND", help="masked (default) or causal; only from scratch, since a checkpoint is of one kind."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed of initial weights and of batches.")] = 0,
    threads: Annotated[
        int, typer.Option(min=1, metavar="N", help="CPU threads; results are not bit-identical across thread counts.")
    ] = 1,
) -> None:
    """Pre-train a masked or causal language model.

    It starts from scratch or from a checkpoint. Continuing also gives a language-model head to a checkpoint that has none.

    \b
    bias-transfer pretrain --text comments.csv --steps 1000 --out models/small
    bias-transfer pretrain --from models/minilm --text comments.csv --steps 2000 --out models/minilm-mlm
    """
    # Imported late: --help need not wait for torch.
    from bias_transfer import determinism
    from bias_transfer.metrics.mask_filling import heldout_loss
    from bias_transfer.models import hub
    from bias_transfer.training import lm_training

    with user_errors():
        if out.exists():
            raise UserError(f"--out {out} exists already. Name a folder that does not.")
        if start != "none":
            hub.identify(start)
        rate = learning_rate or (2e-3 if start == "none" else CONTINUED_RATE)
        names = ("steps", "tokens_per_step", "max_tokens", "width", "layers", "vocabulary", "kind", "seed", "threads")
        values = {name: value for name, value in locals().items() if name in names}
        options = parse(lm_training.TinyOptions, {**values, "learning_rate": rate}, "")
        texts = [line for path in text for line in _texts(path)]
        training = [line for index, line in enumerate(texts) if index % HELDOUT_EVERY]
        heldout = texts[::HELDOUT_EVERY]
        if not training:
            raise UserError(
                f"--text: {len(texts)} texts are too few to learn from. At least {HELDOUT_EVERY} are needed."
            )
        with determinism.using_threads(threads), reporting() as report:
            model = lm_training.begin(None if start == "none" else start, training, options)
            before = heldout_loss(model, heldout, training)
            lm_training.train(model, training, options, report)
            after = heldout_loss(model, heldout, training)
        _save(model, out)
        _tell(before, after, out)


def _texts(path: Path) -> list[str]:
    """The lines of a .txt file, or the text column of a table. Raises UserError."""
    from bias_transfer.tasks import file_kinds, readers

    if file_kinds.inner_kind(file_kinds.kind_of(path)) == ".txt":
        return [line for line in file_kinds.read_text(path).splitlines() if line.strip()]
    table = readers.read_table(path)
    return readers.check_texts(table, readers.find_column(table, "text", TEXT))


def _save(model: LanguageModel, out: Path) -> None:
    """Save the checkpoint; the folder appears whole or not at all."""
    from bias_transfer.models import language_model
    from bias_transfer.storage import atomic

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic.new_folder(out) as folder, language_model.quiet():
            model.lm.save_pretrained(folder)
            model.tokenizer.save_pretrained(folder)
    except OSError as error:
        raise UserError(f"--out {out} cannot be written: {error.strerror or error}") from None


def _tell(before: list[Measure], after: list[Measure], out: Path) -> None:
    (loss, unigram), start = (row.value for row in after), before[0].value
    measured = after[0].metric.replace("_lm_", "-LM ")
    console().print(f"Held-out {measured}: {start:.2f} before, {loss:.2f} after (n = {after[0].n} tokens); "
                    f"word frequencies alone: {unigram:.2f} nats")  # fmt: skip
    if not loss < LEARNED * unigram:
        console().print(
            "Warning: the loss is not clearly below that of word frequencies, so upstream scores of this model are noise."
        )
    console().print(f"Checkpoint: {out}\nNext: bias-transfer trial model={out} data=FOLDER", markup=False)
