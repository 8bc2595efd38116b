"""WIKI's downstream bias, on predictions set by hand."""

from __future__ import annotations

import math
import time
from collections import Counter

import numpy as np
import pytest
from datasets import Dataset

from bias_transfer.spec import Measure
from bias_transfer.tasks.base import Predicted, Splits
from bias_transfer.tasks.wiki import probe_sets
from bias_transfer.tasks.wiki.bias import harm
from bias_transfer.tasks.wiki.identity_terms import TERMS
from bias_transfer.tasks.wiki.probe_sets import PhraseOptions

Found = dict[tuple[str, str, str], tuple[float, int]]


def said(examples: Dataset, margins: np.ndarray) -> Predicted:
    return Predicted(examples, np.stack([np.zeros(len(margins)), margins], axis=1).astype(np.float32))


def comments(texts: list[str], labels: list[int]) -> Dataset:
    return Dataset.from_dict({"id": [str(number) for number in range(len(texts))], "text": texts, "label": labels})


def answers(examples: Dataset) -> np.ndarray:
    """Margins: 3 for phrases that are toxic or name "gay", else -3."""
    return np.where(np.array(examples["label"][:]) | (np.array(examples["term"][:]) == "gay"), 3.0, -3.0)


@pytest.fixture(scope="module")
def predicted() -> dict[str, Predicted]:
    """A classifier that calls a phrase toxic if it is or if it names "gay", and also a tenth of the innocuous neutral phrases.

    Of 200 natural comments without a term it calls 20 toxic, and of 12 + 10 with "gay" every one; on dev its margins err
    alike at 5.
    """
    phrases, neutral = probe_sets.phrases(), probe_sets.neutral()
    innocuous = np.array(neutral["label"][:]) == 0
    tenth = innocuous & (np.cumsum(innocuous) <= 454)
    test = comments(["no"] * 200 + ["so gay"] * 22 + ["deaf"], [0] * 200 + [0] * 12 + [1] * 10 + [0])
    natural = np.concatenate([np.repeat([1.0, -1.0], [20, 180]), np.full(22, 2.0), [-2.0]])
    return {
        "phrases": said(phrases, answers(phrases)),
        "neutral": said(neutral, np.where(tenth, 1.0, -1.0)),
        "test": said(test, natural),
        "dev": said(comments(list("abcd"), [0, 0, 1, 1]), np.array([1.0, 4.0, 6.0, 7.0])),
    }


def read(measures: list[Measure]) -> Found:
    keys = [(row.metric, row.group, row.template) for row in measures]
    assert max(Counter(keys).values()) == 1
    return {key: (row.value, row.n) for key, row in zip(keys, measures, strict=True)}


@pytest.fixture(scope="module")
def found(predicted) -> Found:
    return read(harm(predicted, PhraseOptions()))


def test_the_term_that_is_treated_badly_is_found(found):
    pooled = {group: value for (metric, group, template), value in found.items() if metric == "fpr" and not template}
    assert set(pooled) == {*TERMS, ""}
    assert pooled.pop("gay") == (1, 757)
    assert pooled.pop("") == (757 / 38_282, 38_282)
    assert set(pooled.values()) == {(0, 757)}
    assert found["fnr", "gay", ""] == (0, 757)
    assert found["fpr_families", "gay", ""] == (1, 752)
    assert found["logit_gap", "gay", ""] == (6, 757)
    assert found["logit_gap", "deaf", ""] == (0, 757)


def test_rates_per_family_have_their_own_n(found):
    families = {key[2]: n for key, (_, n) in found.items() if key[:2] == ("fpr", "deaf")}
    assert families == {"": 757, "name_adj": 720, "being_adj": 16, "you_are_adj": 16, "verb_adj": 4, "am_hate_adj": 1}
    assert found["fpr", "", "no_term"] == (0, 432)
    assert found["neutral_fpr", "", "name_adj"][1] == 6 * 720


def test_the_four_denominators(found):
    assert found["neutral_fpr", "", ""] == (454 / 4542, 4542)
    assert found["natural_fpr", "", "no_term"] == (0.1, 200)
    assert found["natural_fpr", "", ""] == (32 / 213, 213)
    own = math.log(757.5 / 757.5)
    expected = {
        "": math.log(0.5 / (49 * 757 + 0.5)),
        "_occupation": math.log(0.5 / 432.5),
        "_neutral": math.log(454.5 / 4542.5),
        "_natural": math.log(20.5 / 200.5),
    }
    for name, base in expected.items():
        assert found[f"log_fpr_ratio{name}", "gay", ""] == (pytest.approx(own - base), 757)
    assert found["log_fpr_ratio_natural", "deaf", ""][0] == pytest.approx(math.log(0.5 / 757.5) - expected["_natural"])


def test_the_logit_gap_to_neutral_words(found):
    assert found["logit_gap_neutral", "deaf", ""] == (pytest.approx(-3 - (454 * 1 - 4088) / 4542), 757)


def test_the_equality_differences(found):
    overall = 757 / 38_282
    assert found["fped", "", ""] == (pytest.approx(1 - overall + 49 * overall), 38_282)
    assert found["fned", "", ""] == (0, 38_282)


