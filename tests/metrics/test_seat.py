"""Association tests on vectors set by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bias_transfer.metrics import seat
from bias_transfer.metrics.seat import AssociationTest, associations, effect_size, permutation_p

EAST, NORTH = np.array([1.0, 0.0]), np.array([0.0, 1.0])


def towards(*degrees: float, length: float = 1.0) -> np.ndarray:
    """Unit vectors at these angles from EAST."""
    angles = np.radians(degrees)
    return length * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_an_association_by_hand():
    """Cosine with EAST minus cosine with NORTH, means over two attributes each; lengths do not matter."""
    found = associations(towards(0, 90, 45, 30, length=7), np.array([EAST, 3 * EAST]), np.array([NORTH, NORTH]))
    assert found == pytest.approx([1, -1, 0, math.sqrt(3) / 2 - 0.5])
    assert associations(EAST[None], np.array([EAST, NORTH]), np.array([-EAST])) == pytest.approx([0.5 + 1])


def test_effect_size_by_hand():
    """Means 2 and -1; the SD of 3, 1, 0, -2 with n - 1 is sqrt(13/3)."""
    assert effect_size(np.array([3.0, 1.0]), np.array([0.0, -2.0])) == pytest.approx(3 / math.sqrt(13 / 3))
    assert effect_size(np.array([0.0, -2.0]), np.array([3.0, 1.0])) == pytest.approx(-3 / math.sqrt(13 / 3))


def test_no_spread_is_missing():
    assert math.isnan(effect_size(np.ones(2), np.ones(2)))
    assert math.isnan(permutation_p(np.ones(2), np.ones(2), "name"))
    assert math.isnan(permutation_p(np.array([1.0, math.nan]), np.ones(2), "name"))


def test_an_exact_p_by_hand():
    """Six partitions of 4, 3, 2, 1 in two sets of two, with first sums 7, 6, 5, 5, 4, 3."""
    assert permutation_p(np.array([4.0, 3.0]), np.array([2.0, 1.0]), "name") == pytest.approx(1 / 6)
    assert permutation_p(np.array([4.0, 1.0]), np.array([2.0, 3.0]), "name") == pytest.approx(4 / 6)  # a tie counts
    assert permutation_p(np.array([2.0, 1.0]), np.array([4.0, 3.0]), "name") == 1
    assert permutation_p(np.array([4.0]), np.array([2.0, 1.0]), "name") == pytest.approx(1 / 3)  # sizes may differ


def test_the_same_sum_in_another_order_is_a_tie():
    both = np.array([0.1, 0.2, 0.3, 0.3, 0.2, 0.1])
    assert 0.1 + 0.2 + 0.3 != 0.3 + 0.2 + 0.1
    assert permutation_p(both[3:], both[:3], "name") == permutation_p(both[:3], both[3:], "name")


def test_a_drawn_p_nears_the_exact_one_and_is_the_same_every_time(monkeypatch):
    generator = np.random.default_rng(1)
    first, second = generator.normal(0.4, 1, 8), generator.normal(0, 1, 8)
    exact = permutation_p(first, second, "name")
    monkeypatch.setattr(seat, "MOST_PARTITIONS", 1)
    drawn = permutation_p(first, second, "name")
    assert 0.02 < exact < 0.9
    assert drawn != exact
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / seat.DRAWS))
    assert permutation_p(first, second, "name") == drawn != permutation_p(first, second, "other")


def test_a_drawn_p_is_never_0(monkeypatch):
    monkeypatch.setattr(seat, "MOST_PARTITIONS", 1)
    assert permutation_p(np.full(30, 9.0), np.arange(30) / 100, "name") == 1 / (seat.DRAWS + 1)


TEST = {"a/b": AssociationTest((("he", "man"), ("she", "girl")), (("good",), ("bad",)))}
ANGLES = {"he": 0, "man": 20, "she": 90, "girl": 70, "good": 0, "bad": 90}


@pytest.fixture
def embedded(monkeypatch):
    """Every word is at its angle in all templates but the second, where it is at the mirrored angle."""

    def states(model, texts, positions):
        (position,) = positions
        assert position == "first"
        angles = []
        for text in texts:
            (word,) = (word for word in ANGLES if text in {t.format(word=word) for t in seat.TEMPLATES})
            targets_turned = text.startswith("That") and word not in ("good", "bad")
            angles.append(90 - ANGLES[word] if targets_turned else ANGLES[word])
        return {position: towards(*angles, length=2)}

    monkeypatch.setattr(seat, "hidden_states", states)


def test_measures_by_hand(embedded):
    rows = seat.association(None, TEST, "first", "downstream")
    found = {(row.metric, row.template): row for row in rows}
    assert {row.group for row in rows} == {"a/b"}
    assert {row.stage for row in rows} == {"downstream"}
    assert {row.n for row in rows} == {4}
    leaning = [1, math.cos(math.radians(20)) - math.sin(math.radians(20))]
    values = np.array([*leaning, *(-value for value in leaning)])
    d = 2 * np.mean(leaning) / values.std(ddof=1)
    assert found["seat", "This is {word}."].value == pytest.approx(d)
    assert found["seat", "That is {word}."].value == pytest.approx(-d)
    pooled = {
        word: (3 * towards(at) + towards(at if word in ("good", "bad") else 90 - at)) / 4 for word, at in ANGLES.items()
    }
    leans = [associations(pooled[word], pooled["good"], pooled["bad"]) for word in ("he", "man", "she", "girl")]
    expected = effect_size(np.concatenate(leans[:2]), np.concatenate(leans[2:]))
    assert found["seat", ""].value == pytest.approx(expected)  # of the mean vectors, three templates against one
    assert abs(expected - d) > 1e-3
    assert found["seat_p", ""].value == pytest.approx(1 / 6)
    assert len(rows) == len(seat.TEMPLATES) + 2


def test_words_that_are_all_alike_are_missing(monkeypatch):
    monkeypatch.setattr(seat, "hidden_states", lambda model, texts, at: {at[0]: np.ones((len(texts), 3))})
    for row in seat.association(None, TEST, "mean", "upstream"):
        assert math.isnan(row.value)
        assert row.n == 0


@pytest.mark.parametrize("position", ["first", "mean"])
def test_a_real_encoder_gives_finite_values_the_same_every_time(load, position):
    model = load()
    rows = seat.association(model, TEST, position, "upstream")
    assert all(math.isfinite(row.value) for row in rows)
    assert all(abs(row.value) <= 2 for row in rows)
    assert rows == seat.association(model, TEST, position, "upstream")
    assert model.encoder.training is False
