"""Terminal output: plain lines where there is no terminal, user errors as one paragraph, and no secrets of a URI."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
import typer
from rich.console import Console, Group
from rich.table import Table

from bias_transfer import console
from bias_transfer.errors import Exit, UserError


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands at the seconds that the test sets."""
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


def test_plain_lines_are_few_and_give_the_time_left(capsys, clock):
    with console.reporting() as report:
        for step in range(101):
            clock[0] += 0.5
            report("fine-tune", step, 100)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "fine-tune: 0/100", "fine-tune: 20/100, 40 s left", "fine-tune: 40/100, 30 s left", "fine-tune: 60/100, 20 s left",
        "fine-tune: 80/100, 10 s left", "fine-tune: 100/100",
    ]  # fmt: skip


def test_a_stage_that_starts_again_is_timed_again(capsys, clock):
    with console.reporting() as report:
        for start in (0.0, 1000.0):
            clock[0] = start
            report("predict", 0, 10)
            clock[0] += 20
            report("predict", 5, 10)
    assert capsys.readouterr().err.splitlines() == ["predict: 0/10", "predict: 5/10, 20 s left"] * 2


def test_each_stage_has_its_own_clock(capsys, clock):
    with console.reporting() as report:
        report("one", 0, 2)
        clock[0] += 11
        report("two", 0, 2)
        report("one", 1, 2)
    assert capsys.readouterr().err.splitlines() == ["one: 0/2", "two: 0/2", "one: 1/2, 11 s left"]


def test_progress_goes_to_standard_error(capsys):
    with console.reporting() as report:
        report("one", 2, 2)
    assert capsys.readouterr() == ("", "one: 2/2\n")


def test_silence(capsys):
    assert console.silent("one", 2, 2) is None
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://me:secret@db:5432/runs", "postgresql://db:5432/runs"),
        ("postgresql://db/runs?user=me&password=secret", "postgresql://db/runs"),
        ("http://secret@host:5000/mlflow", "http://host:5000/mlflow"),
        ("s3://key:secret@bucket/runs?region=x", "s3://bucket/runs"),
        *((f"postgresql://me:a{character}secret@db/runs", "postgresql://db/runs") for character in "#/?@:"),
        ("s3://bucket/me@there", "s3://bucket/me@there"),
        ("sqlite:////a@b/c#d/runs.db", "sqlite:////a@b/c#d/runs.db"),
        ("/a@b/c?d#e", "/a@b/c?d#e"),
    ],
)
def test_user_password_and_query_of_a_uri_are_not_shown(uri, shown):
    assert console.redacted(uri) == shown


def test_a_sweeps_progress_is_a_line_per_event(capsys, clock):
    with console.progress(4) as report:
        report(0, 1, 0, "started a")
        clock[0] = 100.0
        report(1, 1, 1, "failed b")
    assert capsys.readouterr().err.splitlines() == [
        "started a; 0 done, 1 running, 0 failed of 4, time left unknown",
        "failed b; 1 done, 1 running, 1 failed of 4, 2 min left",
    ]


def test_a_terminal_shows_each_running_trial_what_it_does_and_the_last_warning():
    named = {f"arm s{number}": console.Doing("fine-tune", number, 40) for number in range(20)}
    shown = Console(width=90, record=True, file=io.StringIO())
    warning = "arm s1: the loss\nis [bold]high" + "!" * 99
    shown.print(Group(*console.running_table(console.Running({"first": None, **named}, warning))))
    lines = shown.export_text().splitlines()
    assert lines[0].split() == ["first", "starts"]
    assert lines[2].split()[:3] == ["arm", "s1", "fine-tune"]
    assert lines[2].rstrip().endswith("1/40")
    assert len(lines) == console.SHOWN + 2
    assert lines[console.SHOWN] == "... and 9 more"
    assert "[bold]" in "".join(lines), "a warning is text and no markup"
    assert all(len(line) <= 90 for line in lines)


def test_a_user_error_is_one_paragraph_and_exit_status_2(capsys):
    with pytest.raises(typer.Exit) as caught, console.user_errors():
        raise UserError("unknown key 'sed'")
    assert caught.value.exit_code == 2
    assert capsys.readouterr() == ("", "Error: unknown key 'sed'\n")


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), console.user_errors():
        raise ZeroDivisionError


def test_tables_in_a_log_file_stay_whole(capsys):
    console.console().print("x" * 119)
    assert capsys.readouterr().out == "x" * 119 + "\n"


def test_text_is_printed_as_it_is(capsys):
    """A group's name is no markup: `[/]` would be an error, and `[red]` would be gone."""
    table = Table("group")
    table.add_row("[/]")
    console.console().print(table, "[red]")
    assert {"[/]", "[red]"} <= {*capsys.readouterr().out.replace("│", " ").split()}


def test_the_readme_lists_every_exit_status():
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    table = readme.partition("| exit status |")[2].partition("\n\n")[0]
    assert [int(number) for number in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)] == [*Exit.__members__.values()]
