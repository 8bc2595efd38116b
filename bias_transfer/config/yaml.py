"""Read YAML that people wrote: plain values, without tags, anchors and aliases, and not nested without end."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, Event

from bias_transfer.errors import UserError

DEEPEST = 20
"""How many lists and mappings may be nested."""


def parse_yaml(text: str) -> Any:
    """Parse YAML 1.2 (`no` is a string and `5e-5` a number). Raises UserError for invalid YAML, a tag, an anchor or an alias,
    and for more than `DEEPEST` nested lists and mappings."""
    try:
        # The events come first: loading would already build what nine short lines of aliases stand for, 9^9 values.
        _check(YAML(typ="safe", pure=True).parse(io.StringIO(text)))
        return YAML(typ="safe", pure=True).load(io.StringIO(text))
    except (YAMLError, ValueError) as error:  # ValueError: a date or a number that does not exist
        raise UserError(f"invalid YAML: {' '.join(str(error).split())}") from None


def _check(events: Iterable[Event]) -> None:
    depth = 0
    for event in events:
        line = f"line {event.start_mark.line + 1}"
        if tag := getattr(event, "tag", None):
            raise UserError(f"{line}: the tag {tag}. Tags are not read: write a plain value, list or mapping.")
        if anchor := getattr(event, "anchor", None):
            mark = f"alias *{anchor}" if isinstance(event, AliasEvent) else f"anchor &{anchor}"
            raise UserError(
                f"{line}: the {mark}. Anchors and aliases are not read: delete &{anchor}, and write its value out again in "
                f"place of each *{anchor}."
            )
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if depth > DEEPEST:
            raise UserError(f"{line}: more than {DEEPEST} lists and mappings within each other")
