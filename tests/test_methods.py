"""docs/methods.md has a row for every arm and measure, and the tests that it names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bias_transfer.interventions.registry import DOWNSTREAM, UPSTREAM
from bias_transfer.tasks import shared_metrics
from bias_transfer.tasks.registry import TASKS

TESTS = Path(__file__).parent
TEXT = (TESTS.parent / "docs" / "methods.md").read_text(encoding="utf-8")
TABLES = {
    "Upstream arms": UPSTREAM,
    "Downstream arms": DOWNSTREAM,
    "Upstream measures": {**shared_metrics.UPSTREAM, **shared_metrics.ENCODER},
    "Measures of the fine-tuning set and of the classifier": {
        **shared_metrics.DOWNSTREAM,
        **shared_metrics.HARMFUL_CLASS,
    },
}
COLUMNS = 7


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    section = TEXT.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


@pytest.mark.parametrize("heading", TABLES)
def test_every_entry_has_a_row_with_all_columns_and_a_test(heading):
    found = {cells[0].strip("` "): cells for cells in rows(heading)}
    assert TABLES[heading].keys() - {"none"} <= found.keys()
    for name, cells in found.items():
        assert len(cells) == COLUMNS, name
        assert re.search(r"`[\w/]+\.py::test_\w+`", cells[-1]), name


def test_every_tasks_primary_measures_have_a_row():
    names = {cells[0].strip("` ") for heading in TABLES for cells in rows(heading)}
    for task in TASKS.values():
        assert {*task.primary.values()} <= names


def test_the_named_tests_exist():
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", TEXT)
    assert len(named) >= sum(map(len, TABLES.values()))
    missing = [
        f"{file}::{name}" for file, name in named if f"def {name}(" not in (TESTS / file).read_text(encoding="utf-8")
    ]
    assert not missing
