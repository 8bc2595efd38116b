"""The examples of an own task: a file, a folder or a hub data set, in columns that its YAML file names."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
from datasets import Dataset

from bias_transfer.models import hub
from bias_transfer.spec import Options
from bias_transfer.errors import UserError
from bias_transfer.tasks import readers
from bias_transfer.tasks import loading
from bias_transfer.tasks.base import Groups
from bias_transfer.tasks.custom.schema import OwnFile
from bias_transfer.tasks.loading import FileOptions
from bias_transfer.tasks.base import Splits
from bias_transfer.tasks.wiki.identity_terms import matcher

GROUP = "group"
"""Column of the data sets with the example's group, "" for none: of phrases, and of examples whose file has one."""

ALLOWED = "Allowed: a .csv, .tsv or .parquet file; a folder with train, dev and test as such files; a hub data set, OWNER/NAME."


def data_options(data: str) -> type[Options]:
    """The knobs that this source has. Raises UserError for synthetic."""
    if data == "synthetic":
        raise UserError(f"data: an own task has no synthetic data; name yours by data=FILE. {ALLOWED}")
    return FileOptions


def identify(data: str) -> str:
    """Digest of what `load` reads, or a hub data set's commit. Raises UserError."""
    data_options(data)
    path = loading.locate(data, ALLOWED)
    return hub.revision(data, "dataset") if path is None else readers.content_digest(path)


def load(own: OwnFile, data: str, options: FileOptions) -> Splits:
    """The examples, in memory, with the column `GROUP` where the file has one. A single file is split by class, and by group
    where it has enough of both. Raises UserError for what cannot be used, naming file, line and what is allowed.
    """
    loading.check_options(data, options, data_options(data))
    tables = loading.tables(data, loading.locate(data, ALLOWED))
    frames = {name: examples(own, table) for name, table in tables.items()}
    return loading.splits(data, tables, frames, len(own.classes), options, (GROUP,) if own.group else ())


def examples(own: OwnFile, table: readers.Table) -> pd.DataFrame:
    """Columns text, label, given (`sources.own_ids`) and, for groups by a column, `GROUP` and stratum."""
    text = readers.find_column(table, "text", (own.text,))
    label = readers.find_column(table, "label", (own.label,))
    codes = {name.lower(): number for number, name in enumerate(own.classes)}
    frame = pd.DataFrame(
        {
            "text": readers.check_texts(table, text),
            "label": readers.check_labels(table, label, codes),
            "given": loading.own_ids(table),
        }
    )
    if own.group is None:
        return frame
    groups = _groups(own, table, readers.find_column(table, "group", (own.group,)))
    return frame.assign(**{GROUP: groups, "stratum": groups})


def _groups(own: OwnFile, table: readers.Table, column: str) -> list[str]:
    known = {"": "", **{name.lower(): name for name in own.names}}
    found = table.frame[column].str.strip().str.lower().map(known)
    if found.isna().any():
        bad = table.frame.index[found.isna()]
        raise UserError(
            f"{table.at(bad)}: no group that is allowed in {column!r}. Allowed: {', '.join(own.names)}, or an empty cell."
        )
    return list(found)


def groups_of(own: OwnFile) -> Groups:
    """Whom the examples are about."""
    return Groups(
        names=own.names,
        of=by_column if own.terms is None else _by_terms(own),
        harmful=own.harmful_label,
        examples=f"examples of the class {own.harmful!r}",
        outside="that belong to no group",
    )


def by_column(data: Dataset) -> list[tuple[str, ...]]:
    """The groups that `GROUP` gives."""
    return [(name,) if name else () for name in data[GROUP][:]]


def _by_terms(own: OwnFile) -> Callable[[Dataset], list[tuple[str, ...]]]:
    mentioned = matcher(own.names)

    def of(data: Dataset) -> list[tuple[str, ...]]:
        return [mentioned(text) for text in data["text"][:]]

    return of