def test_the_dev_sets_threshold(found):
    """At 5 no phrase is called toxic."""
    assert found["eer_threshold", "", ""] == (5, 4)
    assert found["eer", "", ""] == (0, 4)
    assert found["fpr_eer", "gay", ""] == (0, 757)
    assert found["fnr_eer", "gay", ""] == (1, 757)
    assert found["fped_eer", "", ""] == (0, 38_282)
    assert found["natural_fpr_eer", "gay", ""] == (0, 12)
    assert found["fpr_families_eer", "gay", ""] == (0, 752)
    assert found["log_fpr_ratio_neutral_eer", "gay", ""][0] == pytest.approx(math.log(4542.5 / 757.5))


def test_natural_comments_by_term(found):
    assert found["natural_fpr", "gay", ""] == (1, 12)
    assert found["natural_fnr", "gay", ""] == (0, 10)
    assert found["natural_fpr", "deaf", ""] == (0, 1)
    assert found["natural_fnr", "deaf", ""][1] == 0
    assert found["natural_subgroup_auc", "gay", ""] == (0.5, 22)
    assert found["natural_bnsp_auc", "gay", ""] == (1, 10)
    assert found["natural_negative_aeg", "gay", ""] == (0.5, 12)
    for name in ("subgroup_auc", "bpsn_auc", "bnsp_auc", "positive_aeg", "negative_aeg"):
        assert math.isnan(found[f"natural_{name}", "deaf", ""][0])


def test_ranks_see_the_term(found):
    assert found["bpsn_auc", "gay", ""] == (0.5, 757)
    assert found["bpsn_auc", "deaf", ""][0] == 1
    assert found["subgroup_auc", "gay", ""] == (0.5, 1514)
    assert found["negative_aeg", "gay", ""] == (0.5, 757)
    assert found["negative_aeg", "deaf", ""][0] == pytest.approx(-0.5 * 757 / (38_282 - 757))
    assert found["positive_aeg", "deaf", ""][0] == 0


def test_probabilities_see_the_term(found):
    high = 1 / (1 + math.exp(-3))
    assert found["calibration_gap", "gay", ""] == (pytest.approx(high - 0.5), 1514)
    assert found["calibration_gap", "deaf", ""] == (pytest.approx(0), 1514)
    assert found["calibration_error", "deaf", ""][0] == pytest.approx(1 - high)
    assert found["calibration_gap", "", ""][1] == 76_564
    assert found["natural_calibration_gap", "", ""][1] == 223


def test_missing_values_are_nan_with_n_0_and_no_value_is_infinite(predicted):
    """A dev set with one class, and a test set in which every comment mentions a term."""
    without = {
        "dev": said(comments(["a"], [0]), np.zeros(1)),
        "test": said(comments(["so gay"] * 3, [0, 0, 1]), np.zeros(3)),
    }
    found = read(harm({**predicted, **without}, PhraseOptions()))
    assert all(math.isfinite(value) or (math.isnan(value) and n == 0) for value, n in found.values())
    at_dev = {key: value for key, value in found.items() if key[0].endswith("_eer") or key[0].startswith("eer")}
    assert len(at_dev) > 500
    assert all(math.isnan(value) for value, _ in at_dev.values())
    assert math.isnan(found["log_fpr_ratio_natural", "gay", ""][0])
    assert found["fpr", "gay", ""] == (1, 757)


@pytest.mark.parametrize("per_term", [40, 100])
def test_with_fewer_phrases_only_the_logarithms_may_be_missing(predicted, per_term):
    """They need 100. Whatever else the whole set gives of a term or of no term, a part of it gives too."""
    few = probe_sets.probes(Splits(*[None] * 3, (), ()), PhraseOptions(phrases_per_term=per_term))
    sets = {name: said(examples, answers(examples)) for name, examples in few.items()}
    whole, found = (read(harm(each, PhraseOptions())) for each in (predicted, {**predicted, **sets}))
    pooled = {key for key, (value, _) in whole.items() if key[2] in ("", "no_term") and not math.isnan(value)}
    lost = {metric for metric, group, template in pooled if math.isnan(found[metric, group, template][0])}
    assert lost == (LOGS if per_term < 100 else set())
    assert found["fpr", "gay", ""] == (1, per_term)
    assert found["fpr_families", "gay", ""] == (1, {40: 38, 100: 95}[per_term])
    assert found["logit_gap", "gay", ""] == (6, per_term)
    assert found["subgroup_auc", "gay", ""] == (0.5, per_term + per_term // 4)


LOGS = {f"log_fpr_ratio{base}{point}" for base in ("", "_occupation", "_neutral", "_natural") for point in ("", "_eer")}


def test_a_classifier_without_a_bias_shows_none(predicted):
    phrases = predicted["phrases"].examples
    fair = said(phrases, np.where(np.array(phrases["label"][:]) == 1, 3.0, -3.0))
    found = read(harm({**predicted, "phrases": fair}, PhraseOptions()))
    for metric in ("fpr", "fnr", "logit_gap", "negative_aeg", "positive_aeg"):
        assert {found[metric, term, ""][0] for term in TERMS} == {0}
    assert len({found["log_fpr_ratio", term, ""] for term in TERMS}) == 1
    assert found["fped", "", ""][0] == found["fned", "", ""][0] == 0


def test_the_measures_take_little_time(predicted):
    """Every trial waits for them; a pass over the phrases for each term would take many times as long."""
    harm(predicted, PhraseOptions())
    start = time.process_time()
    harm(predicted, PhraseOptions())
    assert time.process_time() - start < 3
