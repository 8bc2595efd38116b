"""A kept classifier is asked about the texts of a file; what is wrong with a request is reported."""

from __future__ import annotations

import pandas as pd
import pytest
from typer.testing import CliRunner

from bias_transfer.commands import predict, trial
from bias_transfer.console import application
from bias_transfer.training import kept

SMALL = [
    "data.size=200", "data.pretraining_sentences=300", "model.steps=4", "model.width=16", "model.layers=1",
    "model.vocabulary=1200", "epochs=0.5", "max_tokens=16", "tuning=lora",
]  # fmt: skip


def command(main, *words: object):
    return CliRunner().invoke(application(main), [*map(str, words)])


@pytest.fixture
def comments(tmp_path) -> str:
    file = tmp_path / "comments.csv"
    file.write_text("n,comment\n1,a good cat\n2,a bad dog\n3,a good cat\n")
    return str(file)


def test_a_trial_keeps_its_classifier_and_it_answers_per_text(few_phrases, tmp_path, comments):
    done = command(trial.main, *SMALL, "--cache", tmp_path, "--keep-models")
    assert done.exit_code == 0, done.output
    (trial_id,) = kept.ids(str(tmp_path))
    assert f"Classifier: {tmp_path}/models/{trial_id}" in done.output
    asked = command(predict.main, trial_id, comments, "--out", tmp_path / "out.csv", "--cache", tmp_path)
    assert asked.exit_code == 0, asked.output
    frame = pd.read_csv(tmp_path / "out.csv", index_col=0)
    assert [*frame.index] == [2, 3, 4]  # lines of the file
    assert all(name.startswith("logit ") for name in frame)
    assert frame.iloc[0].equals(frame.iloc[2])
    assert not frame.iloc[0].equals(frame.iloc[1])


def test_what_is_wrong_with_a_request_is_reported(tmp_path, comments):
    kept.save(
        str(tmp_path),
        kept.Kept(trial.parse_trial({}).with_fields(data_digest="d", model_digest="m"), ("a", "b"), {}, "", {}),
    )
    (trial_id,) = kept.ids(str(tmp_path))
    for words, message in (
        (["abc", comments], f"Allowed: {trial_id}"),
        ([trial_id, comments, "--set", "dta=x"], "Did you mean 'data'"),
        ([trial_id, comments, "--column", "note"], "no column for the text"),
        ([trial_id, tmp_path / "coments.csv"], "Did you mean"),
    ):
        asked = command(predict.main, *words, "--out", tmp_path / "out.csv", "--cache", tmp_path)
        assert asked.exit_code == 2, asked.output
        assert message in asked.stderr
