"""Where a task's examples come from: `synthetic`, a file, a folder or the hub. What the tasks share in reading them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from pydantic import Field

from bias_transfer.models import hub
from bias_transfer.spec import Options
from bias_transfer.errors import UserError
from bias_transfer.tasks import readers
from bias_transfer.tasks.base import Splits

ID = ("rev_id", "id")


class FileOptions(Options):
    """`data.NAME` for examples that are read."""

    split_seed: int = Field(default=0, ge=0)
    """Splits a single file 80/10/10 (ours); of no use where the splits are given."""


def check_options(data: str, options: Options, expected: type[Options]) -> None:
    """Raises UserError for the knobs of another source."""
    if type(options) is not expected:
        raise UserError(f"data {data!r} takes {expected.__name__}, not {type(options).__name__}.")


def locate(data: str, allowed: str) -> Path | None:
    """The file or folder; None for what only the hub can have. Raises UserError, ending in what is allowed."""
    path = Path(data)
    if path.exists():
        return path
    if "/" in data and hub.HUB_ID.fullmatch(data) and path.suffix not in readers.READERS and data[0] != ".":
        return None
    near = " Did you mean 'synthetic'?" if difflib.get_close_matches(data, ["synthetic"]) else hub.did_you_mean(data)
    raise UserError(f"data {data!r} is neither a file nor a folder here, and cannot be a hub id.{near} {allowed}")


def tables(data: str, path: Path | None) -> dict[str, readers.Table]:
    """By split; one alone, named "row", is still to be split. `path` is what `locate` found."""
    if path is None:
        return _hub_splits(data)
    if path.is_file():
        return {"row": readers.read_table(path)}
    return {name: readers.read_table(file) for name, file in readers.split_files(path).items()}


def _hub_splits(data: str) -> dict[str, readers.Table]:
    found = readers.read_hub(data)
    names = {"train": "train", "dev": "dev" if "dev" in found else "validation", "test": "test"}
    if set(found) == {"train"}:
        return {"row": found["train"]}
    if missing := [name for name in names.values() if name not in found]:
        raise UserError(
            f"the hub data set {data} has no split {', '.join(missing)}; it has {', '.join(found)}. "
            "Allowed: train, validation (or dev) and test, or train alone, which is then split."
        )
    return {name: found[own] for name, own in names.items()}


def own_ids(table: readers.Table) -> list[str] | None:
    """The cells of the first column that names its examples; None where there is none."""
    return next((table.frame[name].tolist() for name in ID if name in table.frame), None)


def splits(
    data: str,
    found: Mapping[str, readers.Table],
    frames: dict[str, pd.DataFrame],
    classes: int,
    options: FileOptions,
    extra: tuple[str, ...] = (),
) -> Splits:
    """The examples of the frames, split where there is one frame alone.

    frames: columns text, label, given (`own_ids`, or missing), the `extra` columns of strings that the data set keeps, and,
    if a split is to keep more than the labels' shares, stratum. Raises UserError for a split without one of the classes.
    """
    frames = _with_ids(frames)
    if len(found) > 1:
        _check_given(data, found, frames, classes, options)
    else:
        (table,), (frame,) = found.values(), frames.values()
        readers.check_classes(table.source, frame["label"].tolist(), classes, least=3)
        frames = readers.split_frame(frame, frame["key"].tolist(), options.split_seed)
    train, dev, test = (readers.to_dataset(frames[name], *extra) for name in readers.SPLITS)
    return Splits(train, dev, test, pretraining=tuple(frames["train"]["text"]), heldout=tuple(frames["dev"]["text"]))


def _with_ids(frames: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Adds id (the given one if all have one and no two share it, else SPLIT:NUMBER) and key, for ranking."""
    given = [own for frame in frames.values() for own in frame["given"]]
    usable = all(given) and len(set(given)) == len(given)
    return {
        name: frame.assign(
            id=frame["given"] if usable else [f"{name}:{number}" for number in range(len(frame))],
            key=frame["given"] if usable else frame["text"],
        )
        for name, frame in frames.items()
    }


def _check_given(
    data: str,
    found: Mapping[str, readers.Table],
    frames: Mapping[str, pd.DataFrame],
    classes: int,
    options: FileOptions,
) -> None:
    if options.split_seed:
        raise UserError(f"data.split_seed: {data} has its own splits, so that it would change nothing. Leave it out.")
    for name, frame in frames.items():
        readers.check_classes(f"{found[name].source}, split {name}", frame["label"].tolist(), classes)
