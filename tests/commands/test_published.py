"""Published numbers next to ours: the page is the table, a folder is measured and named, no model means no claim."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification
from typer.testing import CliRunner

from bias_transfer import determinism
from bias_transfer.commands import published, published_numbers
from bias_transfer.console import application
from bias_transfer.metrics import crows_pairs
from bias_transfer.models import language_model

PAGE = Path(__file__).parents[2] / "docs" / "published.md"


@pytest.fixture(autouse=True)
def no_cache(tmp_path, monkeypatch):
    """An empty hub cache, whatever the machine has."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def command(*words: object):
    ended = CliRunner().invoke(application(published.main), [*map(str, words)])
    return ended.exit_code, " ".join(ended.output.split())


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.csv"
    rows = [
        ("the man is good", "the woman is good", "stereo", "gender"),
        ("the old dog is bad", "the young dog is bad", "antistereo", "age"),
        ("some people are kind", "some cats are kind", "stereo", "religion"),
    ]
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([crows_pairs.COLUMNS, *rows])
    return path


def test_the_page_is_written_from_the_table():
    assert PAGE.read_text(encoding="utf-8") == published_numbers.document(), (
        "bias-transfer published --list > docs/published.md"
    )
    ended = CliRunner().invoke(application(published.main), ["--list"])
    assert ended.stdout == published_numbers.document()


def test_every_number_has_a_source_an_expectation_and_a_command():
    for row in published_numbers.TABLE:
        assert row.source, row
        assert row.expected.endswith("."), row
        assert row.command.startswith("bias-transfer "), row
        assert bool(row.metric) == bool(row.file), row
    keys = [(row.what, row.model) for row in published_numbers.TABLE]
    assert len(set(keys)) == len(keys)
    overall = {row.metric: row.value for row in published_numbers.TABLE[:3]}
    mixed = (1290 * overall["crows_pairs_stereo"] + 218 * overall["crows_pairs_antistereo"]) / 1508
    assert mixed == pytest.approx(overall["crows_pairs"], abs=0.01)  # the three of one log belong together


def test_a_folder_is_measured_and_named(checkpoint, pairs, tmp_path):
    folder, out = checkpoint("bert"), tmp_path / "compared.csv"
    code, text = command("--model", f"bert-base-uncased={folder}", "--crows-pairs", pairs, "--out", out)
    assert code == 0, text
    (score, *_) = crows_pairs.crows_pairs(language_model.load_lm(folder, None), crows_pairs.read_pairs(str(pairs)))
    ours = 100 * score.value
    assert f"60.48 {ours:.2f} {ours - 60.48:+.2f} 3" in text
    assert f"bert-base-uncased: the folder {folder}, as given by --model; it was not checked" in text
    assert "Not in the hub cache: roberta-large, albert-xxlarge-v2, gpt2." in text
    assert "--stereoset FILE was not given" in text
    with out.open(newline="", encoding="utf-8") as file:
        rows = {(row["what"], row["metric"]): row for row in csv.DictReader(file)}
    first = rows["CrowS-Pairs, all pairs", "crows_pairs"]
    assert float(first["difference"]) == pytest.approx(float(first["ours"]) - 60.48)
    assert folder in first["weights"]
    assert ("CrowS-Pairs by bias-bench, race", "crows_pairs") not in rows  # the file has no pair of that type


def test_a_model_in_the_hub_cache_is_measured_under_either_of_its_ids(checkpoint, pairs, tmp_path):
    commit = "0123456789abcdef" + 24 * "0"
    repository = tmp_path / "hub" / "models--google-bert--bert-base-uncased"
    shutil.copytree(checkpoint("bert"), repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit, encoding="utf-8")
    code, text = command("--crows-pairs", pairs)
    assert code == 0, text
    assert "60.48" in text
    assert "bert-base-uncased: the hub cache, google-bert/bert-base-uncased at 0123456789ab" in text


def test_stereoset_is_compared_by_the_published_scripts_score(checkpoint, tmp_path):
    words = {"stereotype": "bad", "anti-stereotype": "good", "unrelated": "cat"}
    sentences = [{"sentence": f"The man is {word}.", "gold_label": label} for label, word in words.items()]
    item = {"target": "man", "bias_type": "gender", "context": "The man is BLANK.", "sentences": sentences}
    path = tmp_path / "test.json"
    path.write_text(json.dumps({"data": {"intrasentence": [item]}}), encoding="utf-8")
    code, text = command("--model", f"gpt2={checkpoint('gpt2')}", "--stereoset", path)
    assert code == 0, text
    assert "StereoSet SS, gender gpt2 62.65" in text
    assert "StereoSet ICAT, overall gpt2 73.12" in text
    assert "race" not in text


def test_a_classifier_is_asked_about_hatecheck(checkpoint, tokenizer, tmp_path):
    folder = tmp_path / "classifier"
    with determinism.seeded(0), language_model.quiet():
        model = AutoModelForSequenceClassification.from_pretrained(checkpoint("bert"), num_labels=2)
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor([0.0, 1.0]))  # everything is hateful
    model.save_pretrained(folder)
    language_model.load_lm(checkpoint("bert"), None).tokenizer.save_pretrained(folder)
    cases = tmp_path / "cases.csv"
    head = ("functionality", "case_id", "test_case", "label_gold", "target_ident")
    rows = [("slur_h", 1, "a bad man", "hateful", "women"), ("ident_neutral_nh", 2, "a good man", "non-hateful", "women"),
            ("slur_h", 3, "bad cats", "hateful", "")]  # fmt: skip
    with cases.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])
    code, text = command("--model", f"hatecheck-bert-davidson2017={folder}", "--hatecheck", cases)
    assert code == 0, text
    assert "63.2 66.67 +3.47 3" in text
    assert "75.5 100.00 +24.50 2" in text
    assert "20.6 0.00 -20.60 1" in text


def test_without_a_model_it_says_so_and_what_to_download(pairs):
    code, text = command("--crows-pairs", pairs)
    assert code == 0
    assert (
        "No model of the table is at hand, so nothing was compared: download one, as by `hf download bert-base-uncased`"
        in text
    )
    assert "60.48" not in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--model", "bert-base-uncase=here"), "Did you mean 'bert-base-uncased'"),
        (("--model", "gpt2=nowhere"), "nowhere is no checkpoint folder"),
        (("--crows-pairs", "nowhere.csv"), "no such file. It is crows_pairs_anonymized.csv of nyu-mll/crows-pairs"),
        (("--out", "nowhere/compared.csv"), "there is no folder nowhere"),
    ],
)
def test_a_mistake_ends_in_a_sentence(words, said):
    code, text = command(*words)
    assert code != 0
    assert said in text
