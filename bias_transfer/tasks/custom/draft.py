"""A custom task's file to start from, for data that no task of the project reads.

Columns, classes and groups are guessed, and the file says so. What cannot be guessed is left empty, and an empty key is refused
until it is filled in.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from bias_transfer.errors import UserError
from bias_transfer.spec import LEAST_MENTIONS
from bias_transfer.tasks import languages, readers
from bias_transfer.tasks.evaluation import reading
from bias_transfer.tasks.wiki.identity_terms import TERMS, mentioned

HARMFUL = (
    "toxic", "hateful", "hate", "hate speech", "hatespeech", "offensive", "abusive", "harmful", "insult", "removed", "remove",
    "unsafe", "spam", "negative", "true", "yes", "1", "1.0",
)  # fmt: skip
"""Classes that do harm, the likeliest first; of others, the rarest is taken."""

LABEL_LIKE = re.compile(r"label|class|toxic|hate|offens|verdict|rating|decision|target$", re.IGNORECASE)
GROUP_LIKE = re.compile(r"group|ident|gender|sex|race|ethnic|religion|origin|nation|target|dialect", re.IGNORECASE)
"""Names of columns."""

MOST_CLASSES = 50

OF_COLUMN = (
    "The comment is about {group}, and I find it {mask}.",
    "The comment is about people, and I find it {mask}.",
)
OF_TERMS = ("The {group} person is {mask}.", "The person is {mask}.")
"""A template with the group, which is a noun or an adjective, and without it."""


@dataclass(frozen=True)
class Draft:
    """What a custom task would make of a table."""

    text: str
    label: str
    classes: dict[str, int]
    """Class -> its rows."""
    harmful: str
    group: str
    """The column of the groups; empty where the text decides, or nothing does yet."""
    groups: dict[str, int]
    """Group -> its rows."""
    english: bool
    """Whether the texts look English."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Keys that have to be filled in by hand."""
        return (*(() if self.groups else ("terms",)), *(() if self.english else ("templates",)))


def draft(table: readers.Table) -> Draft:
    """The guess for a table. Raises UserError if no column could be the text, or none the label."""
    text = _text_column(table)
    rest = [str(name) for name in table.frame if name != text]
    label = _label_column(table, rest)
    classes = dict(Counter(_cells(table, label)).most_common())
    group, groups = _groups(table, text, [name for name in rest if name != label])
    seen = languages.look(table.frame[text].tolist()[:5000])
    harmful = next((name for code in HARMFUL for name in classes if name.lower() == code), [*classes][-1])
    return Draft(text, label, classes, harmful, group, groups, seen.foreign <= 0.5 * seen.texts)


def _cells(table: readers.Table, column: str) -> list[str]:
    return [str(cell) for cell in table.frame[column].str.strip()]


def _text_column(table: readers.Table) -> str:
    lengths = {str(name): float(table.frame[name].str.len().mean()) for name in table.frame}
    named = [name for name in lengths if name.lower() in reading.TEXT]
    column = max(named or lengths, key=lengths.__getitem__)
    if not named and table.frame[column].nunique() < 0.3 * len(table.frame):
        raise UserError(
            f"{table.source}: no column looks like one of texts: the longest, {column!r}, repeats its values."
        )
    return column


def _label_column(table: readers.Table, names: Sequence[str]) -> str:
    def rank(name: str) -> tuple[bool, bool, int]:
        return name.lower() not in reading.LABEL, not LABEL_LIKE.search(name), table.frame[name].nunique()

    possible = [
        name for name in names if 2 <= table.frame[name].nunique() <= MOST_CLASSES and "" not in _cells(table, name)
    ]
    if not possible:
        raise UserError(
            f"{table.source}: no column looks like one of labels (2 to {MOST_CLASSES} different values, none of them empty)."
        )
    return min(possible, key=rank)


def _groups(table: readers.Table, text: str, names: Sequence[str]) -> tuple[str, dict[str, int]]:
    """(column, group -> rows): of a column that is named like one of groups, else the identity terms that the texts mention."""
    for name in names:
        values = Counter(cell for cell in _cells(table, name) if cell)
        if GROUP_LIKE.search(name) and _are_groups(values):
            return name, dict(values.most_common())
    terms = Counter(term for cell in table.frame[text] for term in mentioned(cell))
    often = {term: terms[term] for term in TERMS if terms[term] >= LEAST_MENTIONS}
    return "", often if len(often) > 1 else {}


def _are_groups(values: Counter[str]) -> bool:
    plain = all(len(value) <= reading.LONGEST and value.isprintable() for value in values)
    numbers = pd.to_numeric(pd.Series([*values]), errors="coerce").notna().all() if values else True
    often = sum(values.values()) >= LEAST_MENTIONS * len(values)
    return 2 <= len(values) <= reading.MOST_GROUPS and plain and often and not numbers


def write(guess: Draft, name: str) -> str:
    """The YAML text. name: of the task."""
    return "\n".join([*_columns(guess, name), *_decided(guess), *_templates(guess)]) + "\n"


def _columns(guess: Draft, name: str) -> Iterator[str]:
    yield "# A custom task to start from, guessed from the data: check every line. docs/custom_task.md explains the keys."
    yield f"name: {re.sub(r'[^A-Za-z0-9_-]+', '_', name)[:40] or 'task'}"
    yield f"text: {_scalar(guess.text)}"
    yield f"label: {_scalar(guess.label)}"
    yield f"classes: {_listed(guess.classes)}"
    yield f"harmful: {_scalar(guess.harmful)}  # the class whose false positives harm"


def _decided(guess: Draft) -> Iterator[str]:
    if guess.group:
        yield f"group: {_scalar(guess.group)}  # or terms: [...], words by which a text tells its groups"
        yield f"groups: {_listed(guess.groups)}"
    else:
        yield f"terms: {_listed(guess.groups)}  # the groups, as the texts mention them: two or more"


def _templates(guess: Draft) -> Iterator[str]:
    yield "# Sentence with {group} and {mask}: the same without the group. Add written: {GROUP: words} for another name in it."
    if not guess.english:
        yield "templates: {}  # in the language of the texts and the model"
        yield "# words_a: [...]  # harmful words, each a single token of the model, and others;"
        yield "# words_b: [...]  # or a lexicon of your own: metric.lexicon=FILE"
        return
    with_group, without = OF_COLUMN if guess.group else OF_TERMS
    yield "templates:"
    yield f"  {_scalar(with_group)}: {_scalar(without)}"


def _listed(values: Sequence[str] | dict[str, int]) -> str:
    return f"[{', '.join(map(_scalar, values))}]"


def _scalar(value: str) -> str:
    """A string of JSON, which YAML reads as it is."""
    return (
        value
        if re.fullmatch(r"[A-Za-z_][A-Za-z_-]*", value) and value.lower() not in _WORDS
        else json.dumps(value, ensure_ascii=False)
    )


_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})
"""What YAML would not read as a text."""
