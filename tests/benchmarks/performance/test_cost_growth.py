"""The fitted exponents, and the sizes of generated tasks."""

from __future__ import annotations

import csv
import dataclasses

import pytest

from benchmarks import docs_blocks
from benchmarks.performance.cost_growth import AXES, exponent, table
from benchmarks.performance.growing import Sizes, make
from bias_transfer.tasks.custom import schema


@pytest.mark.parametrize("power", [0, 0.5, 1, 2])
def test_the_exponent_of_a_power_is_recovered(power):
    sizes = (8, 16, 32, 64)
    assert exponent(sizes, [3e-3 * size**power for size in sizes]) == pytest.approx(power)


def test_a_table_has_one_row_per_size_and_the_exponents():
    seconds = [{"data": 0.5, "all": size / 100} for size in (100, 1000)]
    assert table("texts", (100, 1000), seconds).splitlines() == [
        "| texts | data | all |", "| --: | --: | --: |", "| 100 | 0.500 | 1.000 |", "| 1,000 | 0.500 | 10.000 |",
        "| exponent | 0.00 | 1.00 |",
    ]  # fmt: skip
    assert "<!-- cost growth -->" in docs_blocks.PERFORMANCE.read_text(encoding="utf-8")
    assert docs_blocks.part("no such block", docs_blocks.PERFORMANCE) == ""


def test_only_one_size_grows_at_a_time():
    for name, (_, sizes) in AXES.items():
        values = [getattr(size, name) for size in sizes]
        assert values == sorted({*values})
        assert len({dataclasses.replace(size, **{name: 1}) for size in sizes}) == 1


def test_generated_tasks_have_the_requested_sizes(tmp_path):
    sizes = Sizes(words=7, examples=20, groups=5, templates=90, width=8)
    make(sizes, tmp_path / "one", 0)
    with (tmp_path / "one" / "texts.csv").open(encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    task = schema.read(tmp_path / "one" / "task.yaml")
    assert len(rows) == 20
    assert {len(row["text"].split()) for row in rows} == {7}
    assert {row["text"].split()[0] for row in rows} <= {*(task.terms or [])}
    assert len({*(task.terms or [])}) == 5
    assert len(task.templates) == 90
    assert sum("{group}" in phrase for phrase in task.phrases or {}) == 90
