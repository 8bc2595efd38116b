"""The YAML file of an own task: what it may say, and what is wrong with it. docs/own_task.md walks through one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from bias_transfer.models import hub
from bias_transfer.errors import UserError
from bias_transfer.hashing import digest
from bias_transfer.spec import parse
from bias_transfer.errors import unknown
from bias_transfer.config.yaml import parse_yaml

SUFFIXES = (".yaml", ".yml")
"""A task with such a name is a file."""


def _text(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int) else value


Cell = Annotated[str, BeforeValidator(_text)]
"""A value as it stands in a file: 1 and true are texts too."""

Primary = Literal["fpr", "log_fpr_ratio", "logit_gap", "natural_fpr", "natural_log_fpr_ratio", "natural_logit_gap"]


class OwnFile(BaseModel):
    """An own task. A key that is added later must default to None, so that the ids of older trials stay as they are."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = Field(pattern=r"^[\w-]{1,40}$")
    """Short: stands in tables and in the names of trials."""
    text: str
    """Column of the text."""
    label: str
    """Column of the class."""
    classes: list[Cell]
    """Values of that column, in any case, in the order of the classifier's answers."""
    harmful: Cell
    """The class whose false positives harm a group."""
    terms: list[Cell] | None = None
    """The groups: whom a text mentions, as whole words in any case, the longest first."""
    group: str | None = None
    """Or: column of the group, which has one of `groups` or nothing in each row."""
    groups: list[Cell] | None = None
    """Values of that column, in any case."""
    written: dict[Cell, str] | None = None
    """Group -> words for it in templates and phrases; default: its name."""
    templates: dict[str, str]
    """Upstream: sentence with {group} and {mask} -> the same without {group}."""
    words_a: list[str] | None = None
    """Upstream measure ln p(words_a)/p(words_b) at the mask, each word one sub-token; None: negative sentiment of the fills."""
    words_b: list[str] | None = None
    phrases: dict[str, Cell] | None = None
    """Phrases to ask the classifier about, most with {group} and some without -> their class."""
    primary: Primary | None = None
    """The downstream measure of headline and regressions; None: natural_fpr."""

    @property
    def names(self) -> tuple[str, ...]:
        """The groups."""
        return tuple(self.terms or self.groups or ())

    @property
    def surfaces(self) -> dict[str, str]:
        """Group -> words for it in a sentence."""
        return {name: (self.written or {}).get(name, name) for name in self.names}

    @property
    def harmful_label(self) -> int:
        """The harmful class's place among the classes."""
        return self.classes.index(self.harmful)

    @property
    def digest(self) -> str:
        """NAME@CONTENT: comments, white space and where the file lies play no part."""
        return f"{self.name}@{digest(self.model_dump(exclude_none=True))}"


def read(path: Path) -> OwnFile:
    """Raises UserError, naming file and key, for what cannot be meant."""
    if not path.is_file():
        raise UserError(
            f"task {str(path)!r}: no such file.{hub.did_you_mean(str(path))} Allowed: a YAML file, or a name."
        )
    try:
        return parse_file(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def parse_file(text: str) -> OwnFile:
    """The file's content, checked. Raises UserError, naming the key."""
    content: Any = parse_yaml(text)
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UserError(f"an own task is a mapping with the keys {', '.join(OwnFile.model_fields)}")
    own = parse(OwnFile, content, "")
    _check_classes(own)
    _check_groups(own)
    _check_templates(own)
    _check_words(own)
    _check_phrases(own)
    return own


def _check_classes(own: OwnFile) -> None:
    _check_distinct("classes", own.classes)
    if own.harmful not in own.classes:
        raise UserError(f"harmful: {unknown('class', own.harmful, own.classes)}")


def _check_groups(own: OwnFile) -> None:
    if (own.terms is None) == (own.group is None):
        raise UserError(
            "groups are given by terms, or else by group (a column) and groups (its values): one of the two"
        )
    if (own.groups is None) != (own.group is None):
        raise UserError("group (a column) and groups (its values) go together")
    _check_distinct("groups" if own.terms is None else "terms", own.names)
    for name in own.written or {}:
        if name not in own.names:
            raise UserError(f"written: {unknown('group', name, own.names)}")
    _check_distinct("written", list(own.surfaces.values()))


def _check_distinct(key: str, values: Sequence[str]) -> None:
    """At least two, none empty, none twice, none with line breaks or what moves a terminal's cursor."""
    plain = [value.strip().lower() for value in values]
    if len(plain) < 2:
        raise UserError(f"{key}: {len(plain)} given; at least two are needed")
    for place, value in enumerate(plain):
        if not value or value != values[place].lower():
            raise UserError(f"{key}: {values[place]!r} is empty or has white space around it")
        if not value.isprintable():
            raise UserError(f"{key}: {values[place]!r} has a line break or another character that cannot be printed")
        if value in plain[:place]:
            raise UserError(f"{key}: {values[place]!r} is there twice (case does not count)")


def _check_templates(own: OwnFile) -> None:
    if not own.templates:
        raise UserError("templates: at least one is needed")
    for template, without in own.templates.items():
        _check_places("templates", template, ("group", "mask"))
        _check_places("templates", without, ("mask",))


def _check_places(key: str, text: str, places: tuple[str, ...]) -> None:
    """Each of the places once in the text, and no other braces."""
    wanted = [f"{{{place}}}" for place in places]
    braces = text.count("{"), text.count("}")
    if any(text.count(place) != 1 for place in wanted) or braces != (len(wanted), len(wanted)):
        needs = f"needs {' and '.join(wanted)}, each once and no other braces" if wanted else "has braces"
        raise UserError(f"{key}: {text!r} {needs}")


def _check_words(own: OwnFile) -> None:
    if (own.words_a is None) != (own.words_b is None):
        raise UserError("words_a and words_b go together; without both the measure is negative sentiment")
    for key, words in (("words_a", own.words_a), ("words_b", own.words_b)):
        if words is not None and (not words or any(not word.strip() for word in words)):
            raise UserError(f"{key}: at least one word is needed, and none may be empty")
    both = [word.lower() for word in (*(own.words_a or ()), *(own.words_b or ()))]
    if twice := [word for place, word in enumerate(both) if word in both[:place]]:
        raise UserError(f"words_a and words_b: {twice[0]!r} is there twice")


def _check_phrases(own: OwnFile) -> None:
    for phrase, label in (own.phrases or {}).items():
        _check_places("phrases", phrase, ("group",) if "{" in phrase else ())
        if label not in own.classes:
            raise UserError(f"phrases: {phrase!r}: {unknown('class', label, own.classes)}")
    if own.phrases is not None and not any("{group}" in phrase for phrase in own.phrases):
        raise UserError("phrases: at least one with {group} is needed")
    if own.primary and not own.primary.startswith("natural_") and not own.phrases:
        raise UserError(
            f"primary: {own.primary} is measured on phrases, and there are none. Allowed: natural_{own.primary}"
        )
    plain = [phrase for phrase, label in (own.phrases or {}).items() if "{" not in phrase and label != own.harmful]
    if own.primary == "logit_gap" and not plain:
        raise UserError(
            "primary: logit_gap compares with harmless phrases without {group}, and there are none: add one"
        )
