"""The YAML file of a custom task: its keys and their checks. docs/custom_task.md walks through an example."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any
from unicodedata import normalize

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from bias_transfer.config.yaml import parse_yaml
from bias_transfer.errors import UserError, unknown
from bias_transfer.hashing import digest
from bias_transfer.models import hub
from bias_transfer.spec import Option, parse
from bias_transfer.tasks import label_cells, matching
from bias_transfer.tasks.matching import Attached, fold

SUFFIXES = (".yaml", ".yml")
"""A task whose name ends in one of these is a custom task's file."""


def is_custom(task: str) -> bool:
    """Whether a task's name is the path of a custom task's file."""
    return task.endswith(SUFFIXES)


def _text(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int) else value


Cell = Annotated[str, BeforeValidator(_text)]
"""A value of a column as a text: a YAML file may also write it as an integer or as true or false."""

PER_GROUP = (
    "fpr", "log_fpr_ratio", "logit_gap", "fnr", "log_fpr_ratio_no_group", "logit_gap_others", "subgroup_auc", "bpsn_auc",
    "bnsp_auc", "positive_aeg", "negative_aeg",
)  # fmt: skip
"""Downstream measures with a value per group (`bias.harm`): on the phrases and, with `natural_` in front, on the test set."""

PRIMARIES = (*PER_GROUP, *(f"natural_{name}" for name in PER_GROUP))


def _switched_on(value: object) -> object:
    return (
        dict.fromkeys(value, True) if isinstance(value, list) and all(isinstance(key, str) for key in value) else value
    )


