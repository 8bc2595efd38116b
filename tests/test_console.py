"""What people see: plain lines where there is no terminal, and mistakes as one paragraph."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from rich.table import Table

from bias_transfer import console
from bias_transfer.errors import Exit
from bias_transfer.errors import UserError


@pytest.fixture
def clock(monkeypatch):
    """Seconds that the test sets."""
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


def test_plain_lines_are_few_and_tell_the_time_left(capsys, clock):
    with console.reporting() as report:
        for step in range(1, 101):
            report("fine-tune", step, 100)
            clock[0] += 0.5
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "fine-tune: 21/100, 40 s left", "fine-tune: 41/100, 30 s left", "fine-tune: 61/100, 20 s left",
        "fine-tune: 81/100, 10 s left", "fine-tune: 100/100",
    ]  # fmt: skip


def test_what_starts_again_is_timed_again(capsys, clock):
    with console.reporting() as report:
        for start in (0.0, 1000.0):
            clock[0] = start
            report("predict", 0, 10)
            clock[0] += 20
            report("predict", 5, 10)
    assert capsys.readouterr().err.splitlines() == ["predict: 5/10, 20 s left"] * 2


def test_two_things_are_told_apart(capsys, clock):
    with console.reporting() as report:
        report("one", 0, 2)
        clock[0] += 11
        report("two", 0, 2)
        report("one", 1, 2)
    assert capsys.readouterr().err.splitlines() == ["one: 1/2, 11 s left"]


def test_standard_output_is_kept_for_results(capsys):
    with console.reporting() as report:
        report("one", 2, 2)
    assert capsys.readouterr() == ("", "one: 2/2\n")


def test_silence(capsys):
    assert console.silent("one", 2, 2) is None
    assert capsys.readouterr() == ("", "")


def test_a_mistake_is_one_paragraph_and_exit_status_2(capsys):
    with pytest.raises(typer.Exit) as caught, console.user_errors():
        raise UserError("unknown key 'sed'")
    assert caught.value.exit_code == 2
    assert capsys.readouterr() == ("", "Error: unknown key 'sed'\n")


def test_a_fault_of_ours_is_not_hidden():
    with pytest.raises(ZeroDivisionError), console.user_errors():
        raise ZeroDivisionError


def test_tables_in_a_file_stay_whole(capsys):
    console.console().print("x" * 119)
    assert capsys.readouterr().out == "x" * 119 + "\n"


def test_text_is_shown_as_it_is(capsys):
    """A group's name is no markup: `[/]` would be an error, and `[red]` would be gone."""
    table = Table("group")
    table.add_row("[/]")
    console.console().print(table, "[red]")
    assert {"[/]", "[red]"} <= {*capsys.readouterr().out.replace("│", " ").split()}


def test_every_exit_status_is_one_thing_and_the_readme_has_it():
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    table = readme.partition("| exit status |")[2].partition("\n\n")[0]
    assert [int(number) for number in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)] == [*Exit.__members__.values()]
