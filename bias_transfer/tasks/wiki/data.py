"""The comments of the WIKI task: from the generator, a file, a folder, the figshare pair or the hub.

Public forms: the pair of Wulczyn et al. 2017 on figshare, the Kaggle form, and hub mirrors of it (SCIENCE.md, "The two
tasks"). Columns are found by name, and a form is never guessed from the content.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import pandas as pd

from bias_transfer.models import hub
from bias_transfer.spec import Options
from bias_transfer.errors import UserError
from bias_transfer.tasks import readers
from bias_transfer.tasks import loading
from bias_transfer.tasks.wiki import synthetic
from bias_transfer.tasks.loading import FileOptions
from bias_transfer.tasks.base import Splits

TEXT = ("comment", "comment_text", "text")
LABEL = ("toxic", "is_toxic", "label")
CODES = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}
"""Labels that are accepted, in any case; 1 is toxic."""

COMMENTS, ANNOTATIONS = "toxicity_annotated_comments.tsv", "toxicity_annotations.tsv"
ALLOWED = (
    "Allowed: synthetic; a .csv, .tsv or .parquet file; a folder with train, dev and test as such files, or with the "
    f"figshare pair {COMMENTS} and {ANNOTATIONS}; a hub data set, OWNER/NAME."
)


WikiOptions: TypeAlias = synthetic.SyntheticOptions | FileOptions


def data_options(data: str) -> type[Options]:
    """The knobs that this source has."""
    return synthetic.SyntheticOptions if data == "synthetic" else FileOptions


def identify(data: str) -> str:
    """Digest of what `load` reads, or a hub data set's commit; of `synthetic`, its name. Raises UserError."""
    if data == "synthetic":
        return data
    path = loading.locate(data, ALLOWED)
    if path is None:
        return hub.revision(data, "dataset")
    return readers.content_digest(path, (COMMENTS, ANNOTATIONS) if _is_figshare(path) else None)


def load(data: str, options: WikiOptions) -> Splits:
    """The comments, in memory. Raises UserError for what cannot be used, naming file, line and what is allowed."""
    loading.check_options(data, options, data_options(data))
    if isinstance(options, synthetic.SyntheticOptions):
        return synthetic.generate(options)
    tables = _tables(data)
    return loading.splits(data, tables, {name: examples(table) for name, table in tables.items()}, 2, options)


def _tables(data: str) -> dict[str, readers.Table]:
    path = loading.locate(data, ALLOWED)
    return _read_figshare(path) if path is not None and _is_figshare(path) else loading.tables(data, path)


def _is_figshare(path: Path) -> bool:
    """Whether the folder holds the pair. Raises UserError for half of it."""
    there = [name for name in (COMMENTS, ANNOTATIONS) if (path / name).is_file()]
    if len(there) == 1:
        raise UserError(f"{path}: has {there[0]}, but not the other of {COMMENTS} and {ANNOTATIONS}. Both are needed.")
    return bool(there)


def _read_figshare(folder: Path) -> dict[str, readers.Table]:
    """The pair of files as one table a split, with the label toxic: the mean over workers is above 0.5."""
    table, annotations = readers.read_table(folder / COMMENTS), readers.read_table(folder / ANNOTATIONS)
    votes = readers.check_labels(annotations, readers.find_column(annotations, "label", ("toxicity",)), CODES)
    key = readers.find_column(annotations, "comment's id", ("rev_id",))
    means = pd.Series(votes).groupby(_without_fraction(annotations.frame[key]).to_numpy()).mean()
    frame, text = table.frame, readers.find_column(table, "text", ("comment",))
    mean = _without_fraction(frame[readers.find_column(table, "comment's id", ("rev_id",))]).map(means)
    if mean.isna().any():
        raise UserError(
            f"{table.at(frame.index[mean.isna()])}: no annotation in {ANNOTATIONS}. Every comment needs one."
        )
    split = frame[readers.find_column(table, "split", ("split",))]
    if unknown := list(frame.index[~split.isin(readers.SPLITS)]):
        raise UserError(f"{table.at(unknown)}: no split that is allowed. Allowed: {', '.join(readers.SPLITS)}.")
    plain = frame[text].str.replace("NEWLINE_TOKEN", "\n").str.replace("TAB_TOKEN", "\t")
    frame = frame.assign(**{text: plain, "toxic": (mean > 0.5).astype(int).astype(str)})
    return {name: readers.Table(table.source, frame[split == name]) for name in readers.SPLITS}


def _without_fraction(ids: pd.Series[str]) -> pd.Series[str]:
    """The published files write ids as 2232.0."""
    return ids.str.removesuffix(".0")


def examples(table: readers.Table) -> pd.DataFrame:
    """Columns text, label and given: its own id, or missing."""
    text, label = readers.find_column(table, "text", TEXT), readers.find_column(table, "label", LABEL)
    labels = readers.check_labels(table, label, CODES)
    return pd.DataFrame({"text": readers.check_texts(table, text), "label": labels, "given": loading.own_ids(table)})
