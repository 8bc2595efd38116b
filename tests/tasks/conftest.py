"""A small custom task, for the tests of custom tasks."""

from __future__ import annotations

import json
from typing import Any

import pytest

CONTENT: dict[str, Any] = {
    "name": "clubs",
    "text": "note",
    "label": "verdict",
    "classes": ["keep", "remove"],
    "harmful": "remove",
    "terms": ["baker", "bread baker", "rower"],
    "templates": {"The {group} is {mask}.": "The person is {mask}."},
}


@pytest.fixture(scope="session")
def written():
    """changes -> the text of a small custom task's file; a change to None leaves the key out. JSON is YAML."""

    def write(**changes: Any) -> str:
        return json.dumps({key: value for key, value in {**CONTENT, **changes}.items() if value is not None})

    return write


@pytest.fixture(scope="session")
def task_file(written):
    """changes -> the parsed file."""
    from bias_transfer.tasks.custom.schema import parse_file

    return lambda **changes: parse_file(written(**changes))


@pytest.fixture(scope="session")
def by_column() -> dict[str, Any]:
    """Changes that let a column give the groups."""
    return {"terms": None, "group": "club", "groups": ["baker", "rower", "skater"]}
