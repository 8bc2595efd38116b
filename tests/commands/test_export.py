"""A trial's model as a checkpoint folder: both stages by transformers alone, a card that says what it is, and refusals."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer
from typer.testing import CliRunner

from bias_transfer.commands import export, predict, trial
from bias_transfer.config import grid
from bias_transfer.console import application
from bias_transfer.kept_models import treated_model
from bias_transfer.models import language_model
from bias_transfer.models.batching import encode
from bias_transfer.resolved import Places, resolve

CONFIG = """
defaults:
  data: {{name: synthetic, size: 200, pretraining_sentences: 300}}
  model: {model}
  epochs: 0.5
  max_tokens: 16
grid:
  - {arm}
"""
TEXTS = ("a good cat", "some people are not so kind, and the old dog is a terrible cook for the young man", "bad")


def command(main, *words: object):
    return CliRunner().invoke(application(main), [*map(str, words)])


@pytest.fixture
def ran(few_phrases, checkpoint, tmp_path, monkeypatch, new_store):
    """(family, fields) -> id of a trial that ran with --keep-models and was recorded, whose config is one.yaml."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BIAS_TRANSFER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store)

    def build(family: str, arm: str, *words: str) -> str:
        Path("one.yaml").write_text(CONFIG.format(model=checkpoint(family), arm=arm))
        (only,) = grid.load(Path("one.yaml")).trials
        id = resolve(only).id
        done = command(trial.main, "--id", id, "one.yaml", *words)
        assert done.exit_code == 0, done.output
        return id

    return build


@torch.no_grad()
def by_transformers(auto, folder: str) -> np.ndarray:
    with language_model.quiet():
        tokenizer, model = AutoTokenizer.from_pretrained(folder), auto.from_pretrained(folder).eval()
    return model(**tokenizer(list(TEXTS), truncation=True, padding=True, return_tensors="pt")).logits.numpy()


ARMS = [
    ("llama", "{upstream: {name: perturb, dose: 0.5}, downstream: scrub, tuning: {name: lora, rank: 2}}"),
    ("bert", "{upstream: {name: random_projection, components: 2}}"),
]


@pytest.mark.parametrize(("family", "arm"), ARMS, ids=["llama lora", "bert projection"])
def test_a_finetuned_classifier_gives_the_logits_of_predict(ran, family, arm):
    id = ran(family, arm, "--keep-models", "--track")
    done = command(export.main, "--id", id, "one.yaml", "--stage", "finetuned", "--out", "classifier")
    assert done.exit_code == 0, done.output
    assert "Checkpoint: classifier\nNext: transformers.AutoModelForSequenceClassification" in done.output
    pd.DataFrame({"text": TEXTS}).to_csv("texts.csv", index=False)
    assert command(predict.main, id, "texts.csv", "--out", "logits.csv").exit_code == 0
    expected = pd.read_csv("logits.csv", index_col=0).to_numpy()
    np.testing.assert_allclose(by_transformers(AutoModelForSequenceClassification, "classifier"), expected, atol=1e-5)
    assert ("arm random_projection=1(components=2) is folded into the classification head" in done.output) == (
        family == "bert"
    )
    card = Path("classifier/README.md").read_text()
    assert ("A projection of the last hidden states is folded" in card) == (family == "bert")
    assert ("pad on the right, and do not end a text with that token" in card) == (family == "llama")
    assert command(export.main, "--id", id, "--stage", "finetuned", "--out", "again").exit_code == 0  # without a config


