"""CBS: zero for a model that treats all groups alike, the variance by hand, and its scores against a plain loop."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bias_transfer.metrics import categorical_bias as cbs
from bias_transfer.models import language_model
from bias_transfer.tasks.bios.task import BIOS
from bias_transfer.tasks.wiki.identity_terms import CATEGORIES, TERMS

CATEGORY = {"pets": {"cats": "cat", "dogs": "dog", "men": "old man"}, "two": {"a": "person", "b": "people"}}
TEMPLATES = ("The {group} is {mask}.", "{group}, said my {mask} neighbor, is here")
WORDS = ("bad", "terribly")


def answering(scores: dict[str, list[list[float]]]) -> SimpleNamespace:
    """template -> (names, words)."""

    def associations(template, names, words):
        return np.array(scores[template])[: len(names)]

    return SimpleNamespace(head=SimpleNamespace(associations=associations))


def measured(model, words=WORDS, categories=CATEGORY):
    rows = cbs.categorical_bias(model, words, categories, TEMPLATES)
    return {(row.metric, row.group, row.template): (row.value, row.n) for row in rows}


def test_the_mean_variance_by_hand():
    """Sample variances over three groups: 1 and 4, then 0 and 7/3; over the first two: .5 and 2, 0 and .5."""
    found = measured(answering({TEMPLATES[0]: [[1, 2], [2, 4], [3, 6]], TEMPLATES[1]: [[5, 1], [5, 2], [5, 4]]}))
    assert found["cbs", "pets", TEMPLATES[0]] == (pytest.approx(2.5), 6)
    assert found["cbs", "pets", TEMPLATES[1]] == (pytest.approx(7 / 6), 6)
    assert found["cbs", "pets", ""] == (pytest.approx((2.5 + 7 / 6) / 2), 12)
    assert found["cbs", "two", ""] == (pytest.approx((1.25 + 0.25) / 2), 8)
    assert found["cbs_attribute", "", "bad"] == (pytest.approx((1 + 0 + 0.5 + 0) / 4), 10)
    assert {template for metric, _, template in found if metric == "cbs_attribute"} == {*WORDS}


def test_a_model_that_treats_all_groups_alike_has_none_whatever_it_prefers():
    found = measured(answering({template: [[-3, 7]] * 3 for template in TEMPLATES}))
    assert {value for value, _ in found.values()} == {0}


def test_what_is_not_finite_is_missing_and_a_template_that_cannot_be_asked_is_left_out():
    unasked = [[math.nan] * 2] * 3
    found = measured(answering({TEMPLATES[0]: [[1, 2], [2, 4], [3, 6]], TEMPLATES[1]: unasked}))
    assert found["cbs", "pets", ""] == (pytest.approx(2.5), 6)
    assert math.isnan(found["cbs", "pets", TEMPLATES[1]][0])
    found = measured(answering({template: [[1, -math.inf], [2, 0], [3, 0]] for template in TEMPLATES}))
    assert all(math.isnan(found[key][0]) and found[key][1] == 0 for key in found if key[0] == "cbs")
    assert found["cbs_attribute", "", "bad"][1] == 10
    assert all(n == 0 for _, n in measured(answering(dict.fromkeys(TEMPLATES, unasked))).values())
    assert all(n == 0 for _, n in measured(answering({template: [] for template in TEMPLATES}), ()).values())


def told_and_prior(model, template: str, name: str, word: str) -> float:
    """ln p(name's pieces at as many masks | the word) - the same with the word masked as well: one text at a time."""
    text = template.replace("{group}", name[:1].upper() + name[1:] if template.startswith("{group}") else name)
    text = text.replace("{mask}", word)
    whole = model.tokenizer(text, return_offsets_mapping=True)

    def places(part: str) -> list[int]:
        start = text.lower().index(part.lower())
        spaced = len(text[:start].rstrip())  # the space before a word may be a token of its own, which belongs to it
        return [n for n, (a, b) in enumerate(whole["offset_mapping"]) if a < start + len(part) and b > spaced]

    values = []
    for hidden in (places(name), [*places(name), *places(word)]):
        row = torch.tensor([whole["input_ids"]])
        row[0, hidden] = model.tokenizer.mask_token_id
        with torch.no_grad():
            log_p = model.lm.eval()(row).logits[0].double().log_softmax(-1)
        values.append(sum(float(log_p[place, whole["input_ids"][place]]) for place in places(name)))
    return values[0] - values[1]


@pytest.mark.parametrize("family", language_model.FAMILIES)
def test_masked_models_against_a_plain_loop(family, load):
    """Names of one token and of several, which have as many masks."""
    model, names = load(family), ["cat", "dog", "old man"]
    for template in TEMPLATES:
        found = model.head.associations(template, names, WORDS)
        expected = [[told_and_prior(model, template, name, word) for word in WORDS] for name in names]
        assert found == pytest.approx(np.array(expected), abs=1e-5)
        assert abs(found).max() > 0.01


def test_causal_models_are_asked_for_the_attribute_which_has_the_same_variance(load):
    """By Bayes' theorem ln p(word | name) = ln p(name | word) - ln p(name) + ln p(word), and the last does not depend on the
    name: in a joint distribution, made by hand, both variances are equal."""
    joint = np.random.default_rng(1).dirichlet(np.ones(12)).reshape(4, 3)
    forward = np.log(joint / joint.sum(axis=1, keepdims=True))
    backward = np.log(joint / joint.sum(axis=0)) - np.log(joint.sum(axis=1, keepdims=True))
    assert forward.var(axis=0, ddof=1) == pytest.approx(backward.var(axis=0, ddof=1))
    model = load("gpt2")
    found = model.head.associations("{group} is {mask}.", ["cat", "old man"], WORDS)
    expected = np.log(model.head.word_probabilities(["Cat is {mask}", "Old man is {mask}"], WORDS))
    assert found == pytest.approx(expected)
    assert np.isnan(model.head.associations("A {mask} thing of the {group}", ["cat"], WORDS)).all()


def test_attributes_are_adjectives_of_one_token_with_a_verdict(load, tokenizer):
    chosen = cbs.attributes(SimpleNamespace(get_vocab=lambda: {f"▁{word}": n for n, word in enumerate(
        ("sad", "gentle", "happy", "tragic", "table", "died", "love", "friend", "sadly", "kind", "terrible")
    )}))  # fmt: skip
    assert {*chosen} == {"sad", "gentle", "happy", "tragic", "kind", "terrible", "love", "friend"}
    assert "bad" in cbs.attributes(tokenizer)


def test_every_term_is_in_one_category_and_names_are_known():
    assert sorted(term for terms in CATEGORIES.values() for term in terms) == sorted(TERMS)
    assert min(map(len, CATEGORIES.values())) > 2
    words = BIOS.upstream[-1].args[0]
    assert {*words.categories["occupation"]} == {*words.names("masked")}
