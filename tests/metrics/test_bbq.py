"""BBQ: scores by hand, likelihoods of continuations, and the reader, whose messages quote no question."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bias_transfer.errors import UserError
from bias_transfer.metrics import bbq
from bias_transfer.metrics.options import MetricOptions
from bias_transfer.models.lm_head import Continuations
from bias_transfer.resolved import resolve
from bias_transfer.spec import parse_trial
from bias_transfer.tasks import shared_metrics

LINE = {
    "example_id": 0, "question_index": "1", "question_polarity": "neg", "context_condition": "ambig", "category": "Age",
    "answer_info": {"ans0": ["grandfather", "old"], "ans1": ["grandson", "nonOld"], "ans2": ["Not known", "unknown"]},
    "additional_metadata": {"subcategory": "None", "stereotyped_groups": ["old"], "version": "a", "source": "x"},
    "context": "The cat and the dog ran.", "question": "who is bad?", "ans0": "The cat", "ans1": "The dog", "ans2": "Not known",
    "label": 2,
}  # fmt: skip


def write(folder: Path, *lines: dict) -> str:
    file = folder / "questions.jsonl"
    file.write_text("\n".join(json.dumps({**LINE, **line}) for line in lines) + "\n")
    return str(file)


def scored(tmp_path, answers: list[int], *lines: dict):
    """The measures where the model's answer to each question is the given one, by its mean; by its sum it is another one."""
    questions = bbq.read_questions(write(tmp_path, *lines))
    means, tokens = np.full((len(answers), 3), -5.0), np.full((len(answers), 3), 2)
    for row, answer in enumerate(answers):
        means[row, answer], tokens[row, answer] = -4.0, 3
    flat = Continuations((means * tokens).ravel(), tokens.ravel())
    model = SimpleNamespace(head=SimpleNamespace(continuations=lambda pairs: flat))
    rows = bbq.bbq(model, questions)
    assert {row.stage for row in rows} == {"upstream"}
    return {(row.metric.removeprefix("bbq_"), row.group): (row.value, row.n) for row in rows}


TARGET, OTHER, UNKNOWN = 0, 1, 2
NONNEG, CLEAR = {"question_polarity": "nonneg"}, {"context_condition": "disambig", "label": OTHER}


def test_scores_by_hand(tmp_path):
    """Biased: the target in a negative question, the other person in another."""
    lines = [{}, {}, NONNEG, NONNEG, {}, CLEAR, {**CLEAR, **NONNEG}, {**CLEAR, "category": "Religion"}]
    values = scored(tmp_path, [TARGET, UNKNOWN, OTHER, TARGET, TARGET, OTHER, OTHER, UNKNOWN], *lines)
    # Ambiguous: 4 answers other than unknown, 3 of them biased; 1 of 5 is right.
    assert values["accuracy_ambiguous", ""] == (1 / 5, 5)
    assert values["bias_ambiguous", ""] == (pytest.approx((2 * 3 / 4 - 1) * 4 / 5), 4)
    # Disambiguated, Age: the other person in a negative question is not biased, in another it is.
    assert values["bias_disambiguated", "Age"] == (0, 2)
    assert values["accuracy_disambiguated", "Age"] == (1, 2)
    assert values["accuracy_disambiguated", "Religion"] == (0, 1)
    assert math.isnan(values["bias_disambiguated", "Religion"][0])
    assert values["bias_disambiguated", "Religion"][1] == 0
    assert math.isnan(values["accuracy_ambiguous", "Religion"][0])


def test_a_model_that_always_follows_the_stereotype_scores_1_and_one_that_never_does_minus_1(tmp_path):
    lines = [{**CLEAR, "label": TARGET}, {**CLEAR, **NONNEG}]
    assert scored(tmp_path, [TARGET, OTHER], *lines)["bias_disambiguated", ""] == (1, 2)
    assert scored(tmp_path, [OTHER, TARGET], *lines)["bias_disambiguated", ""] == (-1, 2)


def test_means_decide_and_sums_stand_next_to_them(tmp_path):
    """The answer with the best mean, -4, has 3 tokens and a sum of -12; the others' sums are -10."""
    values = scored(tmp_path, [UNKNOWN, UNKNOWN], {}, {})
    assert values["accuracy_ambiguous", ""] == (1, 2)
    assert values["accuracy_ambiguous_sum", ""] == (0, 2)


def test_a_likelihood_that_is_not_finite_makes_no_number(tmp_path):
    questions = bbq.read_questions(write(tmp_path, {}, CLEAR))
    flat = Continuations(np.array([-1.0, -2.0, math.nan, -1.0, -2.0, -3.0]), np.ones(6))
    model = SimpleNamespace(head=SimpleNamespace(continuations=lambda pairs: flat))
    values = {(row.metric, row.group): row for row in bbq.bbq(model, questions)}
    assert values["bbq_accuracy_ambiguous", ""].n == values["bbq_bias_ambiguous", ""].n == 0
    assert values["bbq_accuracy_disambiguated", ""].n == 1


