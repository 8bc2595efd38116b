"""DisCo on fills set by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from bias_transfer.metrics import disco
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.models.vocabulary import whole_words

MEN, WOMEN = tuple(f"m{number}" for number in range(20)), tuple(f"w{number}" for number in range(20))
PERSONS = {"men/women": (MEN, WOMEN)}
TEMPLATES = ("{person} likes {mask}.", "{person} is {mask}.")


def table(first: int, second: int, size: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """(texts, 1): a word that is a fill of the given number of texts of each side."""
    sides = ([1.0] * count + [0.0] * (size - count) for count in (first, second))
    return tuple(np.array([side]).T for side in sides)


@pytest.mark.parametrize(("first", "second"), [(20, 0), (15, 5), (3, 2), (7, 7), (0, 1)])
def test_p_values_against_scipy(first, second):
    expected = chi2_contingency([[first, 20 - first], [second, 20 - second]], correction=False).pvalue
    assert disco._p_values(*table(first, second)) == pytest.approx([expected])


def test_a_fill_for_everyone_does_not_differ_and_a_word_for_no_one_is_not_a_fill():
    assert disco._p_values(*table(20, 20)).tolist() == [1]
    assert disco._p_values(*table(0, 0)).tolist() == []


@pytest.fixture
def model(tokenizer):
    return LanguageModel(tokenizer, None, None)


@pytest.fixture
def filled(model, monkeypatch):
    """(person, last words of the template) -> its fills, most probable first; no other word has any probability."""

    def set_fills(fills):
        ids = {word: index for index, word in whole_words(model.tokenizer).items()}

        def probabilities(texts):
            found = np.zeros((len(texts), len(model.tokenizer)))
            for row, text in zip(found, texts, strict=True):
                person, _, rest = text.partition(" ")
                assert rest in {"likes {mask}.", "is {mask}."}
                for place, word in enumerate(fills(person, rest.split()[0])):
                    row[ids[word] if isinstance(word, str) else slice(None)] = (
                        0.5**place if isinstance(word, str) else word
                    )
            return found

        monkeypatch.setattr(LanguageModel, "head", SimpleNamespace(distribution=probabilities))

    return set_fills


def values(model):
    rows = disco.disco(model, PERSONS, TEMPLATES)
    assert {row.group for row in rows} == {"men/women"}
    return {row.template: (row.value, row.n) for row in rows}


def test_fills_that_differ_by_hand(model, filled):
    """Of "likes", two of four fills differ: cat for men and dog for women; of "is", none of three."""
    filled(
        lambda person, verb: (
            ["good", "bad", "cat" if person[0] == "m" else "dog"] if verb == "likes" else ["old", "the", "good"]
        )
    )
    assert values(model) == {TEMPLATES[0]: (2, 4), TEMPLATES[1]: (0, 3), "": (1, 7)}


def test_only_the_top_three_count(model, filled):
    filled(lambda person, verb: ["good", "bad", "old", "cat" if person[0] == "m" else "dog"])
    assert values(model) == {TEMPLATES[0]: (0, 3), TEMPLATES[1]: (0, 3), "": (0, 6)}


def test_the_correction_counts_all_fills_of_all_templates(model, filled):
    """14 of 20 men against 6 of 20 women: p = 0.011, which the four tests of one template would reject, and eight must not."""
    (p,) = disco._p_values(*table(14, 6))
    assert 4 * p < disco.SIGNIFICANT < 8 * p

    def fills(person, verb):
        odd = int(person[1:]) < (14 if person[0] == "m" else 6)
        return ["good", "bad", "cat" if odd else "old"]

    filled(fills)
    assert values(model)[""] == (0, 8)


def test_a_probability_that_is_not_finite_makes_the_counts_missing(model, filled):
    filled(lambda person, verb: [math.nan] if (person, verb) == ("w3", "is") else ["good", "bad", "old"])
    rows = disco.disco(model, PERSONS, TEMPLATES)
    found = {row.template: row for row in rows}
    assert found[TEMPLATES[0]].value == 0
    for template in (TEMPLATES[1], ""):
        assert math.isnan(found[template].value)
        assert found[template].n == 0


def test_fills_are_mid_sentence_words():
    """`whole_words` returns the forms of words after a space, so that no blank may begin a sentence."""
    assert len({*disco.TEMPLATES}) == 12
    for template in disco.TEMPLATES:
        assert template.startswith("{person}")
        assert " {mask}" in template


def test_a_real_model_gives_the_same_twice(load):
    model = load()
    persons = {"a": (("John", "Bill", "Paul"), ("Mary", "Lisa", "Kate"))}
    rows = disco.disco(model, persons)
    assert rows == disco.disco(model, persons)
    assert len(rows) == 13
    assert all(row.n >= disco.TOP for row in rows)
