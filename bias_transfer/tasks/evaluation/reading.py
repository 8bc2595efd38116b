"""Read evaluation sets: a labelled file of any form becomes examples with labels of the task, groups and functionalities.

Messages name files, columns and lines and never quote a text: much of the data is offensive or personal.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from datasets import Dataset, Features, List, Value

from bias_transfer.errors import UserError
from bias_transfer.spec import Option
from bias_transfer.tasks import label_cells, readers
from bias_transfer.tasks.base import Groups, Task
from bias_transfer.tasks.evaluation.options import SetOptions, content, listed, sets_of, with_digest
from bias_transfer.tasks.loading import ID

GROUPS, FUNCTIONALITY = "groups", "functionality"
"""Columns of the examples, in addition to id, text and label: the groups, a list; what the example tests, "" for nothing."""

TEXT = ("text", "comment", "comment_text", "hard_text", "bio", "test_case")
LABEL = ("label", "toxic", "is_toxic", "profession", "occupation", "label_gold")
"""Names of columns that are read where the set's mapping names none."""

MOST_GROUPS = 200
"""A column with more values is no column of groups (ours)."""

LONGEST = 80
"""Characters of a group's name; a longer one is a text (ours)."""

OTHER = -1
"""The label of a harmless example where the file does not say which of the task's other classes it is."""

MEMBER = 0.5
"""An indicator of this much or more makes a row a member, as most annotators of Civil Comments do."""

_FEATURES = Features(
    {
        "id": Value("string"),
        "text": Value("string"),
        "label": Value("int64"),
        GROUPS: List(Value("string")),
        FUNCTIONALITY: Value("string"),
    }
)


@dataclass(frozen=True)
class Form:
    """A published form of file, known by its columns."""

    columns: tuple[str, ...]
    """The columns by which it is known."""
    mapping: Mapping[str, str]
    """Field of `SetOptions` -> its value for such a file."""
    identifier: str = ""
    """Column of the examples' ids."""
    values: Mapping[str, str] | None = None
    """Cell of a column of groups -> the group, where the file has codes."""


FORMS: dict[str, Form] = {
    "HateCheck": Form(
        ("functionality", "case_id", "test_case", "label_gold", "target_ident"),
        {"text": "test_case", "label": "label_gold", "groups": "target_ident", "functionality": "functionality"},
        identifier="case_id",
    ),
    "Bias in Bios": Form(
        ("hard_text", "profession", "gender"),
        {"text": "hard_text", "label": "profession", "groups": "gender"},
        values={"0": "he", "1": "she"},
    ),
}
"""Röttger et al. 2021, test_suite_cases.csv; the hub mirror of De-Arteaga et al. 2019."""

UNKNOWN_FORM = Form((), {})


@dataclass(frozen=True, eq=False)
class EvaluationSet:
    """A set as it was read."""

    examples: Dataset
    """Columns id, text, label, `GROUPS` and `FUNCTIONALITY`."""
    groups: tuple[str, ...]
    """All groups that are reported: those of the file, sorted, or the task's own."""
    functionalities: tuple[str, ...]
    """What the examples test, sorted."""
    usual: Mapping[str, str]
    """What the file's form says, as in `Form.mapping`."""


def resolve(given: Mapping[str, Option], task: Task) -> dict[str, SetOptions]:
    """Name -> the set, read and checked, from a trial's options with the owner `evaluate`.

    What a known form says by itself is left out, so that a trial that writes it out has the same id. Raises UserError for
    options, files, columns, labels and groups that cannot be used.
    """
    resolved = {}
    for name, options in sets_of(given).items():
        with_content = with_digest(name, options)
        usual = _read(name, with_content, _classes(task)).usual
        repeated = {field for field, value in usual.items() if getattr(options, field) == value}
        resolved[name] = with_content.model_copy(update=dict.fromkeys(repeated))
    return resolved


def load(sets: Mapping[str, SetOptions], task: Task) -> dict[str, EvaluationSet]:
    """Name -> a resolved trial's set. Raises UserError for a file that has changed since the trial was resolved."""
    for name, options in sets.items():
        if content(name, options) != options.file_digest:
            raise UserError(
                f"evaluate.{name}: {options.file} has changed since the trial was resolved. Start the trial again."
            )
    return {name: _read(name, options, _classes(task)) for name, options in sets.items()}


@dataclass(frozen=True)
class _Classes:
    """What a task makes of a label column."""

    names: tuple[str, ...]
    codes: tuple[tuple[str, int], ...]
    harm: Groups | None


