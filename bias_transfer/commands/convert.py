"""`bias-transfer convert`: rewrite a checkpoint whose weights are a pickle as safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bias_transfer.console import tell, user_errors
from bias_transfer.errors import UserError


def main(
    start: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="FOLDER|ID",
            help="A checkpoint with pytorch_model.bin, whole or in shards: a folder or a hub id.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for the checkpoint; it must not exist.")],
) -> None:
    """Rewrite a pickled checkpoint as safetensors.

    That is, a checkpoint whose weights are in pytorch_model.bin. A pickle can run any code when it is opened, so no other
    command opens one. This one lets torch read only tensors (weights_only) and refuses a file that needs more. Use it on
    checkpoints that you trust.

    \b
    bias-transfer convert --from google/multiberts-seed_0 --out models/multiberts-seed_0
    bias-transfer convert --from downloads/old-bert --out models/old-bert
    """
    # Imported late: --help need not wait for torch.
    from bias_transfer.models import language_model, pickles
    from bias_transfer.storage import atomic

    with user_errors():
        if out.exists():
            raise UserError(f"--out {out} exists already. Name a folder that does not.")
        folder = pickles.source(start)
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            with atomic.new_folder(out) as new:
                pickles.convert(folder, new)
        except OSError as error:
            raise UserError(f"--out {out} cannot be written: {error.strerror or error}") from None
        tell(f"Checkpoint: {out}")
        try:
            language_model.load_lm(str(out), None)
        except UserError as error:  # it has no language-model head; the message says how it gets one
            tell(f"Warning: {error}")
        else:
            tell(f"Next: bias-transfer trial model={out} data=FOLDER")
