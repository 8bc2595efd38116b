"""`evaluate` in a config: sets that every trial's classifier predicts, each a file with a short mapping of its columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from bias_transfer.errors import UserError
from bias_transfer.hashing import file_digest
from bias_transfer.models.hub import did_you_mean
from bias_transfer.spec import Option, Options, parse

NAME = re.compile(r"[a-z][a-z0-9_]{0,29}")

TAKEN = (
    "train", "dev", "test", "test_scrubbed", "phrases", "neutral", "natural", "bnsp", "bpsn", "calibration", "eer", "fned",
    "fnr", "fped", "fpr", "log", "logit", "margin", "negative", "positive", "probe", "seat", "separation", "subgroup",
    "sufficiency", "tpr",
)  # fmt: skip
"""Names of a task's own sets, and words with which the names of its downstream metrics begin."""


def _text(value: Any) -> Any:
    """A YAML file may write a value as an integer or as true or false."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


Cell = Annotated[str, BeforeValidator(_text)]


class SetOptions(Options):
    """`evaluate.NAME` in a config. What is not named is as in the known form that the file has (`reading.FORMS`), if any."""

    file: str = Field(min_length=1)
    """A table (`tasks.file_kinds`); `evaluate: {NAME: FILE}` is short for `evaluate: {NAME: {file: FILE}}`."""
    file_digest: str | None = None
    """Content of `file`, set by `with_digest`."""
    text: Cell | None = None
    """Column of the text; by default one of `reading.TEXT`."""
    label: Cell | None = None
    """Column of the label, with values that the task knows; by default one of `reading.LABEL`."""
    harmful: Cell | None = None
    """The values of `label`, with commas, that mean the task's harmful class, all others being harmless; `>=0.5` for a column
    of numbers."""
    groups: Cell | None = None
    """Columns of the groups, with commas. A cell may name several, with semicolons. `A*B` stands for the intersections of the
    groups of two columns. By default the groups of the task, where a text tells them."""
    indicators: Cell | None = None
    """Columns, with commas, each of which is a group: a row belongs to it where the cell is true, or 0.5 or more."""
    functionality: Cell | None = None
    """Column of what a row tests; the accuracy is reported per value."""

    @property
    def group_columns(self) -> tuple[str, ...]:
        """The entries of `groups`."""
        return listed(self.groups)

    @property
    def indicator_columns(self) -> tuple[str, ...]:
        """The entries of `indicators`."""
        return listed(self.indicators)


def listed(text: str | None) -> tuple[str, ...]:
    """The parts of a text between commas."""
    return tuple(part for each in (text or "").split(",") if (part := each.strip()))


def sets_of(given: Mapping[str, Option]) -> dict[str, SetOptions]:
    """Name -> the set, from a trial's options with the owner `evaluate`. Raises UserError."""
    by_name: dict[str, dict[str, Option]] = {}
    for key, value in given.items():
        name, _, option = key.partition(".")
        if not option and name.endswith("_digest"):
            name, option = name.removesuffix("_digest"), "file_digest"
        by_name.setdefault(name, {})[option or "file"] = value
    _check_names([*by_name])
    for name, options in by_name.items():
        if "file" not in options:
            raise UserError(f"evaluate.{name}: no file is named. Write evaluate: {{{name}: {{file: FILE, ...}}}}.")
    return {name: parse(SetOptions, options, f"evaluate.{name}.") for name, options in by_name.items()}


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if not NAME.fullmatch(name) or name in TAKEN:
            raise UserError(
                f"evaluate: {name!r} cannot be the name of a set, with which the names of its metrics begin. Allowed: up to 30 "
                f"lower-case letters, digits and underscores, beginning with a letter; not {', '.join(TAKEN)}."
            )
        if longer := [other for other in names if other.startswith(f"{name}_")]:
            raise UserError(
                f"evaluate: the name {longer[0]!r} begins with {name!r}, so that their metrics could have one name. Rename one."
            )


def with_digest(name: str, options: SetOptions) -> SetOptions:
    """The options with the content of the file. Raises UserError for a file that does not exist."""
    return options.model_copy(update={"file_digest": content(name, options)})


def content(name: str, options: SetOptions) -> str:
    """SHA-256 of the file. Raises UserError for a file that does not exist."""
    if not Path(options.file).is_file():
        raise UserError(f"evaluate.{name}: {options.file}: no such file.{did_you_mean(options.file)}")
    return file_digest(Path(options.file))


def as_options(sets: Mapping[str, SetOptions]) -> dict[str, Option]:
    """The sets as the options of a trial."""
    fields: dict[str, Option] = {}
    for name, options in sets.items():
        given = options.model_dump(exclude_none=True)
        fields[f"evaluate.{name}"] = given.pop("file")
        fields[f"evaluate.{name}_digest"] = given.pop("file_digest")
        fields |= {f"evaluate.{name}.{option}": value for option, value in given.items()}
    return fields
