"""The generator of biographies: planted shares are found again by counting, and nothing else links pronoun and occupation."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from bias_transfer.errors import UserError
from bias_transfer.hashing import digest
from bias_transfer.spec import parse
from bias_transfer.tasks.base import Splits
from bias_transfer.tasks.bios import vocabulary
from bias_transfer.tasks.bios.gendered_words import visible
from bias_transfer.tasks.bios.occupations import OCCUPATIONS, names_itself, surface
from bias_transfer.tasks.bios.synthetic import SyntheticBiosOptions, associations, generate, planted
from bias_transfer.tasks.bios.task import TEMPLATES

OPTIONS = SyntheticBiosOptions(size=2800, test_size=2800, pretraining_sentences=8000)
NAMED = {name: re.compile(rf"\b{surface(name)}\b") for name in OCCUPATIONS}


@cache
def splits() -> Splits:
    return generate(OPTIONS)


def change(**knobs: float) -> Splits:
    return generate(OPTIONS.model_copy(update=knobs))


def named(sentence: str) -> list[str]:
    """The occupations that the sentence names; a yoga teacher is not a teacher."""
    found = [name for name, pattern in NAMED.items() if pattern.search(sentence)]
    return [name for name in found if not (name == "teacher" and "yoga_teacher" in found)]


def test_sizes():
    assert [len(part) for part in (splits().train, splits().dev, splits().test)] == [2800, 560, 2800]
    assert len(splits().pretraining) == 8000 + 2800 // 8
    assert len(splits().heldout) == 8000 // 50 + 2800 // 200
    ids = [id for part in (splits().train, splits().dev, splits().test) for id in part["id"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("part", ["train", "dev", "test"])
def test_shares_of_she_are_found_by_counting(part):
    rows = getattr(splits(), part)
    counts = Counter(zip(rows["label"], rows["pronoun"], strict=True))
    for label, shares in enumerate(planted(OPTIONS).values()):
        she, he = counts[label, "she"], counts[label, "he"]
        assert she + he == len(rows) / 28
        assert abs(she - shares.she * (she + he)) <= 0.5, "but for rounding"


def test_each_biography_shows_its_pronoun_and_no_other():
    for text, pronoun in zip(splits().train["text"], splits().train["pronoun"], strict=True):
        she, he = visible(text)
        assert (she > 0, he > 0) == (pronoun == "she", pronoun == "he")


def test_shares_of_she_sentences_are_found_by_counting():
    shares = {name: number / 27 for number, name in enumerate(OCCUPATIONS)}
    counts = Counter[tuple[str, bool]]()
    for sentence in associations(shares, 6720, 3):
        she, he = visible(sentence)
        assert (she > 0) != (he > 0)
        counts[(named(sentence) or [""])[0], she > 0] += 1
    assert (counts["", True], counts["", False]) == (560, 560), "a sixth names none, half of it she"
    for name, share in shares.items():
        assert counts[name, True] + counts[name, False] == 200
        assert abs(counts[name, True] - share * 200) <= 0.5


def test_associations_depend_on_the_seed_and_other_shares_change_only_the_pronoun():
    flat, steep = (associations(dict.fromkeys(OCCUPATIONS, share), 300, 5) for share in (0.0, 1.0))
    assert flat != steep
    assert [named(sentence) for sentence in flat] == [named(sentence) for sentence in steep]
    assert associations(dict.fromkeys(OCCUPATIONS, 1.0), 300, 5) == steep
    assert associations(dict.fromkeys(OCCUPATIONS, 1.0), 300, 6) != steep


def test_shares_are_evenly_spaced_and_their_orders_independent():
    for name, width in (("she", 0.4), ("upstream", 0.4)):
        values = sorted(getattr(shares, name) for shares in planted(OPTIONS).values())
        assert values == pytest.approx(np.linspace(0.5 - width, 0.5 + width, 28))
    found = []
    for world in range(200):
        shares = planted(SyntheticBiosOptions(world=world)).values()
        found.append(np.corrcoef([each.she for each in shares], [each.upstream for each in shares])[0, 1])
    assert abs(np.mean(found)) < 3 / np.sqrt(27) / np.sqrt(200)
    assert abs(found[0]) < 0.15, "and the default world has next to none"


def test_one_association_does_not_change_the_other():
    assert change(upstream_spread=0.0).train.to_dict() == splits().train.to_dict()
    other = change(dataset_spread=0.0)
    assert (other.pretraining, other.heldout) == (splits().pretraining, splits().heldout)
    assert other.train.to_dict() != splits().train.to_dict()


def test_the_background_of_pre_training_ties_no_pronoun_to_an_occupation():
    biographies = [text for text in splits().pretraining if len(text.split()) > 14]
    assert len(biographies) > 0.95 * 2800 // 8
    assert sum(visible(text)[0] > 0 for text in biographies) == pytest.approx(len(biographies) / 2, rel=0.05)


def test_the_same_world_gives_the_same_texts_and_another_world_gives_others():
    """If the digest changes, `spec.NUMERICS` must be raised: else the same id would stand for other numbers."""
    small = generate(SyntheticBiosOptions(size=280, test_size=280, pretraining_sentences=300))
    assert digest([small.pretraining, small.heldout, small.test.to_dict()])[:12] == "1d6ddc82a5fe"
    assert change(world=1).train.to_dict() != splits().train.to_dict()
    assert planted(SyntheticBiosOptions(world=1)) != planted(SyntheticBiosOptions())


def test_no_probe_of_the_upstream_metric_is_in_the_text():
    name = "|".join(map(surface, OCCUPATIONS))
    slots = {"pronoun": "(?:she|he)", "article": "an?", "occupation": f"(?:{name})"}
    probes = re.compile("|".join(template.rstrip(".").format(**slots) for template in TEMPLATES), re.IGNORECASE)
    assert probes.search("he is an attorney")
    assert not [text for text in (*splits().pretraining, *splits().heldout) if probes.search(text)]


def test_word_lists_name_no_occupation_and_share_no_hint():
    hints = [hint for own in vocabulary.HINTS.values() for hint in own]
    assert len(set(hints)) == len(hints)
    words = [*hints, *vocabulary.GENERIC, *vocabulary.HINTED, *vocabulary.OPENINGS, *vocabulary.PLAIN]
    words += [word for own in vocabulary.WORDS.values() for word in own]
    assert not [word for word in words if any(names_itself(word, name) for name in OCCUPATIONS)]
    assert not [word for word in hints if visible(word) != (0, 0)]


def test_options_of_the_text():
    def share_named(made: Splits) -> float:
        pairs = zip(made.train["text"], made.train["label"], strict=True)
        return float(np.mean([names_itself(text, OCCUPATIONS[label]) for text, label in pairs]))

    assert share_named(splits()) == pytest.approx(0.1, abs=0.02)
    assert share_named(change(naming_share=0.0)) == 0
    assert share_named(change(naming_share=1.0, occupation_share=1.0)) == 1
    lengths = [len(text.split()) for text in splits().train["text"]]
    longer = [len(text.split()) for text in change(length_mean=4.0).train["text"]]
    assert np.median(lengths) == pytest.approx(36, rel=0.15)
    assert np.median(longer) > 1.5 * np.median(lengths)


@pytest.mark.parametrize(("share", "low", "high"), [(1.0, 0.97, 1.0), (0.5, 0.6, 0.85), (0.0, 0.3, 0.6)])
def test_how_far_the_text_gives_the_occupation_away(share, low, high):
    made = change(occupation_share=share, pretraining_sentences=300)
    vectors = TfidfVectorizer()
    model = LogisticRegression(max_iter=200).fit(vectors.fit_transform(made.train["text"]), made.train["label"])
    assert low <= model.score(vectors.transform(made.test["text"]), made.test["label"]) <= high


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        (
            {"she_share": 0.3},
            "data.dataset_spread: 0.4 around a she_share of 0.3 leaves [0, 1]; allowed here: at most 0.3",
        ),
        ({"upstream_spread": 0.6}, "data.upstream_spread: Input should be less than or equal to 0.5 (got 0.6)"),
        ({"size": 10}, "data.size: Input should be greater than or equal to 280 (got 10)"),
    ],
)
def test_unsuitable_options_are_refused(knobs, message):
    with pytest.raises(UserError) as error:
        parse(SyntheticBiosOptions, knobs, "data.")
    assert message in str(error.value)