def _classes(task: Task) -> _Classes:
    codes = task.label_codes or {name.lower(): label for label, name in enumerate(task.labels)}
    return _Classes(task.labels, tuple(codes.items()), task.harm_groups)


@functools.lru_cache(maxsize=8)  # the trials of a sweep share their sets, and a set may be large
def _read(name: str, options: SetOptions, classes: _Classes) -> EvaluationSet:
    try:
        table = readers.read_table(Path(options.file))
        form = next((form for form in FORMS.values() if {*form.columns} <= {*table.frame}), UNKNOWN_FORM)
        mapped = options.model_copy(
            update={field: value for field, value in form.mapping.items() if getattr(options, field) is None}
        )
        examples = _examples(name, table, mapped, form, classes)
    except UserError as error:
        raise UserError(f"evaluate.{name}: {error}") from None
    names = {group for groups in examples[GROUPS][:] for group in groups}
    own = classes.harm.names if classes.harm and not (mapped.groups or mapped.indicators) else tuple(sorted(names))
    tests = tuple(sorted({test for test in examples[FUNCTIONALITY][:] if test}))
    return EvaluationSet(examples, own, tests, form.mapping)


def _examples(name: str, table: readers.Table, options: SetOptions, form: Form, classes: _Classes) -> Dataset:
    texts = readers.check_texts(table, _column(table, "text", options.text, TEXT))
    labels = _labels(table, _column(table, "label", options.label, LABEL), options, classes)
    functionalities = [""] * len(texts)
    if options.functionality:
        functionalities = _names(table, _column(table, "functionality", options.functionality))
        _check_few(table, options.functionality, set(functionalities))
    columns = {
        "id": _ids(name, table, form),
        "text": texts,
        "label": labels,
        GROUPS: _groups(table, texts, options, form, classes),
        FUNCTIONALITY: functionalities,
    }
    return Dataset.from_dict(columns, features=_FEATURES)


def _column(table: readers.Table, role: str, given: str | None, usual: Sequence[str] = ()) -> str:
    return readers.find_column(table, role, (given,) if given else usual)


def _ids(name: str, table: readers.Table, form: Form) -> list[str]:
    """The given ids, if all rows have one and no two share it, else NAME:NUMBER."""
    column = next((column for column in (form.identifier, *ID) if column in table.frame), "")
    given = list(table.frame[column]) if column else []
    usable = all(given) and len(set(given)) == len(table.frame)
    return given if usable else [f"{name}:{number}" for number in range(len(table.frame))]


def _labels(table: readers.Table, column: str, options: SetOptions, classes: _Classes) -> list[int]:
    """The task's labels; of harmless examples `OTHER` where the set's mapping says what is harmful."""
    if options.harmful is not None:
        if classes.harm is None:
            raise UserError("harmful: no class of this task is a harmful one. Leave it out.")
        return [classes.harm.harmful if harmful else OTHER for harmful in _harmful(table, column, options.harmful)]
    cells = readers.labelled(table, column).str.strip().str.lower()
    labels = label_cells.coded(cells, dict(classes.codes))
    if labels.isna().any():
        raise UserError(_not_the_tasks(table, column, cells[labels.isna()], classes))
    return [int(label) for label in labels]


def _harmful(table: readers.Table, column: str, harmful: str) -> list[bool]:
    """Whether each row is harmful. Raises UserError where none is, or a number is needed and missing."""
    cells = table.frame[column].str.strip()
    if harmful.startswith(">="):
        least = _numbers(pd.Series([harmful.removeprefix(">=").strip()]))
        numbers = _numbers(cells)
        if least.isna().any():
            raise UserError(f"harmful: {harmful!r} is no bound. Write it as in '>=0.5'.")
        if numbers.isna().any():
            raise UserError(f"{table.at(cells.index[numbers.isna()])}: no number in {column!r}.")
        found = list(numbers >= least.iloc[0])
    else:
        found = list(cells.str.lower().isin([value.lower() for value in listed(harmful)]))
    if not any(found):
        raise UserError(f"{table.source}: no row of {column!r} is harmful by harmful: {harmful!r}.")
    return [bool(value) for value in found]


def _numbers(cells: pd.Series[str]) -> pd.Series[float]:
    return pd.to_numeric(cells, errors="coerce")


def _not_the_tasks(table: readers.Table, column: str, cells: pd.Series[str], classes: _Classes) -> str:
    """The message for labels that are not the task's."""
    shown = [value for value in dict.fromkeys(cells) if re.fullmatch(r"[\w -]{1,30}", value)]
    named = f" ({', '.join(shown[:3])}{', ...' if len(shown) > 3 else ''})" if shown else ""
    remedy = "An evaluation set needs labels of the trial's own task."
    if classes.harm is not None:
        harmful = classes.names[classes.harm.harmful]
        remedy = f"If a value of it means {harmful!r}, the class whose false positives harm, add harmful: VALUE."
    return (
        f"{table.at(cells.index)}: the label in {column!r}{named} is no label of this task, whose classes are "
        f"{', '.join(classes.names)}. {remedy}"
    )


