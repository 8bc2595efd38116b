"""Adaptation by a prompt: which examples are drawn, what the model answers, and what is refused before a trial."""

from __future__ import annotations

import copy
import hashlib
from collections import Counter

import numpy as np
import pytest
import torch
from datasets import Dataset

from bias_transfer.errors import UserError
from bias_transfer.hashing import derive_seed
from bias_transfer.models.prompts import PromptFormat
from bias_transfer.spec import Trial
from bias_transfer.training import prompt, tuning
from bias_transfer.training.prompt import Asked

FORMS = PromptFormat("{text}?", ("good", "bad"), (("good", "Good", "kind"), ("bad", "BAD")), per_class=True)
WHOLE = PromptFormat("{text}:", ("the good dog", "a cat", "people"))
TEXTS = ["the cat sat", "a bad dog", "my neighbor is sad", "the", "the cat sat on the mat and looked at the old dog"]


def examples(labels: list[int]) -> Dataset:
    ids = [f"train:{number}" for number in range(len(labels))]
    return Dataset.from_dict({"id": ids, "text": [f"the dog {name}" for name in ids], "label": labels})


TRAIN = examples([0, 0, 0, 0, 1, 0, 1, 0, 0, 1, 0, 1, 2, 2, 0])


def asked(form: PromptFormat = FORMS, **options) -> Asked:
    return Asked(form, tuning.PromptOptions(**options))


def two(labels: list[int]) -> Dataset:
    return examples([min(label, 1) for label in labels])


PAIR = two(TRAIN["label"][:])


def by_hash(seed: int, ids, which: int) -> list[str]:
    """Ids in the order of a hash, by the standard library alone."""
    own = derive_seed(seed, "prompt")
    return sorted(ids, key=lambda name: hashlib.blake2b(f"{own}\0{which}\0{name}".encode(), digest_size=8).digest())


def drawn(load, train: Dataset, how: Asked, seed: int = 0) -> prompt.Shots:
    return prompt.draw(load("llama"), train, how, seed)


@pytest.mark.parametrize("seed", range(3))
def test_k_shots_of_each_class_are_those_with_the_lowest_hash(seed, load):
    shots = drawn(load, PAIR, asked(shots=2), seed)
    label = dict(zip(PAIR["id"][:], PAIR["label"][:], strict=True))
    order = by_hash(seed, label, 0)
    lowest = [name for wanted in (0, 1) for name in [name for name in order if label[name] == wanted][:2]]
    assert shots.ids == tuple(by_hash(seed, lowest, 1))
    assert shots.pairs == tuple((f"the dog {name}", FORMS.answers[label[name]]) for name in shots.ids)


def test_k_shots_in_all_are_each_of_another_class_and_the_lowest_hash_comes_first(load):
    label = dict(zip(TRAIN["id"][:], TRAIN["label"][:], strict=True))
    order = by_hash(0, label, 0)
    first = [next(name for name in order if label[name] == wanted) for wanted in (0, 1, 2)]
    for count in (0, 1, 2, 3):
        shots = drawn(load, TRAIN, asked(WHOLE, shots=count))
        assert {*shots.ids} == {*sorted(first, key=order.index)[:count]}
        assert max(Counter(answer for _, answer in shots.pairs).values(), default=1) == 1


def test_arms_share_the_shots_that_they_left_alone(load):
    how = asked(shots=2, shot_tokens=100)
    untreated = drawn(load, PAIR, how)
    gone, chosen = untreated.ids[1], untreated.ids
    others = [name for name in PAIR["id"][:] if name not in chosen][::2]
    assert drawn(load, PAIR.filter(lambda row: row["id"] not in others), how) == untreated
    left = drawn(load, PAIR.filter(lambda row: row["id"] != gone), how)
    assert (left.changed(untreated), untreated.changed(untreated)) == (1, 0)
    assert [name for name in left.ids if name in untreated.ids] == [name for name in untreated.ids if name != gone]
    edited = PAIR.map(lambda row: {"text": row["text"].replace("dog", "_") if row["id"] == gone else row["text"]})
    assert drawn(load, edited, how).ids == untreated.ids
    assert drawn(load, edited, how).changed(untreated) == 1
    copied = PAIR.map(lambda row: {"text": "the same"})
    assert drawn(load, copied, how).changed(drawn(load, copied.select(range(14)), how)) == 0
    assert drawn(load, copied, how).changed(untreated) == 4


