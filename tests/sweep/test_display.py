"""What a sweep prints of its results: trials of one setting are averaged, and no others."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from bias_transfer.config import cost
from bias_transfer.spec import parse_trial
from bias_transfer.sweep import display


def shown(rows: list[dict[str, object]], capsys, monkeypatch, columns: str = "160") -> str:
    monkeypatch.setenv("COLUMNS", columns)
    plain = {"data": "d", "model": "tiny", "upstream": "none", "arm": "none + none", "warnings": ()}
    display.show_results(None, pd.DataFrame([{**plain, **row} for row in rows]))
    return capsys.readouterr().out


@pytest.mark.parametrize(
    "other", [{"setting": "wiki tiny lora(rank=4)"}, {"data": "e"}, {"setting": "wiki tiny(seed=1)"}]
)
def test_settings_are_not_averaged_over(other, capsys, monkeypatch):
    rows = [{"setting": "wiki tiny", "accuracy": value} for value in (0.5, 0.75)]
    told = shown([*rows, {**rows[0], **other, "accuracy": 0.25}], capsys, monkeypatch)
    assert "0.625" in told
    assert "0.250" in told
    assert all(str(value) in told for value in other.values())


def test_seeds_of_one_setting_are_averaged_and_it_is_not_named(capsys, monkeypatch):
    told = shown([{"setting": "wiki tiny", "accuracy": value} for value in (0.5, 0.75)], capsys, monkeypatch)
    assert "0.625" in told
    assert "wiki" not in told


def test_a_long_name_of_an_arm_takes_no_number_away(capsys, monkeypatch):
    numbers = dict(zip(display.SHOWN, (0.125, 0.25, 0.375, 0.5, 0.625, 0.75), strict=True))
    long = "sent_debias=1(components=1,corpus=both,kept,position=mean,sentences=2000,words=gender) + none"
    told = shown([{"setting": "wiki tiny", "arm": long, **numbers}], capsys, monkeypatch, columns="80")
    assert all(f"{value:.3f}" in told for value in numbers.values())


def test_the_estimate_says_what_words_of_several_tokens_cost(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    for option, said in (({"metric.multi_token": True}, True), ({}, False)):
        display.show_estimate([parse_trial({"model": "some/model", **option})], 100.0)
        assert ("half a million forward passes of a few tokens" in capsys.readouterr().out) == said


def test_the_estimate_counts_evaluation_sets_and_bbq(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "900")
    (tmp_path / "forum.csv").write_text("text,label,who\nso it is,0,pilots\nno,1,pilots\n")
    question = {
        "context": "A and B met.", "question": "Who sings?", "ans0": "A", "ans1": "B", "ans2": "Unknown", "label": 2,
        "category": "Age", "question_polarity": "neg", "context_condition": "ambig",
        "answer_info": {"ans0": ["A", "old"], "ans1": ["B", "nonOld"], "ans2": ["Unknown", "unknown"]},
        "additional_metadata": {"stereotyped_groups": ["old"]},
    }  # fmt: skip
    (tmp_path / "bbq.jsonl").write_text(json.dumps(question))
    options = {"evaluate.forum": str(tmp_path / "forum.csv"), "evaluate.forum.groups": "who"}
    trial = parse_trial({"model": "some/model", **options, "metric.bbq": str(tmp_path / "bbq.jsonl")})
    assert display.further_texts(trial) == cost.FurtherTexts((3, 1), (7, 7, 7))
    display.show_estimate([trial], 1e-9)
    shown = capsys.readouterr().out
    assert "prediction of 2 texts of evaluation sets, BBQ's 1 questions with three answers each" in shown
    whole = cost.operations(trial, display.further_texts(trial)) + 2 * 12 * 12 * 768**2 * 21 * 1.4
    assert f"About {whole / 3.6e6:.1f} GPU-hours" in shown


def test_the_estimate_says_what_fewer_phrases_save_and_leave_out(capsys, monkeypatch):
    """By hand: 40 + 10 phrases of 50 terms, 6 neutral words and no term; a base model has 84.9 million weights without
    embeddings, and a phrase 8.5 tokens."""
    monkeypatch.setenv("COLUMNS", "900")
    trials = [
        parse_trial({"model": "some/model", "metric.phrases_per_term": number, "seed": seed})
        for number in (40, 100)
        for seed in (0, 1)
    ]
    display.show_estimate(trials, 100.0)
    few, enough, *_ = capsys.readouterr().out.splitlines()
    saved = 2 * 84.934656e6 * (85_648 - 57 * 50) * 8.5 / 1e12
    assert few.startswith(
        "metric.phrases_per_term=40: 2,850 of the 85,648 published identity and neutral phrases (3.3 %)"
    )
    assert f"saves {saved:.0f} x 10^12 operations: {saved / 100:.1f} s at 100 TFLOP/s" in few
    assert "ln FPR" in few
    assert enough.startswith("metric.phrases_per_term=100: 7,125 of")
    assert "ln FPR" not in enough
