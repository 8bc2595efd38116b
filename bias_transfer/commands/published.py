"""`bias-transfer published`: published numbers next to ours, for the models that are at hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bias_transfer.commands.published_numbers import (
    ALIASES,
    COMPUTED,
    FILES,
    MODELS,
    OWN,
    TABLE,
    File,
    Published,
    document,
)
from bias_transfer.console import console, tell, user_errors
from bias_transfer.errors import UserError, unknown
from bias_transfer.storage import atomic

if TYPE_CHECKING:
    import numpy as np

    from bias_transfer.spec import Measure

MOST_TOKENS, BATCH_TOKENS = 512, 4096
"""Of a text of HateCheck, and per forward pass with padding."""

UNCHECKED = "it was not checked that these are the weights of that name"


@dataclass(frozen=True)
class AtHand:
    """A model on this machine."""

    name: str
    folder: str
    """From which it is loaded, so that nothing is downloaded even where the cache lacks a file."""
    where: str
    """Where its weights are from, for the reader of a number."""


@dataclass(frozen=True)
class Compared:
    """A published number and ours."""

    published: Published
    ours: float
    n: int

    @property
    def difference(self) -> float:
        """Ours minus the published one, in its unit."""
        return self.ours - self.published.value


def main(
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="ID=FOLDER", help="A checkpoint folder that holds the model ID; repeatable."),
    ] = None,
    crows_pairs: Annotated[
        Path | None, typer.Option(metavar="FILE", help="crows_pairs_anonymized.csv.", show_default=False)
    ] = None,
    stereoset: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="test.json of bias-bench, as StereoSet's dev.json.", show_default=False),
    ] = None,
    hatecheck: Annotated[
        Path | None, typer.Option(metavar="FILE", help="test_suite_cases.csv.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.csv", help="Write the compared numbers to this file.", show_default=False),
    ] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="Print all published numbers as Markdown (docs/published.md).")
    ] = False,
) -> None:
    """Compare published numbers with ours.

    Measures the models that are in the hub's local cache, or in a folder that you name; nothing is downloaded.
    docs/published.md lists the numbers, their sources, and where our definition differs.

    \b
    bias-transfer published --crows-pairs crows_pairs_anonymized.csv
    bias-transfer published --stereoset test.json --model bert-base-uncased=models/bert
    bias-transfer published --list > docs/published.md
    """
    if list_:
        print(document(), end="")
        return
    with user_errors():
        given: dict[File, Path | None] = {"crows_pairs": crows_pairs, "stereoset": stereoset, "hatecheck": hatecheck}
        files = _checked({name: path for name, path in given.items() if path}, out)
        models = at_hand(_folders(model or []))
        compared = [each for one in models for each in compare(one, files)]
        _show(models, compared, files)
        if out and compared:
            _write(compared, {one.name: one.where for one in models}, out)
            tell(f"Written: {out}")


def _checked(files: Mapping[File, Path], out: Path | None) -> Mapping[File, Path]:
    """The files. Raises UserError for one that does not exist, before anything is measured."""
    for name, path in files.items():
        if not path.is_file():
            raise UserError(f"--{name.replace('_', '-')} {path}: no such file. It is {FILES[name]}.")
    if out and not out.parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.parent}")
    return files


def _folders(words: Sequence[str]) -> dict[str, Path]:
    """Model -> its folder, from ID=FOLDER. Raises UserError."""
    folders = dict[str, Path]()
    for word in words:
        name, _, folder = word.partition("=")
        if name not in MODELS:
            raise UserError(f"--model {word}: {unknown('model', name, MODELS)}")
        if not (Path(folder) / "config.json").is_file():
            raise UserError(
                f"--model {word}: {folder or 'no folder'} is no checkpoint folder, which has a config.json."
            )
        folders[name] = Path(folder)
    return folders


def at_hand(folders: Mapping[str, Path]) -> list[AtHand]:
    """The models of the table that are on this machine, in its order; a folder goes before the cache."""
    from bias_transfer.models import hub

    models = list[AtHand]()
    for name in MODELS:
        if name in folders:
            models.append(
                AtHand(name, str(folders[name]), f"the folder {folders[name]}, as given by --model; {UNCHECKED}")
            )
            continue
        ids = () if name in OWN else (name, ALIASES[name])
        known = [(source, found) for source in ids if (found := hub.cached(source))]
        models += [
            AtHand(name, str(path), f"the hub cache, {source} at {commit[:12]}") for source, (commit, path) in known[:1]
        ]
    return models


def compare(model: AtHand, files: Mapping[File, Path]) -> list[Compared]:
    """The model's published numbers next to ours, as far as their files are given."""
    wanted = [row for row in COMPUTED if row.model == model.name and row.file in files]
    ours = {
        (row.metric, row.group): row
        for row in _measured(model, {row.file: files[row.file] for row in wanted if row.file})
    }
    rows = ((row, ours[row.metric, row.group]) for row in wanted if (row.metric, row.group) in ours)
    return [Compared(row, row.scale * measure.value, measure.n) for row, measure in rows]


