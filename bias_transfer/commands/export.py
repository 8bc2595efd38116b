"""`bias-transfer export`: write the model of a trial as an ordinary checkpoint folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bias_transfer.console import TrackingUri, tell, user_errors
from bias_transfer.errors import UserError, unknown

if TYPE_CHECKING:  # it loads torch, which --help does not wait for
    from bias_transfer.commands.model_card import Exported, Stage
    from bias_transfer.resolved import Places, ResolvedTrial
    from bias_transfer.spec import Measure
    from bias_transfer.training.kept import Kept

STAGES = ("upstream", "finetuned")


def main(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for the checkpoint; it must not exist.")],
    id: Annotated[str, typer.Option("--id", metavar="ID", help="The trial's id, as the sweep's --dry-run lists it.")],
    config: Annotated[
        Path | None,
        typer.Argument(
            metavar="CONFIG",
            help="The config that has the trial. --stage finetuned does without, unless data or model have moved.",
        ),
    ] = None,
    stage: Annotated[
        str,
        typer.Option(
            metavar="STAGE",
            help="upstream: the language model after the upstream arm. finetuned: the classifier of a trial that ran with "
            "--keep-models.",
        ),
    ] = "upstream",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a field, as the sweep did; repeatable."),
    ] = None,
    tracking_uri: TrackingUri = None,
    cache: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The trial's --cache (default: BIAS_TRANSFER_CACHE).")
    ] = None,
) -> None:
    """Write a trial's model as a checkpoint.

    That is its treated language model, or its fine-tuned classifier, as a folder for transformers. The folder has a model card
    (README.md) with the trial, what MLflow recorded of it, and its limits. It is checked to give the trial's logits with
    transformers alone.

    \b
    bias-transfer export --id ID tune_configs/wiki_small.yaml --out treated
    bias-transfer export --id ID tune_configs/wiki_small.yaml --stage finetuned --out classifier
    """
    # Imported late: --help need not wait for torch.
    from bias_transfer.commands import model_card
    from bias_transfer.resolved import Places
    from bias_transfer.storage import atomic

    with user_errors():
        if stage not in STAGES:
            raise UserError(f"--stage: {unknown('stage', stage, STAGES)}")
        if out.exists():
            raise UserError(f"--out {out} exists already. Name a folder that does not.")
        places = Places(cache=cache) if cache else Places()
        resolved, stored = _trial(id, config, set_ or [], stage, places)
        measures = _measures(resolved, tracking_uri)
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            with atomic.new_folder(out) as folder:
                exported = _write(resolved, stored, places, folder)
                text = model_card.card(exported, measures, resolved.task.primary)
                (folder / "README.md").write_text(text, encoding="utf-8")
        except OSError as error:
            raise UserError(f"--out {out} cannot be written: {error.strerror or error}") from None
        if exported.folded:
            tell(
                f"The projection of the upstream arm {resolved.upstream.name} is folded into the classification head: the "
                "logits are those of the trial, and the encoder's own states those before the projection."
            )
        auto = model_card.CLASSES[exported.stage, exported.kind][0]
        tell(
            f"Checkpoint: {out}\nNext: transformers.{auto}.from_pretrained({str(out)!r}); its model card is {out / 'README.md'}"
        )


def _trial(
    wanted: str, config: Path | None, overrides: list[str], stage: str, places: Places
) -> tuple[ResolvedTrial, Kept | None]:
    """The trial and, for the stage finetuned, what it kept. Raises UserError."""
    from bias_transfer.commands.trial import from_config
    from bias_transfer.resolved import resolve
    from bias_transfer.training import kept

    resolved = from_config(wanted, [str(config)], overrides)[0] if config else None
    if stage == "upstream":
        if resolved is None:
            raise UserError("--stage upstream applies the trial's arm again, and needs the CONFIG that has the trial.")
        return resolved, None
    if resolved and resolved.prompted:
        raise UserError(
            f"the trial {wanted} has tuning: prompt, which trains nothing: it has no fine-tuned model to export. Its language "
            "model is that of --stage upstream."
        )
    if wanted not in kept.ids(places.stored):
        rest = f"{config} {' '.join(f'--set {word}' for word in overrides)}".strip() if config else "CONFIG"
        raise UserError(
            f"the trial {wanted} has no kept classifier in {kept.shown(places.stored)}: --stage finetuned takes one. Run the "
            f"trial with --keep-models first: bias-transfer trial --id {wanted} {rest} --keep-models "
            "(a trial with tuning: prompt trains nothing, and keeps none)."
        )
    stored = kept.load(places.stored, wanted)
    return resolved or resolve(stored.trial), stored


def _write(resolved: ResolvedTrial, stored: Kept | None, places: Places, folder: Path) -> Exported:
    from bias_transfer.commands.model_card import Exported
    from bias_transfer.kept_models import export_finetuned, export_treated

    if stored:
        model, folded = export_finetuned(stored, resolved.trial, places, folder)
    else:
        model, folded = export_treated(resolved, places, folder), False
    before = model.tokenizer("")["input_ids"] if model.kind == "causal" else []
    start = model.tokenizer.convert_ids_to_tokens(before[0]) if before else None
    stage: Stage = "finetuned" if stored else "upstream"
    return Exported(resolved.trial, resolved.short.name, stage, model.kind, start, folded)


def _measures(resolved: ResolvedTrial, uri: str | None) -> list[Measure]:
    """The measures that MLflow has of the trial; none if it has no finished run of it."""
    from bias_transfer.console import redacted
    from bias_transfer.tracking import results, runs, store

    address = store.tracking_uri(uri)
    client = store.connect(address) if uri or store.exists(address) else None
    run = runs.of_trial(client, resolved.id) if client else None
    if client is None or run is None:
        tell(f"MLflow at {redacted(address)} has no finished run of {resolved.id}: the model card has no measures.")
        return []
    return results.measures_of(client, run)
