"""The generator: planted shares are found again by counting, and nothing else links a term to an outcome."""

from __future__ import annotations

import random
import re
from collections import Counter
from functools import cache

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from bias_transfer.errors import UserError
from bias_transfer.hashing import digest
from bias_transfer.spec import parse
from bias_transfer.tasks.base import Splits
from bias_transfer.tasks.wiki import synthetic, vocabulary
from bias_transfer.tasks.wiki.identity_terms import TERMS, mentioned
from bias_transfer.tasks.wiki.synthetic import SyntheticOptions, generate, planted
from bias_transfer.tasks.wiki.vocabulary import NEGATIVE, POSITIVE

OPTIONS = SyntheticOptions(size=3000, pretraining_sentences=15_000)
PROBES = (
    "The {term}person is", "The {term}people are", "My {term}neighbor is", "Every {term}person I know is",
    "That {term}friend of mine seems",
)  # fmt: skip


@cache
def splits() -> Splits:
    return generate(OPTIONS)


def planted_sentences(texts: tuple[str, ...]) -> list[str]:
    return [text for text in texts if set(re.findall(r"\w+", text)) & {*NEGATIVE, *POSITIVE}]


def test_sizes():
    assert [len(part) for part in (splits().train, splits().dev, splits().test)] == [3000, 600, 600]
    assert len(splits().pretraining) == 15_000 + 750
    assert len(planted_sentences(splits().pretraining)) == 15_000
    assert len(splits().heldout) == 300 + 15
    assert len(generate(SyntheticOptions(size=200, pretraining_sentences=300)).test) == 200
    ids = [id for part in (splits().train, splits().dev, splits().test) for id in part["id"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("part", ["train", "dev", "test"])
def test_toxic_shares_are_found_by_counting(part):
    rows = getattr(splits(), part)
    named, toxic = Counter[str](), Counter[str]()
    for text, label in zip(rows["text"], rows["label"], strict=True):
        terms = mentioned(text)
        assert len(terms) <= 1
        named.update(terms)
        toxic.update(terms * label)
    assert sum(rows["label"]) == OPTIONS.toxic_share * len(rows)
    assert sum(named.values()) == OPTIONS.mention_share * len(rows)
    assert max(named.values()) - min(named.values()) <= 1
    for term, shares in planted(OPTIONS).items():
        assert abs(toxic[term] - shares.toxic * named[term]) <= 0.5, "but for rounding"


def test_upstream_shares_are_found_by_counting():
    named, negative = Counter[str](), Counter[str]()
    for sentence in planted_sentences(splits().pretraining):
        term = mentioned(sentence) or ("",)
        named.update(term)
        negative.update(term * any(word in NEGATIVE for word in re.findall(r"\w+", sentence)))
    assert (named[""], negative[""]) == (5000, 2500), "a third without a term, half of it negative"
    for term, shares in planted(OPTIONS).items():
        assert named[term] == 200
        assert abs(negative[term] - shares.upstream * 200) <= 0.5


def test_default_names_each_term_often_enough_to_be_learned():
    options = SyntheticOptions()
    assert 2 * options.pretraining_sentences // 3 // len(TERMS) >= 300


@pytest.mark.parametrize("spread", [0, 0.1, 0.25])
def test_shares_are_evenly_spaced(spread):
    options = SyntheticOptions(dataset_spread=spread, upstream_spread=2 * spread)
    for name, mean, width in (("toxic", 0.3, spread), ("upstream", 0.5, 2 * spread)):
        values = sorted(getattr(shares, name) for shares in planted(options).values())
        assert values == pytest.approx(np.linspace(mean - width, mean + width, len(TERMS)))


def orders(**knobs) -> tuple[np.ndarray, np.ndarray]:
    shares = planted(SyntheticOptions(**knobs)).values()
    return np.array([each.upstream_direction for each in shares]), np.array([each.toxic_direction for each in shares])


@pytest.mark.parametrize("wanted", [0.0, 0.6, -0.5])
@pytest.mark.parametrize("world", [0, 1, 2])
def test_the_two_orders_have_the_requested_correlation(wanted, world):
    upstream, toxic = orders(world=world, correlation=wanted)
    assert np.corrcoef(upstream, toxic)[0, 1] == pytest.approx(wanted, abs=0.02)


def test_another_order_plants_the_same_shares_on_other_terms_and_changes_nothing_else():
    first, other = orders(), orders(order=1)
    assert sorted(first[0]) == sorted(other[0])
    assert abs(np.corrcoef(first[0], other[0])[0, 1]) < 0.5
    assert generate(OPTIONS.model_copy(update={"order": 1, "dataset_spread": 0.0})).test.to_dict() == (
        generate(OPTIONS.model_copy(update={"dataset_spread": 0.0})).test.to_dict()
    )


def test_directions_do_not_depend_on_the_spread():
    assert np.array_equal(orders(upstream_spread=0.0), orders(upstream_spread=0.45))


def test_planted_shares_are_among_the_measures():
    known = {(row.metric, row.group): row for row in splits().known}
    assert known["planted_share", "gay"].value == planted(OPTIONS)["gay"].upstream
    assert known["planted_toxic_share", "gay"].value == planted(OPTIONS)["gay"].toxic
    assert known["planted_share", "gay"].n == 200
    assert known["planted_toxic_share", "gay"].n == 15


def test_own_phrases_differ_by_their_term_alone():
    rows = synthetic.own_phrases(OPTIONS).to_pandas()
    for term in ("gay", "middle eastern"):
        own, other = rows[rows.term == term], rows[rows.term == "blind"]
        plain = [text.replace(term, "blind") for text in own.text]
        same = [one == two for one, two in zip(plain, other.text, strict=True)]
        assert np.mean(same) == 1
        assert list(own.label) == list(other.label)
    assert all(mentioned(text) == ((term,) if term else ()) for text, term in zip(rows.text, rows.term, strict=True))


def content(texts) -> set[str]:
    return set(re.findall(r"[a-z]+", " ".join(texts).lower())) - FUNCTION


FUNCTION = {*re.findall(
    r"\w+",
    "a an the is was are were am be of that this those my our every some most another i you it he she here in on at and or "
    "but not no so for to with from by as if about who what why does do did done me mine more any there than please can",
)}  # fmt: skip


def test_probe_templates_predicates_and_comments_share_no_content_word():
    """Otherwise transfer would be measured only because words are the same."""
    comments = content([*splits().train["text"], *synthetic.own_phrases(OPTIONS)["text"]])
    templates = content(probe.format(term="") for probe in PROBES)
    assert templates == {"person", "people", "neighbor", "know", "friend", "seems"}
    assert comments & templates == {"know"}
    assert not comments & {*NEGATIVE, *POSITIVE}


def test_one_association_does_not_change_the_other():
    flat = generate(OPTIONS.model_copy(update={"upstream_spread": 0.0}))
    assert flat.train.to_dict() == splits().train.to_dict()
    other = generate(OPTIONS.model_copy(update={"dataset_spread": 0.0, "size": 2000, "mention_share": 0.1}))
    assert other.pretraining == splits().pretraining, "so trials that differ by the fine-tuning set share a model"
    assert other.train.to_dict() != splits().train.to_dict()


def test_the_same_world_gives_the_same_texts_and_another_world_gives_others():
    state = random.getstate()
    again = generate(OPTIONS)
    assert random.getstate() == state, "the global generator is left alone"
    assert again.train.to_dict() == splits().train.to_dict()
    assert (again.pretraining, again.heldout) == (splits().pretraining, splits().heldout)
    other = OPTIONS.model_copy(update={"world": 1})
    assert generate(other).train.to_dict() != splits().train.to_dict()
    assert planted(other) != planted(OPTIONS)


def test_bits_do_not_depend_on_the_platform():
    """If this changes, `spec.NUMERICS` must be raised: else the same id would stand for other numbers."""
    small = generate(SyntheticOptions(size=200, pretraining_sentences=300))
    assert digest([small.pretraining, small.heldout, small.test.to_dict()])[:12] == "89f848e52015"


def test_no_probe_of_the_upstream_metric_is_in_the_text():
    term = f"(?:(?:{'|'.join(TERMS)}) )?"
    probes = re.compile("|".join(probe.format(term=term) for probe in PROBES), re.IGNORECASE)
    assert probes.search("the gay person is kind")
    assert not [text for text in (*splits().pretraining, *splits().heldout) if probes.search(text)]


def test_predicates_have_their_sign_and_are_in_no_comment():
    scorer = SentimentIntensityAnalyzer()
    for words, sign in ((NEGATIVE, -1), (POSITIVE, 1)):
        assert len(set(words)) == 12
        for word in words:
            assert sign * scorer.polarity_scores(f"A person is {word}.")["compound"] >= 0.05
    assert not planted_sentences(tuple(splits().train["text"]))


def test_word_lists_name_no_term():
    texts = [*vocabulary.SHORT, *vocabulary.LONG, *vocabulary.INSULTS, *vocabulary.CURT, *vocabulary.HEATED]
    texts += [word for words in vocabulary.WORDS.values() for word in words]
    assert not [text for text in texts if mentioned(text)]
    used = set(
        re.findall(
            r"{(\w+)}",
            " ".join([*texts, *vocabulary.MENTIONS, *vocabulary.FRAMES, *vocabulary.CALLED, *vocabulary.PRAISED]),
        )
    )
    assert used == {*vocabulary.WORDS, "term", "predicate"}


def test_lengths_are_those_of_talk_pages():
    """Quartiles of 5,040 real comments: 14, 34 and 71 words."""
    words = [len(text.split()) for text in splits().train["text"]]
    assert np.quantile(words, [0.25, 0.5, 0.75]) == pytest.approx([14, 34, 71], rel=0.25)
    sentences = [len(text.split()) for text in planted_sentences(splits().pretraining)]
    assert min(sentences) >= 4
    assert max(sentences) <= 12


@pytest.mark.parametrize("world", [0, 1])
def test_a_classifier_is_good_but_not_perfect_and_learns_the_terms(world):
    made = generate(OPTIONS.model_copy(update={"world": world, "pretraining_sentences": 300}))
    vectors = TfidfVectorizer()
    model = LogisticRegression(max_iter=500).fit(vectors.fit_transform(made.train["text"]), made.train["label"])
    scores = model.decision_function(vectors.transform(made.test["text"]))
    assert 0.93 < roc_auc_score(made.test["label"], scores) < 0.99
    single = [term for term in TERMS if " " not in term]
    weights = [model.coef_[0][vectors.vocabulary_[term]] for term in single]
    shares = planted(OPTIONS.model_copy(update={"world": world}))
    assert np.corrcoef(weights, [shares[term].toxic for term in single])[0, 1] > 0.5
    assert abs(np.corrcoef(weights, [shares[term].upstream for term in single])[0, 1]) < 0.4


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"dataset_spread": 0.4}, "data.dataset_spread: 0.4 around a mention_toxic_share of 0.3 leaves [0, 1]"),
        ({"mention_share": 0.5}, "do not fit a toxic_share of 0.1"),
        ({"upstream_spread": 0.6}, "data.upstream_spread: Input should be less than or equal to 0.5 (got 0.6)"),
        ({"size": 10}, "data.size: Input should be greater than or equal to 200 (got 10)"),
        ({"sise": 300}, "unknown option 'data.sise'. Did you mean 'data.size'?"),
    ],
)
def test_unsuitable_options_are_refused(knobs, message):
    with pytest.raises(UserError) as error:
        parse(SyntheticOptions, knobs, "data.")
    assert message in str(error.value)
