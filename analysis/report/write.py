"""Write the results of an analysis: tables, figures and the report, all of them or none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from analysis.estimands.evaluation_sets import about_groups
from analysis.estimands.specification_curve import specifications
from analysis.figures import answer, interactive, registry
from analysis.figures.style import arm_style, save
from analysis.findings import Findings
from analysis.report import answer as report_answer
from analysis.report import document
from analysis.report import findings as report_findings
from analysis.report.document import Chart, Section
from analysis.report.wording import published
from bias_transfer.errors import UserError
from bias_transfer.storage import atomic

NEUTRALISED = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""Spreadsheets run text cells that start with one of these as a formula (in some languages full-width ones too); such cells
are prefixed with a '."""

MANY = 3
"""With more studies than this, each has only the figures of `BRIEF`: nobody reads a page of a hundred figures."""

BRIEF = ("figure_4_coefficients", "transfer")

REPORT, ANSWER = "report.html", "answer.txt"


def write(findings: Findings, folder: Path) -> list[Path]:
    """Write all files and return their paths; other files in `folder` stay. Raises UserError if the folder cannot be written.

    Files are written to a scratch folder first and then moved, so that an error leaves no incomplete results.
    """
    try:
        base = folder if folder.exists() else folder.parent
        base.mkdir(parents=True, exist_ok=True)
        with atomic.scratch(base / "analysis") as scratch:
            _write(findings, scratch)
            folder.mkdir(exist_ok=True)
            return [path.replace(folder / path.name) for path in sorted(scratch.iterdir())]
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}. Give another folder by --out.") from None


def _write(findings: Findings, folder: Path) -> None:
    choices = specifications(findings.runs.table, findings.runs.primary, covariates=findings.plan.covariates)
    findings.runs.table.to_parquet(folder / "measures.parquet")
    tables = {
        "measures": findings.runs.table,
        "cells": pd.concat(findings.cells),
        "coefficients": findings.coefficients,
        "specifications": choices,
        **findings.frames,
    }
    for name, frame in tables.items():
        guarded(published(name, frame)).to_csv(folder / f"{name}.csv", index=False)
    captions = draw_answers(findings, folder) | draw(findings, choices, folder)
    report = report_findings.document(findings, captions, charts(findings))
    (folder / ANSWER).write_text(report_answer.text(findings), encoding="utf-8")
    (folder / "report.md").write_text(document.markdown(report), encoding="utf-8")
    page = document.html(report, document.drawings(folder, report), interactive.script)
    (folder / REPORT).write_text(page, encoding="utf-8")


def guarded(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with text cells that a spreadsheet would run as a formula prefixed with a '; numbers are unchanged."""
    return frame.assign(
        **{name: frame[name].map(_guard) for name in frame.columns if frame[name].dtype.kind not in "biuf"}
    )


def _guard(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(NEUTRALISED) else value


def draw_answers(findings: Findings, folder: Path) -> dict[str, tuple[str, str]]:
    """Draw the picture of the first screen of each study into the folder. Returns stem -> (title, caption)."""
    captions = dict[str, tuple[str, str]]()
    frame = findings.frames["answer"]
    for number, (study, outcome) in enumerate(findings.primary.items(), 1):
        rows = frame[(frame["study"] == study) & (frame["outcome"] == outcome)]
        stem = report_findings.FIRST if number == 1 else f"{report_findings.FIRST}_{number}"
        save(answer.picture(rows), folder, stem)
        captions[stem] = "What each arm changed", answer.caption(rows)
    return captions


def charts(findings: Findings) -> list[Section]:
    """The interactive charts of each study; none where there are more than `MANY`."""
    frame, studies = findings.frames["answer"], list(findings.primary)
    blocks = list[Chart]()
    for number, study in enumerate(studies if len(studies) <= MANY else (), 1):
        outcomes = [*findings.cells, *findings.evaluated]
        rows = frame[frame["study"] == study]
        drawn = {
            "arms": (interactive.arms_chart(rows, report_answer.worded(rows)), ARMS_CHART),
            "groups": (interactive.groups_chart(findings.runs.table, outcomes, study), GROUPS_CHART),
        }
        blocks += [
            Chart(f"{name}-{number}", interactive.specification(chart), study, caption)
            for name, (chart, caption) in drawn.items()
            if chart is not None
        ]
    return [Section("Explore: every arm and every group", blocks)] if blocks else []


ARMS_CHART = (
    "Point at an arm to read its change of harm, its 95 % interval, its change of utility, and the number of seeds and "
    "groups."
)
GROUPS_CHART = (
    "Each point is a group: point at it to read its name, value, 95 % interval (over seeds) and n. Choose outcome, arm, seed "
    "and template below. A line is an interval; a single seed has none."
)


def draw(findings: Findings, choices: pd.DataFrame, folder: Path) -> dict[str, tuple[str, str]]:
    """Draw the figures of every study and outcome into the folder. Returns stem -> (title, caption) in the order of drawing."""
    styles = arm_style(findings.runs.table["arm"].unique())
    captions = dict[str, tuple[str, str]]()
    several = len(findings.coefficients[["study", "outcome"]].drop_duplicates()) > 1
    for cells in (*findings.cells, *findings.evaluated):
        chosen = _of_set(cells) if any(cells is each for each in findings.evaluated) else None
        by_study = cells.groupby("study", sort=False)
        outcomes = {str(study): str(of_study["outcome"].iloc[0]) for study, of_study in by_study}
        rows = findings.coefficients[findings.coefficients["outcome"] == findings.coefficients["study"].map(outcomes)]
        data = registry.Data(findings.runs.table, cells, rows, choices, _ranked(findings, outcomes))
        for study, outcome in outcomes.items():
            for name, (entry, figure, caption) in registry.draw(data, study, styles, chosen).items():
                if len(outcomes) <= MANY or name in BRIEF:
                    stem = name if name not in captions else f"{name}_{len(captions) + 1}"
                    save(figure, folder, stem)
                    captions[stem] = (f"{entry.title}: {study}, {outcome}" if several else entry.title, caption)
    return captions


def _ranked(findings: Findings, outcomes: Mapping[str, str]) -> pd.DataFrame:
    """The ranking of each study by its outcome; of an evaluation set there is none. outcomes: study -> outcome."""
    ranking = findings.frames["ranking"]
    return ranking[ranking["outcome"] == ranking["study"].map(outcomes)] if len(ranking) else ranking


def _of_set(cells: pd.DataFrame) -> tuple[str, ...]:
    """The figures of an outcome of an evaluation set, whose groups mostly have no upstream bias."""
    return ("forest", "utility_and_bias") if about_groups(cells) else ("forest",)
