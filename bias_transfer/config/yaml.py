"""YAML from people: plain values alone, and no more of them than a person writes."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, Event, ScalarEvent

from bias_transfer.errors import UserError

DEEPEST = 20
"""Lists and mappings within each other."""

LARGEST = 100_000
"""Values, each counted as often as aliases repeat it: nine short lines of aliases can stand for thousands of millions."""


def parse_yaml(text: str) -> Any:
    """YAML 1.2 without tags: `no` is a word and `5e-5` a number. Raises UserError, also for what is too deep or too large."""
    try:
        _check(YAML(typ="safe", pure=True).parse(io.StringIO(text)))
        return YAML(typ="safe", pure=True).load(io.StringIO(text))
    except (YAMLError, ValueError) as error:  # ValueError: a date or a number that cannot be
        raise UserError(f"no valid YAML: {' '.join(str(error).split())}") from None


def _check(events: Iterable[Event]) -> None:
    known = dict[str, int]()
    open_ = [0]
    """Values so far of each collection that is not closed, the document first."""
    anchors = list[str | None]()
    for event in events:
        if tag := getattr(event, "tag", None):
            raise UserError(f"{_line(event)}: the tag {tag}. Tags are not read: write a plain value, list or mapping.")
        if isinstance(event, CollectionStartEvent):
            open_.append(1)
            anchors.append(event.anchor)
        elif isinstance(event, CollectionEndEvent):
            _add(open_, known, anchors.pop(), open_.pop())
        elif isinstance(event, ScalarEvent):
            _add(open_, known, event.anchor, 1)
        elif isinstance(event, AliasEvent):
            if event.anchor in anchors:
                raise UserError(f"{_line(event)}: the alias *{event.anchor} stands within what it names")
            open_[-1] += known.get(event.anchor, 0)
        if len(open_) > DEEPEST + 1:
            raise UserError(f"{_line(event)}: more than {DEEPEST} lists and mappings within each other")
        if open_[-1] > LARGEST:
            raise UserError(f"{_line(event)}: with its aliases it stands for more than {LARGEST} values")


def _add(open_: list[int], known: dict[str, int], anchor: str | None, size: int) -> None:
    open_[-1] += size
    if anchor:
        known[anchor] = size


def _line(event: Event) -> str:
    return f"line {event.start_mark.line + 1}"
