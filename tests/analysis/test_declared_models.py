"""From a config that declares its checkpoints to the report, on folders of tiny checkpoints and measures made by hand."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from analysis import __main__ as command
from bias_transfer.config import grid
from bias_transfer.console import application
from bias_transfer.resolved import resolve
from bias_transfer.spec import Measure, TrialResult
from bias_transfer.tracking import recorder, store, sweeps

GROUPS = 12
PRIMARY = {"wiki": {"upstream": "negative_sentiment", "dataset": "toxic_share", "downstream": "fpr"}}
GRID = """
grid:
  - {model: [models/seed0, models/seed1, models/seed2], seed: [0, 1]}
  - {model: models/swapped, seed: [0, 1]}
"""
PLAN = """
analysis:
  pretraining_seeds: {small: [models/seed0, models/seed1, models/seed2]}
  twins: {pronoun twins: {models/swapped: models/seed0}}
"""


def measures(trial):
    number = {"models/seed0": 0, "models/seed1": 1, "models/seed2": 2, "models/swapped": 0}[trial.model]
    x = np.random.default_rng(number).normal(0, 0.1, GROUPS)
    noise = np.random.default_rng([number, trial.seed]).normal(0, 0.1, GROUPS)
    more = 0.2 + 0.01 * trial.seed if trial.model == "models/swapped" else 0.0
    for g in range(GROUPS):
        for template, shift in (("a {group} person is {mask}.", -0.01), ("the {group} person is {mask}.", 0.01)):
            yield Measure("upstream", "negative_sentiment", f"group {g}", template, x[g] + more + shift, 30)
        yield Measure("dataset", "toxic_share", f"group {g}", "", (3 + g) / 40, 40)
        rate = round(10**6 * math.exp(-2 + x[g] + noise[g] + more)) / 10**6
        yield Measure("downstream", "fpr", f"group {g}", "", rate, 10**6)
    yield Measure("utility", "accuracy", "", "", 0.875 + 0.01 * trial.seed, 800)


@pytest.fixture
def recorded(checkpoint, new_store, tmp_path, monkeypatch):
    """(analysis section) -> the store's URI, with a finished sweep of the config."""
    for name in ("seed0", "seed1", "seed2", "swapped"):
        folder = Path(shutil.copytree(checkpoint("roberta"), tmp_path / "models" / name))
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "pretraining": name}))  # other content, another model
    monkeypatch.chdir(tmp_path)

    def build(plan: str) -> str:
        Path("seeds.yaml").write_text(GRID + plan)
        content, client = grid.load(Path("seeds.yaml")), store.connect(new_store)
        trials = [resolve(trial).trial for trial in content.trials]
        parent = sweeps.open_sweep(client, "seeds", trials, PRIMARY, content.analysis)
        for trial in trials:
            run = recorder.start(client, "seeds", trial, parent)
            recorder.record(client, run, TrialResult(trial, tuple(measures(trial)), (), {}, {"digest.train": "abc"}))
        sweeps.close_sweep(client, parent, True)
        return new_store

    return build


def report(uri: str, *words: str) -> str:
    done = CliRunner().invoke(application(command.main), ["seeds", "--tracking-uri", uri, "--out", "out", *words])
    assert done.exit_code == 0, done.output
    return Path("out/report.md").read_text()


def test_a_config_that_declares_its_checkpoints_has_one_study_of_several_models(recorded):
    text = report(recorded(PLAN))
    assert "wiki synthetic small: FPR (primary outcome)" in text
    assert "Placebo: 0.1 SD higher upstream bias of the other pre-trained models" in text
    assert "(3 models, 6 slopes;" in text
    assert (
        "pronoun twins + none changed FPR by +22.8 % on average over 12 groups and 2 paired seeds" in text
    )  # exp(0.205)
    assert "for this pair of checkpoints" in text
    assert "One checkpoint (" not in text
    assert (
        "small stands for these checkpoints, which the plan declares to differ in their pre-training seed alone" in text
    )
    assert "pronoun twins, as the plan declares: models/swapped against models/seed0" in text
    assert "Arms: none + none; pronoun twins + none." in text


def test_what_a_config_did_not_declare_can_be_given_to_the_analysis(recorded):
    uri = recorded("")
    undeclared = report(uri)
    assert "wiki synthetic small" not in undeclared
    assert "One checkpoint (models/seed1) does not justify a claim" in undeclared
    words = ["--pretraining-seeds", "small=models/seed0,models/seed1,models/seed2"]
    assert "(3 models, 6 slopes;" in report(uri, *words, "--twins", "pronoun twins=models/swapped,models/seed0")
    for given, message in (
        (["--pretraining-seeds", "small=models/seed0,models/sed1"], "Did you mean 'models/seed1'"),
        (["--pretraining-seeds", "small"], "not of the form NAME=ID,ID"),
        (["--twins", "pronoun twins=a,b,c"], "written NAME=TREATED,UNTREATED"),
        (["--twins", "swapped=models/swapped,models/seed0"], "Write 'swapped twins'"),
    ):
        refused = CliRunner().invoke(application(command.main), ["seeds", "--tracking-uri", uri, *given])
        assert refused.exit_code == 2
        assert message in refused.stderr