def _measured(model: AtHand, files: Mapping[File, Path]) -> Iterable[Measure]:
    if "hatecheck" in files:
        yield from _classified(model, files["hatecheck"])
    asked: set[File] = {"crows_pairs", "stereoset"}
    if not asked & set(files):
        return
    from bias_transfer.metrics import crows_pairs, stereoset
    from bias_transfer.models import language_model

    loaded = language_model.load_lm(model.folder, None)
    if "crows_pairs" in files:
        yield from crows_pairs.crows_pairs(loaded, crows_pairs.read_pairs(str(files["crows_pairs"])))
    if "stereoset" in files:
        yield from stereoset.stereoset(loaded, stereoset.read_items(str(files["stereoset"])), replica=True)


def _classified(model: AtHand, file: Path) -> Iterable[Measure]:
    """Accuracy on HateCheck: overall, of either label, and per functionality. Raises UserError for another file."""
    import numpy as np

    from bias_transfer.spec import Measure
    from bias_transfer.tasks.evaluation import reading
    from bias_transfer.tasks.registry import TASKS

    task = TASKS["wiki"]
    cases = reading.load(reading.resolve({"hatecheck": str(file)}, task), task)["hatecheck"]
    labels, tests = np.array(cases.examples["label"][:]), np.array(cases.examples[reading.FUNCTIONALITY][:])
    right = predicted(model, cases.examples["text"][:]) == labels
    sets = {
        ("accuracy", ""): labels >= 0,
        ("accuracy_hateful", ""): labels == 1,
        ("accuracy_harmless", ""): labels == 0,
    }
    sets |= {("functionality_accuracy", name): tests == name for name in cases.functionalities}
    for (metric, group), chosen in sets.items():
        if chosen.any():
            yield Measure("downstream", metric, group, "", float(right[chosen].mean()), int(chosen.sum()))


def predicted(model: AtHand, texts: Sequence[str]) -> np.ndarray:
    """(texts,): the class that a sequence classifier of two labels predicts; the second is the hateful one."""
    import numpy as np
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from bias_transfer.models import language_model, safety
    from bias_transfer.models.batching import encode, length_batches, pad

    safety.check(model.folder, None)
    with language_model.quiet():
        loaded: Any = AutoModelForSequenceClassification.from_pretrained(model.folder, use_safetensors=True)
        tokenizer = AutoTokenizer.from_pretrained(model.folder)
    if loaded.config.num_labels != 2:
        raise UserError(f"--model {model.name}: {loaded.config.num_labels} labels; two are needed, the second hateful.")
    rows, classes = encode(tokenizer, texts, MOST_TOKENS), np.zeros(len(texts), dtype=int)
    with torch.inference_mode():
        for chosen in length_batches([*map(len, rows)], BATCH_TOKENS):
            batch = pad([rows[index] for index in chosen], tokenizer.pad_token_id)
            classes[chosen] = loaded.eval()(**batch).logits.argmax(dim=1).numpy()
    return classes


def _show(models: Sequence[AtHand], compared: Sequence[Compared], files: Mapping[File, Path]) -> None:
    if compared:
        console().print(_table(compared))
    for model in models:
        tell(f"{model.name}: {model.where}.")
    for text in _not_computed(models, files):
        tell(text)
    tell(
        "What each number is, its source, and the difference to expect: docs/published.md, or bias-transfer published --list."
    )


def _table(compared: Sequence[Compared]) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    for column in ("what", "model", "published", "ours", "difference", "n", "unit"):
        table.add_column(column, justify="right" if column in ("published", "ours", "difference", "n") else "left")
    for each in compared:
        row = each.published
        numbers = (f"{row.value:g}", f"{each.ours:.2f}", f"{each.difference:+.2f}", str(each.n))
        table.add_row(row.what, row.model, *numbers, row.unit)
    return table


def _not_computed(models: Sequence[AtHand], files: Mapping[File, Path]) -> list[str]:
    """Which models and files are missing, and what to do about it."""
    names = {model.name for model in models}
    hub_ids = [name for name in MODELS if name not in names and name not in OWN]
    texts = list[str]()
    if not models:
        texts.append(
            "No model of the table is at hand, so nothing was compared: download one, as by `hf download bert-base-uncased`, "
            "or name a folder by --model ID=FOLDER."
        )
    if hub_ids:
        texts.append(f"Not in the hub cache: {', '.join(hub_ids)}.")
    if own := [name for name in OWN if name not in names]:
        texts.append(f"Only by --model ID=FOLDER: {'; '.join(f'{name} ({OWN[name]})' for name in own)}.")
    lacking = dict.fromkeys(row.file for row in COMPUTED if row.file and row.model in names and row.file not in files)
    texts += [f"--{name.replace('_', '-')} FILE was not given, which is {FILES[name]}." for name in lacking]
    others = len(TABLE) - len(COMPUTED)
    return [*texts, f"{others} more numbers take another command (SEAT, and the poster's two sentences, a sweep)."]


def _write(compared: Sequence[Compared], where: Mapping[str, str], out: Path) -> None:
    import pandas as pd

    rows = [
        {
            "what": row.what, "model": row.model, "weights": where[row.model], "published": row.value, "ours": each.ours,
            "difference": each.difference, "n": each.n, "unit": row.unit, "metric": row.metric, "group": row.group,
            "source": row.source, "source_read": row.read, "expected": row.expected,
        }
        for each in compared for row in (each.published,)
    ]  # fmt: skip
    with atomic.new_file(out) as new:
        pd.DataFrame(rows).to_csv(new, index=False)