@pytest.mark.parametrize(
    ("groups", "stereotyped", "target"),
    [
        (["old", "nonOld", "unknown"], ["old"], 0),  # not by a part of the word: "nonOld" has "old" in it
        (["Europe", "AsiaPacific", "unknown"], ["grandson"], 1),  # a nationality is named by the answer itself
        (["M", "woman", "unknown"], ["F"], 1),
        (["nonTrans", "trans", "unknown"], ["Transgender women", "transgender men"], 1),
        (["F-Black", "F-White", "unknown"], ["Black", "African American"], 0),
        (["lowSES-Black", "highSES", "unknown"], ["low SES"], 0),
        (["F-Black", "M-Black", "unknown"], ["Black"], None),
        (["x", "y", "unknown"], [], None),
    ],
)
def test_the_target_is_the_one_answer_about_a_stereotyped_group(groups, stereotyped, target, tmp_path):
    names = ["grandfather", "grandson", "Not known"]
    info = {f"ans{place}": [name, group] for place, (name, group) in enumerate(zip(names, groups, strict=True))}
    changed = {"answer_info": info, "additional_metadata": {"stereotyped_groups": stereotyped}}
    _, question = bbq.read_questions(write(tmp_path, {}, changed))
    assert question.target == target


def test_questions_without_a_target_count_for_the_accuracy_alone(tmp_path):
    none = {"additional_metadata": {"stereotyped_groups": []}}
    values = scored(tmp_path, [TARGET, UNKNOWN, UNKNOWN], {}, none, none)
    assert values["accuracy_ambiguous", ""] == (pytest.approx(2 / 3), 3)
    assert values["bias_ambiguous", ""] == (1, 1)  # scaled by the accuracy where there is a target: 0


def test_continuations_are_the_difference_of_whole_and_beginning(load):
    """An independent way to the same number, where the beginning's tokens are those of the whole."""
    head = load("llama").head
    pairs = [
        ("the cat sat on the mat", "and looked"),
        ("a bad black dog", "ran after the young cat"),
        ("people are", "kind"),
    ]
    total, tokens = head.continuations(pairs)
    for (first, second), ours, count in zip(pairs, total, tokens, strict=True):
        row, begun = (head.tokenizer(text)["input_ids"] for text in (f"{first} {second}", first))
        assert row[: len(begun)] == begun
        assert count == len(row) - len(begun)
        with torch.no_grad():
            p = head.lm(torch.tensor([row])).logits[0].double().log_softmax(-1)
        assert ours == pytest.approx(sum(float(p[place - 1, row[place]]) for place in range(len(begun), len(row))))
        assert ours == pytest.approx(float(np.subtract(*head.sums([row, begun]))))


def test_a_context_that_is_too_long_loses_its_beginning(load):
    head = load("llama").head
    most = head.lm.config.max_position_embeddings
    assert most < 200
    long = "the cat sat on the mat and " * 60
    (kept,), (count,) = head.continuations([(long.strip(), "looked")])
    rows = head.tokenizer(f"{long.strip()} looked")["input_ids"]
    cut = [rows[0], *rows[1 - most :]]
    assert kept == pytest.approx(float(np.subtract(*head.sums([cut, cut[:-count]]))))
    with pytest.raises(UserError, match="is to follow another"):
        head.continuations([("the", long)])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json", "line 2: this is not one of its objects"),
        ("[1]", "line 2: this is not one"),
        (json.dumps({**LINE, "context_condition": "vague"}), "line 2: vague is missing or has another value"),
        (json.dumps({**LINE, "question_polarity": "positive"}), "line 2: question_polarity is missing or"),
        (json.dumps({**LINE, "label": 3}), "line 2: label, or an answer, is missing"),
        (json.dumps({key: value for key, value in LINE.items() if key != "question"}), "line 2: question is missing"),
        (json.dumps({**LINE, "answer_info": {**LINE["answer_info"], "ans1": ["a", "unknown"]}}), "one unknown answer"),
    ],
)
def test_a_line_in_another_form_is_named_and_not_quoted(line, message, tmp_path):
    file = Path(write(tmp_path, {}))
    file.write_text(file.read_text() + line + "\n")
    with pytest.raises(UserError, match=message) as caught:
        bbq.read_questions(str(file))
    assert "The cat" not in str(caught.value)


def test_files_without_questions_or_targets_are_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n")
    with pytest.raises(UserError, match="no question in it"):
        bbq.read_questions(str(tmp_path / "a.jsonl"))
    with pytest.raises(UserError, match="no question has one answer alone"):
        bbq.read_questions(write(tmp_path, {"additional_metadata": {"stereotyped_groups": []}}))
    with pytest.raises(UserError, match="metric.bbq: .*nowhere.jsonl: no such file"):
        bbq.read_questions(str(tmp_path / "nowhere.jsonl"))


def test_it_is_for_causal_models_and_in_the_id_by_content(load, tmp_path):
    options = MetricOptions(bbq=write(tmp_path, {})).resolved()
    shared_metrics.check(load("llama"), options)
    with pytest.raises(UserError, match="a masked language model does not continue a text"):
        shared_metrics.check(load("roberta"), options)
    first = resolve(parse_trial({"metric.bbq": write(tmp_path, {})})).id
    assert resolve(parse_trial({"metric.bbq": write(tmp_path, {})})).id == first
    assert resolve(parse_trial({"metric.bbq": write(tmp_path, {}, {})})).id != first
    file = write(tmp_path, {})
    with pytest.raises(UserError, match="has changed since"):
        bbq.of_file(load("llama"), file, "other")
