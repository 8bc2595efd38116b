"""The comments of the WIKI task: from the generator, a file, a folder, the figshare pair or the hub.

Public forms: the pair of Wulczyn et al. 2017 on figshare, the Kaggle form, and hub mirrors of it (SCIENCE.md, "The two
tasks"). Columns are found by name, and a form is never guessed from the content.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TypeAlias

import pandas as pd
from pydantic import Field

from bias_transfer import hub
from bias_transfer.spec import Options, UserError
from bias_transfer.tasks import files, synthetic
from bias_transfer.tasks.task import Splits

TEXT = ("comment", "comment_text", "text")
LABEL = ("toxic", "is_toxic", "label")
ID = ("rev_id", "id")
CODES = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}
"""Labels that are accepted, in any case; 1 is toxic."""

COMMENTS, ANNOTATIONS = "toxicity_annotated_comments.tsv", "toxicity_annotations.tsv"
ALLOWED = (
    "Allowed: synthetic; a .csv, .tsv or .parquet file; a folder with train, dev and test as such files, or with the "
    f"figshare pair {COMMENTS} and {ANNOTATIONS}; a hub data set, OWNER/NAME."
)


class FileOptions(Options):
    """`data.NAME` for comments that are read."""

    split_seed: int = Field(default=0, ge=0)
    """Splits a single file 80/10/10 (ours); of no use where the splits are given."""


WikiOptions: TypeAlias = synthetic.SyntheticOptions | FileOptions


def data_options(data: str) -> type[Options]:
    """The knobs that this source has."""
    return synthetic.SyntheticOptions if data == "synthetic" else FileOptions


def identify(data: str) -> str:
    """Digest of what `load` reads, or a hub data set's commit; of `synthetic`, its name. Raises UserError."""
    if data == "synthetic":
        return data
    path = _path(data)
    if path is None:
        return hub.revision(data, "dataset")
    return files.content_digest(path, (COMMENTS, ANNOTATIONS) if _is_figshare(path) else None)


def load(data: str, options: WikiOptions) -> Splits:
    """The comments, in memory. Raises UserError for what cannot be used, naming file, line and what is allowed."""
    if type(options) is not data_options(data):
        raise UserError(f"data {data!r} takes {data_options(data).__name__}, not {type(options).__name__}.")
    if isinstance(options, synthetic.SyntheticOptions):
        return synthetic.generate(options)
    tables = _tables(data)
    frames = _with_ids({name: _examples(table) for name, table in tables.items()})
    if len(tables) > 1:
        _check_given(data, tables, frames, options)
    else:
        (table,), (frame,) = tables.values(), frames.values()
        files.check_classes(table.source, frame["label"].tolist(), 2, least=3)
        frames = files.split_frame(frame, frame["key"].tolist(), options.split_seed)
    train, dev, test = (files.to_dataset(frames[name]) for name in files.SPLITS)
    return Splits(train, dev, test, pretraining=tuple(frames["train"]["text"]), heldout=tuple(frames["dev"]["text"]))


def _path(data: str) -> Path | None:
    """The file or folder; None for what only the hub can have."""
    path = Path(data)
    if path.exists():
        return path
    if "/" in data and hub.HUB_ID.fullmatch(data) and path.suffix not in files.READERS and data[0] != ".":
        return None
    near = " Did you mean 'synthetic'?" if difflib.get_close_matches(data, ["synthetic"]) else hub.did_you_mean(data)
    raise UserError(f"data {data!r} is neither a file nor a folder here, and cannot be a hub id.{near} {ALLOWED}")


def _tables(data: str) -> dict[str, files.Table]:
    """By split; one alone is still to be split."""
    path = _path(data)
    if path is None:
        return _hub_splits(data)
    if path.is_file():
        return {"row": files.read_table(path)}
    if _is_figshare(path):
        return _read_figshare(path)
    return {name: files.read_table(file) for name, file in files.split_files(path).items()}


def _hub_splits(data: str) -> dict[str, files.Table]:
    tables = files.read_hub(data)
    names = {"train": "train", "dev": "dev" if "dev" in tables else "validation", "test": "test"}
    if set(tables) == {"train"}:
        return {"row": tables["train"]}
    if missing := [name for name in names.values() if name not in tables]:
        raise UserError(
            f"the hub data set {data} has no split {', '.join(missing)}; it has {', '.join(tables)}. "
            "Allowed: train, validation (or dev) and test, or train alone, which is then split."
        )
    return {name: tables[own] for name, own in names.items()}


def _is_figshare(path: Path) -> bool:
    """Raises UserError for half of the pair."""
    there = [name for name in (COMMENTS, ANNOTATIONS) if (path / name).is_file()]
    if len(there) == 1:
        raise UserError(f"{path}: has {there[0]}, but not the other of {COMMENTS} and {ANNOTATIONS}. Both are needed.")
    return bool(there)


def _read_figshare(folder: Path) -> dict[str, files.Table]:
    """The pair of files as one table a split, with the label toxic: the mean over workers is above 0.5."""
    table, annotations = files.read_table(folder / COMMENTS), files.read_table(folder / ANNOTATIONS)
    votes = files.check_labels(annotations, files.find_column(annotations, "label", ("toxicity",)), CODES)
    key = files.find_column(annotations, "comment's id", ("rev_id",))
    means = pd.Series(votes).groupby(_without_fraction(annotations.frame[key]).to_numpy()).mean()
    frame, text = table.frame, files.find_column(table, "text", ("comment",))
    mean = _without_fraction(frame[files.find_column(table, "comment's id", ("rev_id",))]).map(means)
    if mean.isna().any():
        raise UserError(
            f"{table.at(frame.index[mean.isna()])}: no annotation in {ANNOTATIONS}. Every comment needs one."
        )
    split = frame[files.find_column(table, "split", ("split",))]
    if unknown := list(frame.index[~split.isin(files.SPLITS)]):
        raise UserError(f"{table.at(unknown)}: no split that is allowed. Allowed: {', '.join(files.SPLITS)}.")
    plain = frame[text].str.replace("NEWLINE_TOKEN", "\n").str.replace("TAB_TOKEN", "\t")
    frame = frame.assign(**{text: plain, "toxic": (mean > 0.5).astype(int).astype(str)})
    return {name: files.Table(table.source, frame[split == name]) for name in files.SPLITS}


def _without_fraction(ids: pd.Series[str]) -> pd.Series[str]:
    """The published files write ids as 2232.0."""
    return ids.str.removesuffix(".0")


def _examples(table: files.Table) -> pd.DataFrame:
    """Columns text, label and given: its own id, or missing."""
    text, label = files.find_column(table, "text", TEXT), files.find_column(table, "label", LABEL)
    own = next((table.frame[name].tolist() for name in ID if name in table.frame), None)
    labels = files.check_labels(table, label, CODES)
    return pd.DataFrame({"text": files.check_texts(table, text), "label": labels, "given": own})


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
    data: str, tables: dict[str, files.Table], frames: dict[str, pd.DataFrame], options: FileOptions
) -> None:
    if options.split_seed:
        raise UserError(f"data.split_seed: {data} has its own splits, so that it would change nothing. Leave it out.")
    for name, frame in frames.items():
        files.check_classes(f"{tables[name].source}, split {name}", frame["label"].tolist(), 2)