def test_a_treated_model_gives_the_logits_of_its_head_and_a_card_with_what_was_recorded(ran, checkpoint):
    id = ran("gpt_neox", "{upstream: {name: perturb, dose: 0.5}}", "--track")
    done = command(export.main, "--id", id, "one.yaml", "--out", "deep/treated")
    assert done.exit_code == 0, done.output
    model = treated_model(resolve(grid.load(Path("one.yaml")).trials[0]), Places())
    logits = by_transformers(AutoModelForCausalLM, "deep/treated")
    for text, row in zip(TEXTS, logits, strict=True):
        ids = torch.tensor(encode(model.tokenizer, [text], 64))
        with torch.no_grad():
            expected = model.lm.eval()(ids).logits[0].numpy()
        np.testing.assert_allclose(row[: len(expected)], expected, atol=1e-5)
    untreated = language_model.load(checkpoint("gpt_neox"), None, 2, 0)
    assert language_model.encoder_digest(
        language_model.load("deep/treated", None, 2, 0)
    ) != language_model.encoder_digest(untreated)
    read = ModelCard.load("deep/treated/README.md")
    assert read.data.to_dict() == {
        "license": "unknown", "library_name": "transformers", "pipeline_tag": "text-generation",
        "tags": ["bias-transfer", "perturb"],
    }  # fmt: skip
    for part in (
        f"| id | `{id}` |", "| upstream_dose | `0.5` |", "| upstream | negative_sentiment, mean |", "| causal_lm_loss |",
        "50 groups |", "before any fine-tuning", "The model was measured with `<s>`", "one seed, one checkpoint",
    ):  # fmt: skip
        assert part in read.text, part
    assert "accuracy" not in read.text  # of a classifier that is not here
    written = "".join(file.read_text() for file in Path("deep/treated").iterdir() if file.suffix in (".json", ".md"))
    assert str(Path(checkpoint("gpt_neox")).parent) not in written  # no path of this machine


def test_a_trial_that_mlflow_does_not_have_is_exported_without_measures(ran):
    id = ran("roberta", "{upstream: none}")
    done = command(export.main, "--id", id, "one.yaml", "--out", "out")
    assert done.exit_code == 0, done.output
    assert f"has no finished run of {id}: the model card has no measures." in done.output
    card = Path("out/README.md").read_text()
    assert "No finished run of this trial was found in MLflow" in card
    assert "the trial has no upstream intervention" in card
    assert by_transformers(AutoModelForMaskedLM, "out").shape[0] == len(TEXTS)


PROMPTED = "{tuning: {name: prompt, shots: 1}}"


def test_a_prompt_and_a_projection_that_cannot_be_folded_are_refused_by_name(ran, checkpoint, monkeypatch):
    Path("one.yaml").write_text(CONFIG.format(model=checkpoint("llama"), arm=PROMPTED))
    id = resolve(grid.load(Path("one.yaml")).trials[0]).id
    with monkeypatch.context() as patch:
        patch.setattr(language_model, "load", None)  # nothing may be computed
        refused = command(export.main, "--id", id, "one.yaml", "--stage", "finetuned", "--out", "out")
    assert refused.exit_code == 2
    assert (
        f"the trial {id} has tuning: prompt, which trains nothing: it has no fine-tuned model to export"
        in refused.stderr
    )
    id = ran("llama", "{upstream: leace}", "--keep-models")
    refused = command(export.main, "--id", id, "one.yaml", "--stage", "finetuned", "--out", "out")
    assert refused.exit_code == 2
    assert re.search("arm leace inserts .* 'llama': the arm's map has a constant part", refused.stderr), refused.stderr
    assert not Path("out").exists()


def test_what_cannot_be_exported_is_reported_and_nothing_is_written(ran):
    id = ran("bert", "{upstream: sent_debias}")
    Path("there").mkdir()
    for words, message in (
        (
            ["one.yaml", "--out", "out"],
            "sent_debias=1 inserts a projection behind the last layer, .* --stage finetuned",
        ),
        (
            ["one.yaml", "--out", "out", "--stage", "finetuned"],
            f"has no kept classifier .* --id {id} one.yaml --keep-models",
        ),
        (["--out", "out"], "needs the CONFIG"),
        (["one.yaml", "--out", "there"], "exists already"),
        (["one.yaml", "--out", "out", "--stage", "finetune"], "Did you mean 'finetuned'"),
        (["one.yaml", "--out", "out", "--set", "seed=9"], f"one.yaml has no trial {id}"),
        (["one.yaml", "--out", "out", "--tracking-uri", "sqlite:////nowhere/x.db"], "/nowhere/x.db"),
    ):
        refused = command(export.main, "--id", id, *words)
        assert refused.exit_code == 2, refused.output
        assert re.search(message, refused.stderr), refused.stderr
        assert not Path("out").exists()