def test_what_is_changed_behind_the_cut_is_not_seen(load):
    how = asked(shots=2, shot_tokens=2)
    longer = PAIR.map(lambda row: {"text": row["text"] + " and people"})
    shots = drawn(load, longer, how)
    assert {text for text, _ in shots.pairs} == {"the dog"}
    assert shots.changed(drawn(load, PAIR, how)) == 0


def trial(**fields) -> Trial:
    return Trial(**{"max_tokens": 12, "tuning": "prompt", **fields})


def classifier(model, how: Asked, train: Dataset = PAIR, **fields) -> prompt.Prompted:
    return prompt.prompted(model, prompt.build(model, train, how, trial(**fields)), trial(**fields), "cpu")


def next_token(model, row: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model.lm(torch.tensor([row]), use_cache=False).logits[0, -1].log_softmax(dim=-1)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_forms_are_scored_as_by_the_plain_forward_pass(family, load):
    model = load(family)
    how = asked(shots=2, shot_tokens=4)
    pairs = drawn(lambda _: model, PAIR, how).pairs
    before = "".join(f"{text}? {answer}\n\n" for text, answer in pairs)
    expected = []
    for text in TEXTS[:4]:  # which are no longer than max_tokens
        log_p = next_token(model, model.tokenizer(f"{before}{text}?")["input_ids"])
        expected.append([float(log_p[sorted(tokens)].logsumexp(0)) for tokens in firsts(model, f"{before}{text}?")])
    found = classifier(model, how).logits(TEXTS)
    np.testing.assert_allclose(found[:4], expected, atol=1e-4)
    assert found.dtype == np.float32
    assert np.ptp(found[:, 1] - found[:, 0]) > 0.01


def firsts(model, text: str) -> list[set[int]]:
    """Of each class the tokens that may follow the text."""
    start = len(model.tokenizer(text)["input_ids"])
    return [
        {model.tokenizer(f"{text}{lead}{form}")["input_ids"][start] for form in forms for lead in ("", " ")}
        for forms in FORMS.forms
    ]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_whole_answers_are_scored_by_their_mean_over_tokens(family, load):
    model = load(family)
    how = asked(WHOLE, shots=2, shot_tokens=4)
    before = "".join(f"{text}: {answer}\n\n" for text, answer in drawn(lambda _: model, TRAIN, how).pairs)
    expected = np.empty((4, 3))
    for place, text in enumerate(TEXTS[:4]):
        start = len(model.tokenizer(f"{before}{text}:")["input_ids"])
        for number, answer in enumerate(WHOLE.answers):
            row = model.tokenizer(f"{before}{text}: {answer}")["input_ids"]
            steps = [float(next_token(model, row[:end])[row[end]]) for end in range(start, len(row))]
            expected[place, number] = np.mean(steps)
    np.testing.assert_allclose(classifier(model, how, TRAIN).logits(TEXTS)[:4], expected, atol=1e-4)


def test_max_tokens_cuts_the_text_alone_and_texts_may_change_what_is_shared(load, monkeypatch):
    model, how = load("llama"), asked(shots=2, shot_tokens=4)
    whole = classifier(model, how, max_tokens=60).logits(TEXTS)
    cut = classifier(model, how).logits(TEXTS)
    np.testing.assert_allclose(cut[:4], whole[:4], atol=1e-4)
    assert abs(cut[4] - whole[4]).max() > 1e-3
    monkeypatch.setattr(prompt, "CHUNK", 2)
    np.testing.assert_allclose(classifier(model, how, max_tokens=60).logits(TEXTS), whole, atol=1e-4)
    alone = classifier(model, how, max_tokens=60)
    shorter = prompt.Prompted(model, alone.built, alone.beginning, alone.trial, "cpu")
    shorter.beginning.tokens[-1:] = [3]  # the last token before the text is read otherwise
    np.testing.assert_allclose(shorter.logits(TEXTS), whole, atol=1e-4)
    assert alone.logits([]).shape == (0, 2)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_no_weight_changes_and_the_same_prompt_gives_the_same_bits(precision, load):
    model, how = load("llama"), asked(shots=1)
    before = {name: value.clone() for name, value in model.lm.state_dict().items()}
    first = classifier(model, how, precision=precision).logits(TEXTS)
    torch.manual_seed(5)
    assert np.array_equal(classifier(model, how, precision=precision).logits(TEXTS), first)
    assert all(torch.equal(value, before[name]) for name, value in model.lm.state_dict().items())
    assert abs(classifier(model, how, precision=precision, seed=1).logits(TEXTS) - first).max() > 1e-3
    assert abs(classifier(model, asked(shots=0), precision=precision).logits(TEXTS) - first).max() > 1e-3


TEMPLATE = "{% for message in messages %}[{{ message['role'] }}]{{ message['content'] }}{% endfor %}"


def with_template(model, template: str):
    model.tokenizer = copy.deepcopy(model.tokenizer)
    model.tokenizer.chat_template = template
    return model


def test_the_chat_template_is_used_where_there_is_one(load):
    model = with_template(load("llama"), TEMPLATE)
    own, plain = (classifier(model, asked(shots=1, chat=chat)) for chat in ("auto", False))
    assert (prompt.facts(own.built, None)["prompt.chat"], prompt.facts(plain.built, None)["prompt.chat"]) == (
        True,
        False,
    )
    assert own.built.prompt.before.count("[assistant]") == 2
    assert plain.built.prompt.before.count("[assistant]") == 0
    whole = f"{own.built.prompt.before}{TEXTS[1]}{own.built.prompt.after}"
    log_p = next_token(model, model.tokenizer(whole)["input_ids"])
    expected = [float(log_p[sorted(tokens)].logsumexp(0)) for tokens in firsts(model, whole)]
    np.testing.assert_allclose(own.logits(TEXTS)[1], expected, atol=1e-4)
    assert abs(own.logits(TEXTS) - plain.logits(TEXTS)).max() > 1e-3


REFUSED = [
    (
        asked(shots=7),
        {},
        "7 examples of each class, and the training set, .* has 6 whose answer is 'bad'. Allowed: at most 6",
    ),
    (asked(shots=1, chat=True), {}, "the tokenizer of tiny has no chat template"),
    (
        asked(shots=6, shot_tokens=16),
        {},
        r"of max_tokens \(12\) the prompt has \d+ tokens, which exceeds the model's positions",
    ),
    (asked(shots=1), {"max_tokens": 120}, r"which exceeds the model's positions \(130\). Lower tuning.shots"),
]


@pytest.mark.parametrize(
    ("how", "fields", "message"), REFUSED, ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_cannot_be_asked_is_refused(how, fields, message, load):
    with pytest.raises(UserError, match=message):
        prompt.build(load("llama"), PAIR, how, trial(**fields))


def test_a_set_with_fewer_classes_than_shots_and_a_template_that_fails_are_refused(load):
    with pytest.raises(UserError, match="3 examples, each of another class, and .* has examples of 2 classes"):
        prompt.build(load("llama"), PAIR, asked(WHOLE, shots=3), trial())
    broken = with_template(load("llama"), "{{ raise_exception('no user') }}")
    with pytest.raises(
        UserError, match="tuning.chat: the model's chat template cannot be used: no user. Set chat: false"
    ):
        prompt.build(broken, PAIR, asked(shots=1), trial())


@pytest.mark.parametrize(
    ("content", "left_out"),
    [
        ("'Hello'", "the question"),
        ("message['content'].split('?')[0]", "the question"),
        ("message['content'] if loop.last else 'Yes'", "the question"),
        ("message['content'] if message['role'] == 'user' else ''", "the answer of an example"),
        ("message['content'] | upper", "the question"),
    ],
    ids=["all", "its end", "an example", "an answer", "rewritten"],
)
def test_a_chat_template_that_leaves_out_what_is_asked_is_refused(content, left_out, load):
    template = f"{{% for message in messages %}}[{{{{ message['role'] }}}}]{{{{ {content} }}}}{{% endfor %}}"
    with pytest.raises(UserError, match=f"cannot be used: it leaves out, or rewrites, {left_out} .*. Set chat: false"):
        prompt.build(with_template(load("llama"), template), PAIR, asked(shots=1), trial())
    trimmed = with_template(load("llama"), TEMPLATE.replace("['content']", "['content'] | trim"))
    assert prompt.build(trimmed, PAIR, asked(shots=1), trial()).chat


def test_the_model_must_be_causal_and_reuse_keys(load):
    tuning.check(load("llama"), tuning.PromptOptions())
    with pytest.raises(UserError, match="of the family 'bert', is masked. Allowed for it: full, frozen, lora"):
        tuning.check(load("bert"), tuning.PromptOptions())
