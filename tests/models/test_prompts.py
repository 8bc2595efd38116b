"""Prompts as they are written, in plain form and by a chat template; what of an answer is scored, known by hand."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from bias_transfer.errors import UserError
from bias_transfer.models import prompts, start_token
from bias_transfer.models.prompts import Answers, PromptFormat
from bias_transfer.tasks import registry
from bias_transfer.tasks.registry import TASKS

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_task" / "board.yaml"
WIKI, BIOS = TASKS["wiki"].asks, TASKS["bios"].asks
SHOTS = [("Get lost.", "yes"), ("A {text}\n\nthanks", "no")]

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}[{{ message['role'] }}]{{ message['content'] | trim }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{{ strftime_now('%Y') }}:{% endif %}"
)


@pytest.fixture
def causal(tokenizer):
    """A causal model's tokenizer, whose start token is <s>."""
    own = copy.deepcopy(tokenizer)
    start_token.put(own, None, len(own))
    return own


def test_a_plain_prompt_has_answered_questions_then_the_question():
    prompt = prompts.plain(WIKI, SHOTS)
    assert prompt.before + "Hello {you}" + prompt.after == (
        "Comment: Get lost.\nIs the comment above toxic? Answer: yes\n\n"
        "Comment: A {text}\n\nthanks\nIs the comment above toxic? Answer: no\n\n"
        "Comment: Hello {you}\nIs the comment above toxic? Answer:"
    )
    prompt = prompts.plain(BIOS, [("She sings.", "DJ")])
    assert prompt.before + "He types." + prompt.after == (
        "Biography: She sings.\nOccupation: DJ\n\nBiography: He types.\nOccupation:"
    )
    assert "interior designer" in BIOS.answers
    assert prompts.plain(WIKI, []).before == "Comment: "
    custom = registry.find(str(EXAMPLE))[0]
    assert custom.asks.answers == custom.labels
    prompt = prompts.plain(custom.asks, [("So {kind}.", custom.labels[1])])
    assert (
        prompt.before + "Hello" + prompt.after
        == f"Text: So {{kind}}.\nClass: {custom.labels[1]}\n\nText: Hello\nClass:"
    )


def test_a_chat_has_the_shots_as_turns_and_one_start_token_and_no_date_of_today(causal):
    causal.chat_template = TEMPLATE
    prompt = prompts.chat(causal, WIKI, SHOTS)
    assert prompt.before + "Hello" + prompt.after == (
        "[user]Comment: Get lost.\nIs the comment above toxic? Answer:\n[assistant]yes\n"
        "[user]Comment: A {text}\n\nthanks\nIs the comment above toxic? Answer:\n[assistant]no\n"
        "[user]Comment: Hello\nIs the comment above toxic? Answer:\n[assistant]26 Jul 2024:"
    )
    (row,) = prompt.rows(causal, ["Hello"])
    assert row[0] == causal.bos_token_id
    assert row.count(causal.bos_token_id) == 1


def test_a_text_is_cut_between_its_tokens(causal):
    texts = ["the good old dog sat", "the", "é" * 40]
    assert prompts.cut(causal, texts, 2)[:2] == ["the good", "the"]
    assert prompts.cut(causal, texts, 100) == texts
    for text in prompts.cut(causal, texts, 3):
        assert len(causal(text, add_special_tokens=False)["input_ids"]) <= 4  # the last character may be two tokens
    assert prompts.cut(causal, [], 3) == []


def pieces(tokenizer, answers: Answers) -> list[list[str]]:
    return [["".join(tokenizer.convert_ids_to_tokens(answers.tails[tail])) for tail in own] for own in answers.classes]


def test_forms_are_scored_by_their_first_tokens_equal_ones_once_and_shared_ones_never(causal):
    form = PromptFormat("{text}:", ("bad", "good"), (("bad", "BAD", "sat"), ("good", "sat", "Good")))
    found = prompts.answers(causal, prompts.plain(form, []), form)
    first = {text: causal.convert_ids_to_tokens(causal(f"a:{text}")["input_ids"])[3] for text in ("bad", "good")}
    assert pieces(causal, found) == [[first["bad"], "Ġbad"], [first["good"], "Ġgood"]]
    assert found.replaced == 0
    form = PromptFormat("{text}:", ("sat", "Sat"), (("sat",), ("Sat",)))
    with pytest.raises(UserError, match="begins all forms of the answers sat and Sat alike"):
        prompts.answers(causal, prompts.plain(form, []), form)


def test_whole_answers_are_read_in_their_place(causal):
    form = PromptFormat("{text}:", ("the good dog", "cat"))
    plain = prompts.answers(causal, prompts.plain(form, []), form)
    assert pieces(causal, plain) == [["ĠtheĠgoodĠdog"], ["Ġcat"]]
    causal.chat_template = TEMPLATE
    assert pieces(causal, prompts.answers(causal, prompts.chat(causal, form, []), form)) == [["theĠgoodĠdog"], ["cat"]]


@pytest.mark.parametrize(("names", "message"), [(("Dog", "dog"), "'Dog' as the same tokens as that of another class")])
def test_answers_that_cannot_be_told_apart_are_refused(names, message, causal):
    form = PromptFormat("{text}:", names)
    with pytest.raises(UserError, match=message):
        prompts.answers(causal, prompts.plain(form, []), form)


@pytest.fixture
def merging():
    """A tokenizer without words, which reads ":y" as one token and knows no "z"."""
    vocabulary = {piece: number for number, piece in enumerate(("?", "a", ":", "y", "n", " ", ":y"))}
    model = models.BPE(vocabulary, [(":", "y")], unk_token="?")
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), unk_token="?")


def test_an_answer_that_is_read_together_with_the_prompts_end_replaces_it(merging):
    form = PromptFormat("{text}:", ("no", "yes"), (("n",), ("y",)))
    found = prompts.answers(merging, prompts.plain(form, []), form)
    assert found.replaced == 1
    assert pieces(merging, found) == [[":n"], [":y"]]  # a space alone would begin both
    with pytest.raises(UserError, match="no entry for a part of the answer 'z'"):
        prompts.answers(merging, prompts.plain(form, []), PromptFormat("{text}:", ("n", "z")))


def test_logits_by_hand():
    beginnings = Answers(0, [[1], [2], [3]], [[0, 1], [2]], whole=False)
    found = beginnings.logits(np.log([[0.1, 0.2, 0.4]]))
    np.testing.assert_allclose(found, np.log([[0.3, 0.4]]), rtol=1e-6)
    whole = Answers(0, [[1], [2, 3]], [[0], [1]], whole=True)
    np.testing.assert_allclose(whole.logits(np.array([[-2.0, -3.0]])), [[-2.0, -1.5]])