def _groups(
    table: readers.Table, texts: Sequence[str], options: SetOptions, form: Form, classes: _Classes
) -> list[tuple[str, ...]]:
    """The groups of each row. Raises UserError if no row has any, or a column does not look like one of groups."""
    columns, indicators = options.group_columns, options.indicator_columns
    if not columns and not indicators:
        return _of_task(texts, classes)
    parts = [_of_entry(table, entry, form, several=len(columns) + bool(indicators) > 1) for entry in columns]
    parts += [_indicated(table, column) for column in indicators]
    groups = [tuple(dict.fromkeys(itertools.chain(*of_row))) for of_row in zip(*parts, strict=True)]
    named = ", ".join([*columns, *indicators])
    names = {name for of_row in groups for name in of_row}
    if not names:
        raise UserError(f"{table.source}: no row has a group in {named}.")
    _check_few(table, named, names)
    return groups


def _check_few(table: readers.Table, column: str, names: set[str]) -> None:
    """Raises UserError for a column of texts, or of ids."""
    longest = max(map(len, names))
    if len(names) > MOST_GROUPS or longest > LONGEST:
        raise UserError(
            f"{table.source}: {column} has {len(names)} different values, the longest of {longest} characters. A column of "
            f"groups or functionalities has at most {MOST_GROUPS}, of at most {LONGEST} characters."
        )


def _of_task(texts: Sequence[str], classes: _Classes) -> list[tuple[str, ...]]:
    if classes.harm is None or classes.harm.spans is None:
        raise UserError("no column of groups is named, and a text does not tell its groups. Write groups: COLUMN.")
    return classes.harm.of(Dataset.from_dict({"text": list(texts)}))


def _of_entry(table: readers.Table, entry: str, form: Form, several: bool) -> list[tuple[str, ...]]:
    """The groups of an entry of `groups`; where there are several entries, with the entry's name before each group's."""
    columns = [entry] if entry in table.frame else [part.strip() for part in entry.split("*")]
    cells = [_members(table, _column(table, "group", column), form) for column in columns]
    prefix = f"{entry}: " if several else ""
    return [
        tuple(f"{prefix}{' * '.join(names)}" for names in itertools.product(*of_row))
        for of_row in zip(*cells, strict=True)
    ]


def _members(table: readers.Table, column: str, form: Form) -> list[tuple[str, ...]]:
    values = form.values or {}
    parts = ([part.strip() for part in cell.split(";")] for cell in _names(table, column))
    return [tuple(values.get(part, part) for part in of_cell if part) for of_cell in parts]


def _indicated(table: readers.Table, column: str) -> list[tuple[str, ...]]:
    """The column's name for the rows that it marks. An empty cell marks none."""
    cells = table.frame[_column(table, "group", column)].str.strip().str.lower()
    numbers = _numbers(cells.replace({"true": "1", "false": "0", "": "0"}))
    if numbers.isna().any():
        raise UserError(f"{table.at(cells.index[numbers.isna()])}: {column!r} is neither a number nor true or false.")
    return [(column,) if value >= MEMBER else () for value in numbers]


def _names(table: readers.Table, column: str) -> list[str]:
    """The cells of a column of names. Raises UserError for characters that would control a terminal."""
    cells = table.frame[column].str.strip()
    if hidden := [place for place, cell in cells.items() if not cell.isprintable()]:
        raise UserError(f"{table.at(map(int, map(str, hidden)))}: {column!r} has a character that cannot be printed.")
    return list(cells)


def remarks(sets: Mapping[str, EvaluationSet]) -> list[str]:
    """What was read, in sentences for the console."""
    return [
        f"evaluate.{name}: {len(each.examples)} examples, {len(each.groups)} groups, {len(each.functionalities)} "
        "functionalities."
        for name, each in sets.items()
    ]


def warnings(sets: Mapping[str, EvaluationSet], train: Iterable[str]) -> list[str]:
    """What a reader must know: texts of a set that the classifier was trained on."""
    seen = set(train) if sets else set()
    counts = {name: sum(text in seen for text in each.examples["text"][:]) for name, each in sets.items()}
    return [
        f"{count} of the {len(sets[name].examples)} texts of the evaluation set {name} are in the training set as well."
        for name, count in counts.items()
        if count
    ]
