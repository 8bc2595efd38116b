"""One trial as a command: what it tells, and mistakes told before it starts."""

from __future__ import annotations

import pandas as pd
import pytest
from typer.testing import CliRunner

from bias_transfer import pipeline
from bias_transfer.commands import trial as commands_trial
from bias_transfer.commands.trial import main
from bias_transfer.console import application
from bias_transfer.errors import UserError
from bias_transfer.training import finetune

SMALL = [
    "data.size=200", "data.pretraining_sentences=300", "model.steps=4", "model.width=16", "model.layers=1",
    "model.vocabulary=1200", "epochs=0.5", "max_tokens=16",
]  # fmt: skip


def test_a_command_forgets_its_checkpoint(few_phrases, tmp_path, monkeypatch):
    kept = list[str]()
    monkeypatch.setattr(
        commands_trial, "show", lambda result, resolved: kept.extend(map(str, tmp_path.rglob("*.safetensors")))
    )
    done = CliRunner().invoke(application(main), [*SMALL, "--cache", str(tmp_path), "--checkpoint-minutes", "0"])
    assert done.exit_code == 0, done.output
    assert any("checkpoints" in path for path in kept)
    assert not (tmp_path / "checkpoints").is_dir() or not [*(tmp_path / "checkpoints").iterdir()]


def test_an_evaluation_set_is_shown_and_predictions_are_kept(few_phrases, tmp_path):
    (tmp_path / "cases.csv").write_text(
        "text,label,who,kind\nx y,0,pilots,praise\ny z,1,pilots,insult\nz,0,bakers,praise\n"
    )
    words = [
        *SMALL,
        f"evaluate.forum={tmp_path / 'cases.csv'}",
        "evaluate.forum.groups=who",
        "evaluate.forum.functionality=kind",
    ]
    command = [*words, "--cache", str(tmp_path), "--keep-predictions", "--json", str(tmp_path / "result.json")]
    done = CliRunner().invoke(application(main), command)
    assert done.exit_code == 0, done.output
    for shown in ("evaluate.forum: 3 examples, 2 groups, 2 functionalities", "forum, by group", "pilots", "insult"):
        assert shown in done.output
    kept = pd.read_parquet(tmp_path / "result.predictions.parquet")
    assert kept.loc[kept["set"] == "forum", "id"].tolist() == ["forum:0", "forum:1", "forum:2"]
    refused = CliRunner().invoke(application(main), [*words, "--keep-predictions"])
    assert "--keep-predictions needs a place for them: --json FILE, or --track" in refused.output


def test_a_precision_that_is_slow_here_is_told_before_the_trial(few_phrases, tmp_path, monkeypatch):
    monkeypatch.setattr(finetune, "slow_precision", lambda trial: "this is slow" if trial.precision == "bf16" else None)
    for words, told in (([], False), (["precision=bf16"], True)):
        done = CliRunner().invoke(application(main), [*SMALL, *words, "--cache", str(tmp_path)])
        assert done.exit_code == 0, done.output
        assert ("Warning: this is slow" in done.output) == told


def test_what_was_read_is_told_before_the_trial(tmp_path, checkpoint, monkeypatch):
    rows = "".join(f"text {row},{row % 2}\n" for row in (*range(60), *range(60)))
    (tmp_path / "a.csv").write_text("text,label\n" + rows)

    def stop(trial, places):
        raise UserError("it would start now")

    monkeypatch.setattr(pipeline, "run_trial", stop)
    done = CliRunner().invoke(application(main), [f"data={tmp_path / 'a.csv'}", f"model={checkpoint('roberta')}"])
    began, *lines = done.output.splitlines()
    assert began == "Reading the data and the model ..."
    assert lines[:2] == [
        f"{tmp_path}/a.csv: split 80/10/10 by data.split_seed.",
        f"{tmp_path}/a.csv: 96 train, 12 dev and 12 test examples.",
    ]
    assert lines[2].startswith(f"Warning: {tmp_path}/a.csv has rows that repeat an earlier text of their split (")
    assert lines[3].startswith("Warning: No training example belongs to any of the 50 groups")
    assert lines[4] == "Error: it would start now"


BAD = [
    (["task=wikki"], "Did you mean 'wiki'"),
    (["upstream=reinitialize"], "Did you mean 'reinitialise'"),
    (["downstream=rebalanse"], "Did you mean 'rebalance'"),
    (["task=bio"], "Did you mean 'bios'"),
    (["task=bios", "metric.scorer=vader"], "unknown option 'metric.scorer'"),
    (["task=bios", "downstream=rebalance", "downstream.method=oversampel"], "'subsample' or 'oversample'"),
    (["downstream=rebalance", "downstream.file=nowhere.csv"], "no such file"),
    (["epoch=3"], "Did you mean 'epochs'"),
    (["data.sizes=300"], "Did you mean 'data.size'"),
    (["upstream=perturb", "upstream.draws=3"], "Did you mean 'upstream.draw'"),
    (["metric.scorer=vadr"], "Did you mean 'vader'"),
    (["nothing.at=3"], "no owner"),
    (["downstream=scrub", "downstream_dose=2"], "at most 1"),
    (["upstream=none", "upstream_dose=1"], "takes no dose"),
    (["upstream=perturb", "upstream_dose=0"], "write upstream: none"),
    (["upstream=reinitialise", "upstream_dose=0.4"], "Allowed: 0.333, 0.667, 1"),
    (["seed=-1"], "seed"),
    (["epochs=many"], "epochs"),
    (["learning_rate=.inf"], "learning_rate"),
    (["precision=fp64"], "precision"),
    (["seed"], "not of the form KEY=VALUE"),
    (["seed=1", "seed=2"], "given twice"),
    (["data=nowhere.csv"], "neither a file nor a folder"),
    (["model=./nowhere"], "does not exist"),
    (["quickstart.yaml"], "--id"),
    (["evaluate.forum=nowhere.csv"], "evaluate.forum: nowhere.csv: no such file"),
    (["evaluate.forum.text=body"], "evaluate.forum: no file is named"),
    (["--id", "123", "nowhere.yaml"], "unknown config"),
]


@pytest.mark.parametrize(("words", "told"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_bad_input_is_one_clear_paragraph_and_writes_nothing(words, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failed = CliRunner().invoke(application(main), [*words, "--json", "out.json"])
    assert failed.exit_code == 2, failed.output
    assert told in failed.stderr
    assert failed.stderr.startswith("Error: ")
    assert not list(tmp_path.iterdir())


def test_a_result_that_could_not_be_written_is_told_beforehand(tmp_path, monkeypatch):
    monkeypatch.setattr("bias_transfer.pipeline.run_trial", lambda *_: pytest.fail("the trial ran"))
    failed = CliRunner().invoke(application(main), [*SMALL, "--json", str(tmp_path / "nowhere" / "out.json")])
    assert failed.exit_code == 2
    assert "--json" in failed.stderr