class CustomTaskFile(BaseModel):
    """A custom task. A key that is added later must default to None, so that the ids of older trials stay as they are."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = Field(pattern=r"^[\w-]{1,40}$")
    """A short name, for tables and the names of trials."""
    text: str
    """Column of the text."""
    label: str
    """Column of the class."""
    classes: list[Cell]
    """Values of the column `label`, in any case; their order numbers the classifier's labels."""
    joined: dict[Cell, list[Cell]] | None = None
    """Class -> the values of the column `label` that mean it, or a bound of numbers, '>=0.5' or '<0.5'. Written as
    `classes: {CLASS: [VALUES]}`."""
    harmful: Cell
    """The class whose false positives harm a group."""
    terms: list[Cell] | None = None
    """The groups, if the text decides: an example belongs to the terms that its text mentions, as whole words in any case, the
    longest term first; in scripts without spaces, wherever they are (`tasks.matching`)."""
    prefixes: list[str] | str | None = None
    """What may be written in one word before a term: a language of `matching.PREFIXES`, or a list. By default nothing."""
    suffixes: list[str] | str | None = None
    """The same after a term: a language of `matching.SUFFIXES`, or a list."""
    group: str | None = None
    """The column of the group, if a column decides: each row has one of `groups` or an empty cell."""
    groups: list[Cell] | None = None
    """Values of the column `group`, in any case."""
    written: dict[Cell, str] | None = None
    """Group -> its words in templates and phrases; by default, its name."""
    templates: dict[str, str]
    """Upstream templates: sentence with {group} and {mask} -> the same without {group}."""
    words_a: list[str] | None = None
    """The upstream measure is ln p(words_a)/p(words_b) at the mask, each word a single sub-token; without the two lists, it is
    the negative sentiment of the fills."""
    words_b: list[str] | None = None
    phrases: dict[str, Cell] | None = None
    """Phrases that the classifier is probed with, most with {group} and some without -> their class."""
    primary: str | None = None
    """The downstream measure that headline and regressions read, one of `PRIMARIES` or of a plugin; by default natural_fpr."""
    measures: Annotated[dict[str, Option], BeforeValidator(_switched_on)] | None = None
    """Optional measures that every trial of this task takes: key -> value, as in `metric.KEY`; a list of keys turns them
    on."""

    @model_validator(mode="before")
    @classmethod
    def _mapping_of_classes(cls, content: Any) -> Any:
        """`classes` as a mapping stands for its keys, and `joined`."""
        if not isinstance(content, dict) or not isinstance(classes := content.get("classes"), dict):
            return content
        listed = {name: name if values is None else values for name, values in classes.items()}
        joined = {name: [values] if isinstance(values, str | int) else values for name, values in listed.items()}
        return {**content, "classes": list(classes), "joined": joined}

    @property
    def label_codes(self) -> dict[str, int]:
        """Value of the column `label`, in NFC and in lower case -> label."""
        numbered = {name: number for number, name in enumerate(self.classes)}
        if self.joined is not None:
            return {_key(value): numbered[name] for name, values in self.joined.items() for value in values}
        return {_key(name): number for name, number in numbered.items()} | label_cells.binary(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """The groups."""
        return tuple(self.terms or self.groups or ())

    @property
    def attached(self) -> Attached:
        """What may be written in one word with a term."""
        return Attached(_parts(self.prefixes, matching.PREFIXES), _parts(self.suffixes, matching.SUFFIXES))

    @property
    def surfaces(self) -> dict[str, str]:
        """Group -> its words in a sentence."""
        return {name: (self.written or {}).get(name, name) for name in self.names}

    @property
    def harmful_label(self) -> int:
        """The label of the harmful class."""
        return self.classes.index(self.harmful)

    @property
    def digest(self) -> str:
        """NAME@CONTENT: it does not depend on comments, white space or the file's location."""
        return f"{self.name}@{digest(self.model_dump(exclude_none=True))}"


def _key(value: str) -> str:
    return normalize("NFC", value.lower())


def _parts(given: Sequence[str] | str | None, languages: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    return languages[given] if isinstance(given, str) else tuple(given or ())


def read(path: Path, outcomes: Collection[str] = ()) -> CustomTaskFile:
    """The checked content of a file. Raises UserError, naming file and key.

    outcomes: measures of plugins that may be its primary one.
    """
    if not path.is_file():
        raise UserError(
            f"task {str(path)!r}: no such file.{hub.did_you_mean(str(path))} Allowed: a YAML file, or a task's name."
        )
    try:
        return parse_file(path.read_text(encoding="utf-8"), outcomes)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}. Save the file as UTF-8.") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def parse_file(text: str, outcomes: Collection[str] = ()) -> CustomTaskFile:
    """The checked content of a file with this text. outcomes: as in `read`. Raises UserError, naming the key."""
    content: Any = parse_yaml(text)
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UserError(
            f"the file of a custom task is a mapping with the keys {', '.join(CustomTaskFile.model_fields)}"
        )
    task_file = parse(CustomTaskFile, content, "")
    _check_classes(task_file)
    _check_groups(task_file)
    _check_attached("prefixes", task_file, task_file.prefixes, matching.PREFIXES)
    _check_attached("suffixes", task_file, task_file.suffixes, matching.SUFFIXES)
    _check_templates(task_file)
    _check_words(task_file)
    _check_phrases(task_file)
    _check_primary(task_file, outcomes)
    return task_file


def _check_classes(task_file: CustomTaskFile) -> None:
    _check_distinct("classes", task_file.classes)
    if task_file.joined is not None:
        _check_joined(task_file)
    if task_file.harmful not in task_file.classes:
        raise UserError(f"harmful: {unknown('class', task_file.harmful, task_file.classes)}")


def _check_joined(task_file: CustomTaskFile) -> None:
    joined = task_file.joined or {}
    if list(joined) != task_file.classes:
        raise UserError(
            "joined: its classes are not those of `classes`. Write classes: {CLASS: [VALUES]} in place of both."
        )
    values = [value.lower() for several in joined.values() for value in several]
    if empty := [name for name, several in joined.items() if not several]:
        raise UserError(f"classes: {empty[0]!r} has no value of the column {task_file.label!r}")
    if repeated := [value for number, value in enumerate(values) if value in values[:number]]:
        raise UserError(f"classes: the value {repeated[0]!r} is given twice (case is ignored)")
    label_cells.check_bounds("classes", task_file.label_codes)


def _check_groups(task_file: CustomTaskFile) -> None:
    if (task_file.terms is None) == (task_file.group is None):
        raise UserError(
            "the groups are given either by terms, or by group (a column) and groups (its values): use one of the two"
        )
    if (task_file.groups is None) != (task_file.group is None):
        raise UserError("group (a column) and groups (its values) need each other: give both")
    _check_distinct("groups" if task_file.terms is None else "terms", task_file.names)
    for name in task_file.written or {}:
        if name not in task_file.names:
            raise UserError(f"written: {unknown('group', name, task_file.names)}")
    _check_distinct("written", list(task_file.surfaces.values()))


def _check_attached(
    key: str, task_file: CustomTaskFile, given: Sequence[str] | str | None, languages: Mapping[str, tuple[str, ...]]
) -> None:
    if given is None:
        return
    if task_file.terms is None:
        raise UserError(f"{key}: they belong to terms, and a column gives the groups here. Leave the key out")
    if isinstance(given, str) and given not in languages:
        raise UserError(f"{key}: {unknown('language', given, languages)} A list of your own is allowed as well")
    if not given or any(not part.strip() or part != part.strip() for part in given):
        raise UserError(f"{key}: at least one is needed, and none may be empty or have white space around it")


def _check_distinct(key: str, values: Sequence[str]) -> None:
    """At least two values, none of them empty, repeated, or with line breaks or codes that would control a terminal."""
    lowered = [fold(value.strip()) for value in values]
    if len(lowered) < 2:
        raise UserError(f"{key}: {len(lowered)} given; at least two are needed")
    for number, value in enumerate(lowered):
        if not value or value != fold(values[number]):
            raise UserError(f"{key}: {values[number]!r} is empty or has white space around it")
        if not value.isprintable():
            raise UserError(f"{key}: {values[number]!r} has a line break or another character that cannot be printed")
        if value in lowered[:number]:
            raise UserError(f"{key}: {values[number]!r} is given twice (case is ignored)")


def _check_templates(task_file: CustomTaskFile) -> None:
    if not task_file.templates:
        raise UserError("templates: at least one is needed")
    for template, without in task_file.templates.items():
        _check_slots("templates", template, ("{group}", "{mask}"))
        _check_slots("templates", without, ("{mask}",))


def _check_slots(key: str, text: str, slots: tuple[str, ...]) -> None:
    """Each of the slots occurs once in the text, which has no other braces."""
    braces = text.count("{"), text.count("}")
    if any(text.count(slot) != 1 for slot in slots) or braces != (len(slots), len(slots)):
        fault = f"needs {' and '.join(slots)}, each once and no other braces" if slots else "has a brace but no {group}"
        raise UserError(f"{key}: {text!r} {fault}")


def _check_words(task_file: CustomTaskFile) -> None:
    if (task_file.words_a is None) != (task_file.words_b is None):
        raise UserError("words_a and words_b need each other: give both, or neither to measure negative sentiment")
    for key, words in (("words_a", task_file.words_a), ("words_b", task_file.words_b)):
        if words is not None and (not words or any(not word.strip() for word in words)):
            raise UserError(f"{key}: at least one word is needed, and none may be empty")
    both = [word.lower() for word in (*(task_file.words_a or ()), *(task_file.words_b or ()))]
    if repeated := [word for number, word in enumerate(both) if word in both[:number]]:
        raise UserError(f"words_a and words_b: {repeated[0]!r} is given twice (case is ignored)")


def _check_phrases(task_file: CustomTaskFile) -> None:
    for phrase, label in (task_file.phrases or {}).items():
        _check_slots("phrases", phrase, ("{group}",) if "{" in phrase else ())
        if label not in task_file.classes:
            raise UserError(f"phrases: {phrase!r}: {unknown('class', label, task_file.classes)}")
    if task_file.phrases is not None and not any("{group}" in phrase for phrase in task_file.phrases):
        raise UserError("phrases: at least one with {group} is needed")


def _check_primary(task_file: CustomTaskFile, outcomes: Collection[str]) -> None:
    name = task_file.primary
    if name is None:
        return
    if name not in PRIMARIES and name not in outcomes:
        hint = " A measure of a plugin needs the plugin: plugins=[MODULE]." if not outcomes else ""
        raise UserError(f"primary: {unknown('measure with a value per group', name, [*PRIMARIES, *outcomes])}{hint}")
    if name in outcomes and not {name, name.removeprefix("natural_")} & (task_file.measures or {}).keys():
        raise UserError(
            f"primary: {name} is off by default. Turn it on here: measures: [{name.removeprefix('natural_')}]"
        )
    if name in PER_GROUP and not task_file.phrases:
        raise UserError(
            f"primary: {name} is measured on phrases, and the file has none. Add phrases, or use natural_{name}"
        )
    phrases = (task_file.phrases or {}).items()
    if name == "logit_gap" and all("{" in text or label == task_file.harmful for text, label in phrases):
        raise UserError(
            "primary: logit_gap compares with harmless phrases without {group}, and the file has none: add one"
        )
