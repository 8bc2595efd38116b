"""The command line, on sweeps that were recorded in a SQLite store."""

import math
import re
import subprocess
import sys
import xml.etree.ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from analysis import __main__ as command
from analysis import findings
from analysis.report import write
from analysis.report.document import Items
from analysis.report.tables import methods
from bias_transfer.console import application
from bias_transfer.spec import AnalysisPlan, Margins, Measure, Trial, TrialResult
from bias_transfer.tracking import recorder, sweeps
from bias_transfer.tracking import store as tracking_store

PRIMARY = {"wiki": {"upstream": "negative_sentiment", "dataset": "toxic_share", "downstream": "fpr"}}
GROUPS = 12
TABLES = {"measures", "cells", "coefficients", "specifications", "utility", "group_effects", "size_changes", "power",
          "ranking", "dominance"}  # fmt: skip
FILES = {
    *(f"{name}.csv" for name in TABLES),
    "measures.parquet",
    "report.html",
    "report.md",
    "transfer.png",
    "transfer.svg",
    "dominance.png",
    "dominance.svg",
}
"""Some of the files that are written."""


def measures(trial):
    """Group 0 is never mentioned; the name of group 1 is a formula to a spreadsheet."""
    draw = np.random.default_rng([trial.seed, trial.upstream == "perturb"])
    moved = 0.1 * draw.normal(size=GROUPS) if trial.upstream == "perturb" else np.zeros(GROUPS)
    for g in range(GROUPS):
        name, x = ("=1+1" if g == 1 else f"group {g}"), math.sin(g) / 10 + moved[g]
        n, k = (0, 0) if g == 0 else (40, g)
        rate = round(757 * math.exp(-1.5 + 2 * x + 0.02 * k + 0.02 * draw.normal())) / 757
        yield Measure("upstream", "negative_sentiment", name, "The {group} person is {mask}.", x - 0.01, 30)
        yield Measure("upstream", "negative_sentiment", name, "My {group} neighbor is {mask}.", x + 0.01, 30)
        yield Measure("dataset", "toxic_share", name, "", k / n if n else math.nan, n)
        yield Measure("downstream", "fpr", name, "", rate, 757)
        yield Measure("downstream", "logit_gap", name, "", math.log(rate), 757)
    for metric in ("accuracy", "macro_f1", "roc_auc"):
        yield Measure("utility", metric, "", "", 0.875, 800)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """The URI of a store with the experiments `whole` (6 trials) and `partial` (the same, one failed and one missing)."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"
    client = tracking_store.connect(uri, create=True)
    trials = [
        Trial(upstream=arm, upstream_dose=dose, seed=seed, data_digest="d", model_digest="m")
        for arm, dose in (("none", None), ("perturb", 0.5))
        for seed in range(3)
    ]
    for experiment, finished in (("whole", 6), ("partial", 4)):
        parent = sweeps.open_sweep(client, experiment, trials, PRIMARY)
        for trial in trials[:finished]:
            run = recorder.start(client, experiment, trial, parent)
            warned = (f"The loss ({trial.seed}.5 nats) is high.",) if trial.upstream == "none" else ()
            facts = {"digest.train": "abc", "version.torch": "2.9.1", "version.numpy": f"2.{trial.seed // 2}"}
            facts |= {"machine": "amd" if trial.id == trials[4].id else "intel"}
            result = TrialResult(trial, tuple(measures(trial)), (), {}, facts, warned)
            recorder.record(client, run, result)
        if finished < 6:
            recorder.fail(
                client, recorder.start(client, experiment, trials[5], parent), "TrainingDiverged: the loss is NaN"
            )
        sweeps.close_sweep(client, parent, finished == 6)
    return uri


def run(*words):
    return CliRunner().invoke(application(command.main), [str(word) for word in words])


@pytest.fixture(scope="module")
def whole(store, tmp_path_factory):
    """The result of one run on the whole sweep, and its output folder."""
    folder = tmp_path_factory.mktemp("results") / "deep" / "report"
    return run("whole", "--tracking-uri", store, "--out", folder), folder


def test_it_writes_all_files_and_nothing_else(whole):
    result, folder = whole
    assert result.exit_code == 0, result.output
    assert {path.name for path in folder.iterdir()} >= FILES
    assert {path.suffix for path in folder.iterdir()} == {".csv", ".parquet", ".html", ".md", ".png", ".svg", ".txt"}
    assert [path.name for path in folder.parent.iterdir()] == ["report"]


def test_the_tables_are_tidy_and_hold_every_measure(whole):
    folder = whole[1]
    table, text = pd.read_parquet(folder / "measures.parquet"), pd.read_csv(folder / "measures.csv")
    assert len(table) == len(text) == 6 * (5 * GROUPS + 3)
    assert table["value"].to_numpy() == pytest.approx(text["value"].to_numpy(), nan_ok=True, rel=1e-15)
    assert table.loc[table["n"] == 0, "value"].isna().all()
    assert len(pd.read_csv(folder / "cells.csv")) == 6 * GROUPS
    coefficients = pd.read_csv(folder / "coefficients.csv").set_index(["estimand", "term"])
    assert coefficients.loc[("B", "x"), "n"] == GROUPS - 1
    raw = coefficients.loc[("B", "x"), "coefficient"] / coefficients.loc[("B", "x"), "scale"]
    assert raw == pytest.approx(2.0, abs=0.3)
    assert coefficients.loc[("W", "x"), "low"] < 2.0 * coefficients.loc[("W", "x"), "scale"]


def test_text_that_a_spreadsheet_would_execute_is_guarded_and_numbers_are_not(whole):
    folder = whole[1]
    text = pd.read_csv(folder / "measures.csv")
    assert "'=1+1" in set(text["group"])
    assert "=1+1" not in set(text["group"])
    assert "=1+1" in set(pd.read_parquet(folder / "measures.parquet")["group"])
    assert (text["value"] < 0).any()  # negative numbers stay numbers
    odd = pd.DataFrame({"text": ["-x", "@y", "+z", "\tw", "＝v", "fine", None], "number": [-1.0, 2, 3, 4, 5, 6, 7]})
    guarded = write.guarded(odd)
    assert guarded["text"].tolist()[:6] == ["'-x", "'@y", "'+z", "'\tw", "'＝v", "fine"]
    assert guarded["number"].tolist() == odd["number"].tolist()


def test_it_prints_numbers_findings_limitations_and_next_steps(whole):
    output, folder = whole[0].output, whole[1]
    for part in ("goes with", "changed FPR by", "Limitations", "1 that the fine-tuning set never mentions (group 0)",
                 "3 paired seeds detect", "'No transfer' cannot be claimed", str(folder), "report.html", "mlflow ui",
                 "Evidence of no transfer", "the smallest margin that would pass is"):  # fmt: skip
        assert part in output, part
    assert "nan" not in output.lower().split()


def test_the_report_and_the_figures_can_be_read(whole):
    folder = whole[1]
    text = (folder / "report.md").read_text(encoding="utf-8")
    for part in (
        "# Bias transfer: whole", "**Does bias transfer?**",
            "## Statistical findings in full", "**A, arm effects", "**B, between groups", "**W, displacement",
            "## Figures for papers",
        "## Tables", "## Methods", "## Limitations", "## Scope", "(transfer.png)",
        "| none + none | accuracy |",
        "### Ranking of the arms: wiki synthetic tiny, fpr", "Missing: utility: the paired differences are identical",
        "for 1 group in some trial", "'No transfer' is not claimed", "hash of its grid",
        "B and W with 11 groups: restricted wild cluster bootstrap", "all 2,048 Rademacher draws",
    ):  # fmt: skip
        assert part in text, part
    whole_page = (folder / "report.html").read_text(encoding="utf-8")
    assert len(whole_page) < 6e6
    page = re.sub(r"<script.*?</script>", "", whole_page, flags=re.DOTALL)
    assert page.count("<svg") == text.count(".png)") > 4
    assert "http" not in page.replace("http://www.w3.org/", "").replace("http://purl.org/", "").replace(
        "http://creativecommons.org/", ""
    ).replace("https://matplotlib.org/", "")
    for svg in folder.glob("*.svg"):
        assert xml.etree.ElementTree.parse(svg).getroot().tag.endswith("svg")
        assert svg.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_the_report_contains_the_warnings_of_trials(whole):
    text = (whole[1] / "report.md").read_text(encoding="utf-8")
    assert "3 of 6 trials warn: The loss (0.5 nats) is high. (numbers differ between trials)" in text
    assert "3 of 6 trials warn" in (whole[1] / "report.html").read_text(encoding="utf-8")


def test_the_report_names_the_package_versions_of_the_runs(whole):
    text = (whole[1] / "report.md").read_text(encoding="utf-8")
    assert "numpy 2.0 (4 of 6 trials), 2.1 (2 of 6 trials); torch 2.9.1. " in text
    assert "Trials ran with different versions of numpy" in text


def test_the_report_names_the_machines_on_which_trials_ran(whole):
    text = (whole[1] / "report.md").read_text(encoding="utf-8")
    assert "intel (5 of 6 trials); amd (1 of 6 trials: " in text
    ran = pd.read_csv(whole[1] / "machines.csv", keep_default_na=False)
    assert (len(ran), list(ran["machine"]).count("amd"), set(ran["imported"])) == (6, 1, {""})


def test_the_report_can_be_attached_to_the_sweeps_run(store, tmp_path):
    done = run("whole", "--tracking-uri", store, "--out", tmp_path, "--attach", "--margin", "wiki.fpr.slope_sd=0.2")
    assert done.exit_code == 0, done.output
    parent = sweeps.read("whole", uri=store).run_id
    assert {"report.html", "report.md", "coefficients.csv", "transfer.png"} <= set(
        sweeps.attached(tracking_store.connect(store), parent, "report")
    )
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "given to the analysis, when results may have been seen" in text
    assert re.search(r"Equivalence to 0 (passes|does not pass) at a margin of .* \(0.2 SD over groups\)", text)
    assert "wiki synthetic tiny, fpr: margins of equivalence: slopes 0.2 SD, arms none; one SD" in text


def test_a_second_run_replaces_its_files_and_keeps_others(store, tmp_path):
    (tmp_path / "mine.txt").write_text("keep me")
    (tmp_path / "report.md").write_text("old")
    assert run("whole", "--tracking-uri", store, "--out", tmp_path).exit_code == 0
    assert {path.name for path in tmp_path.iterdir()} >= {*FILES, "mine.txt"}
    assert (tmp_path / "mine.txt").read_text() == "keep me"
    assert "# Bias transfer: whole" in (tmp_path / "report.md").read_text()


def test_a_failure_while_writing_leaves_no_files(store, tmp_path, monkeypatch):
    def full(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write, "save", full)
    result = run("whole", "--tracking-uri", store, "--out", tmp_path / "report")
    assert result.exit_code == 2
    assert "No space left on device" in result.stderr
    assert not list(tmp_path.iterdir())


def test_missing_trials_are_refused_or_allowed(store, tmp_path):
    refused = run("partial", "--tracking-uri", store, "--out", tmp_path / "report")
    assert refused.exit_code == 2
    assert "2 of the 6 trials" in refused.stderr
    assert "the loss is NaN" in refused.stderr
    assert "--allow-missing" in refused.stderr
    assert not (tmp_path / "report").exists()
    allowed = run("partial", "--tracking-uri", store, "--out", tmp_path / "report", "--allow-missing")
    assert allowed.exit_code == 0, allowed.output
    assert "have not finished, and are left out" in allowed.output
    assert "1 paired seed (one seed: no interval)" in allowed.output
    assert "4 of 6 trials" in (tmp_path / "report" / "report.md").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("whoel",), "Did you mean 'whole'"),
        (("whole", "--sweep", "nothing"), "nothing"),
        (("whole", "--tracking-uri", "sqlite:////nowhere/mlflow.db"), "/nowhere/mlflow.db"),
        (("whole", "--out", "/dev/null/report"), "cannot write to /dev/null/report"),
        (("whole", "--margin-slope", "0.1"), "--margin-slope: a margin holds for one task and one outcome"),
        (("whole", "--margin-arms", "0.1"), "--margin wiki.fpr.slope_sd=0.2"),
        (("whole", "--margin", "0.1"), "is not TASK.OUTCOME.NAME=SD"),
        (("whole", "--margin", "wiki.fpr.slope_sd=-1"), "is not TASK.OUTCOME.NAME=SD"),
        (("whole", "--margin", "wikki.fpr.slope_sd=1"), "Did you mean 'wiki'"),
        (("whole", "--margin", "wiki.fprr.slope_sd=1"), "outcome of wiki in --margin 'fprr'. Did you mean 'fpr'"),
    ],
)
def test_mistakes_give_status_2_and_one_clear_paragraph(store, words, said):
    words = words if "--tracking-uri" in words else (*words, "--tracking-uri", store)
    result = run(*words)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")
    assert said in result.stderr
    assert "Traceback" not in result.output


def test_margins_of_a_custom_task_are_named_by_its_file():
    words = ["examples/custom_task/board.yaml.logit_gap.slope_sd=0.2", "a=b.yaml.logit_gap.arm_sd=0.3"]
    assert command._margins(words) == {
        "examples/custom_task/board.yaml": {"logit_gap": {"slope_sd": 0.2}},
        "a=b.yaml": {"logit_gap": {"arm_sd": 0.3}},
    }


def test_margins_that_are_given_replace_those_that_are_stated_one_by_one():
    stated = AnalysisPlan(
        margins={"wiki": {"fpr": {"slope_sd": 0.1, "arm_sd": 0.3}}, "bios": {"tpr_gap": {"arm_sd": 0.4}}}
    )
    given = AnalysisPlan(margins={"wiki": {"fpr": {"slope_sd": 0.2}}})
    assert findings._plan(stated, given).margins == {
        "wiki": {"fpr": Margins(slope_sd=0.2, arm_sd=0.3)},
        "bios": {"tpr_gap": Margins(arm_sd=0.4)},
    }


def test_a_sweep_with_margins_of_the_old_form_says_that_they_do_not_count(store, monkeypatch):
    read = sweeps.read
    monkeypatch.setattr(sweeps, "read", lambda *given, **named: replace(read(*given, **named), obsolete_margins=True))
    found = findings.analyse("whole", uri=store)
    (origin,) = found.margins_from.values()
    assert origin == "obsolete"
    assert found.coefficients["equivalent"].isna().all()
    assert any("margin_slope" in text for block in methods(found) if isinstance(block, Items) for text in block.items)


def test_a_sweep_can_be_named(store):
    parent = sweeps.read("whole", uri=store).run_id
    assert findings.analyse("whole", parent, store).runs.sweep.run_id == parent


@pytest.mark.long
def test_the_analysis_does_not_import_torch(store):
    code = (
        "import sys, analysis.findings, analysis.report.write\n"
        f"analysis.findings.analyse('whole', uri={store!r})\n"
        "print([name for name in ('torch', 'transformers', 'ray') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(command.__file__).parents[1]
    )
    assert done.stdout.splitlines() == ["[]"]
    assert not done.stderr
