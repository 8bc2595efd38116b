"""The examples of a custom task: a file, a folder or a hub data set, in columns that the task's YAML file names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import pandas as pd
from datasets import Dataset

from bias_transfer.errors import UserError
from bias_transfer.tasks import file_kinds, label_cells, loading, readers
from bias_transfer.tasks.base import Groups
from bias_transfer.tasks.custom.schema import CustomTaskFile
from bias_transfer.tasks.matching import Attached, described, finder, fold, matcher

GROUP = "group"
"""Column of the data sets with the example's group, "" for none: of the phrases, and of examples whose file has one."""


def source(task_file: CustomTaskFile) -> loading.DataSource:
    """Where the examples come from. A single file is split by class, and by group where it has enough of both."""
    group = {} if task_file.group is None else {"group": (task_file.group,)}
    return loading.DataSource(
        roles={"text": (task_file.text,), "label": (task_file.label,), **group},
        classes=len(task_file.classes),
        examples=partial(examples, task_file),
        names=tuple(task_file.classes),
        allowed=f"Allowed: {file_kinds.ALLOWED}; a folder with train, dev and test as such files; a hub data set, OWNER/NAME.",
    )


def examples(task_file: CustomTaskFile, table: readers.Table, options: loading.FileOptions) -> pd.DataFrame:
    """Columns text, label, given (`loading.given_ids`) and, where a column gives the groups, `GROUP` and stratum (the group).

    Raises UserError, naming the line.
    """
    needed = [(name,) for name in (task_file.text, task_file.label, task_file.group) if name is not None]
    table = readers.spelled(table, needed, loading.ID)
    text = readers.find_column(table, "text", (task_file.text,))
    label = readers.find_column(table, "label", (task_file.label,))
    table = replace(table, frame=table.frame.assign(**{label: table.frame[label].str.normalize("NFC")}))
    frame = pd.DataFrame(
        {
            "text": readers.check_texts(table, text),
            "label": _labels(task_file, table, label),
            "given": loading.given_ids(table),
        }
    )
    if task_file.group is None:
        return frame
    groups = _groups(task_file, table, readers.find_column(table, "group", (task_file.group,)))
    return frame.assign(**{GROUP: groups, "stratum": groups})


def _labels(task_file: CustomTaskFile, table: readers.Table, column: str) -> list[int]:
    codes = task_file.label_codes
    if not (limits := label_cells.bounds(codes)):
        first, *others = task_file.classes
        threshold = (
            f"Write the classes with bounds: {{{first}: ['<0.5'], {others[-1]}: ['>=0.5']}}, or the other way round."
        )
        return readers.check_labels(table, column, codes, threshold)
    cells = readers.labelled(table, column)
    labels = label_cells.by_bounds(cells, limits)
    if labels.isna().any():
        raise UserError(f"{table.at(cells.index[labels.isna()])}: no number in {column!r}, whose classes have bounds.")
    return [int(label) for label in labels]


def _groups(task_file: CustomTaskFile, table: readers.Table, column: str) -> list[str]:
    known = {"": "", **{fold(name): name for name in task_file.names}}
    groups = table.frame[column].str.strip().map(fold).map(known)
    if groups.isna().any():
        raise UserError(
            f"{table.at(table.frame.index[groups.isna()])}: unknown group in {column!r}. "
            f"Allowed: {', '.join(task_file.names)}, or an empty cell."
        )
    return list(groups)


def groups_of(task_file: CustomTaskFile) -> Groups:
    """The groups that the examples are about: the terms that a text mentions, or the value in a column."""
    by_term = task_file.terms is not None
    return Groups(
        decided=described(task_file.names, task_file.attached)
        if by_term
        else f"The column {task_file.group!r} has them.",
        names=task_file.names,
        of=by_column if task_file.terms is None else _by_terms(task_file.names, task_file.attached),
        harmful=task_file.harmful_label,
        examples=f"examples of the class {task_file.harmful!r}",
        outside="that belong to no group",
        spans=None if task_file.terms is None else finder(task_file.names, task_file.attached),
    )


def _by_terms(terms: Sequence[str], attached: Attached) -> Callable[[Dataset], list[tuple[str, ...]]]:
    mentioned = matcher(terms, attached)
    return lambda data: [mentioned(text) for text in data["text"][:]]


def by_column(data: Dataset) -> list[tuple[str, ...]]:
    """The group of each example that the column `GROUP` gives, or none."""
    return [(name,) if name else () for name in data[GROUP][:]]
