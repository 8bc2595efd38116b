"""The probe, on states set by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bias_transfer.metrics import mdl_probe
from bias_transfer.metrics.mdl_probe import online_code, portions
from bias_transfer.models.language_model import LanguageModel

RANDOM = np.random.default_rng(5)


def states(twins: int, gap: float, width: int = 3) -> np.ndarray:
    """(2, twins, width): noise, and between the two sides `gap` SDs along the first axis."""
    drawn = RANDOM.normal(size=(2, twins, width))
    drawn[1, :, 0] += gap
    return drawn


@pytest.mark.parametrize(
    ("twins", "ends"), [(8, [4, 8]), (15, [7, 15]), (16, [4, 8, 16]), (384, [6, 12, 24, 48, 96, 192, 384])]
)
def test_portions_double(twins, ends):
    assert portions(twins) == ends


def test_the_codelength_by_hand(monkeypatch):
    """Two portions of four twins, so eight labels each. The first cost a bit each; the others what a logistic regression on
    the first says, here worked out with probabilities; mixed half and half with the uniform code."""
    monkeypatch.setattr(mdl_probe, "STRENGTHS", (1.0,))
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    from bias_transfer.hashing import derive_seed

    own = states(8, 1.0)
    order = np.random.default_rng(derive_seed(0, "probe", "name")).permutation(8)
    scaler = StandardScaler().fit(own[:, order[:4]].reshape(8, -1))
    fitted = LogisticRegression(max_iter=2000).fit(
        scaler.transform(own[:, order[:4]].reshape(8, -1)), [0] * 4 + [1] * 4
    )
    told = fitted.predict_proba(scaler.transform(own[:, order[4:]].reshape(8, -1)))
    right = np.concatenate([told[:4, 0], told[4:, 1]])
    bits, accuracy, n = online_code(own, "name")
    assert bits == pytest.approx(-math.log2(0.5 * 2.0**-16 + 0.5 * 2.0**-8 * right.prod()))
    assert accuracy == (right > 0.5).mean()
    assert n == 8


def test_what_is_plain_to_see_costs_little_and_what_is_not_there_saves_nothing():
    plain, faint, nothing = (online_code(states(256, gap), "name") for gap in (20.0, 1.5, 0.0))
    assert plain[0] < 512 / 12
    assert plain[1] == 1
    assert plain[0] < faint[0] < 480
    assert 500 < nothing[0] <= 512 + math.log2(1 + len(mdl_probe.STRENGTHS))
    assert 0.4 < nothing[1] < 0.6
    assert plain[2] == nothing[2] == 256


def test_a_probe_that_overfits_costs_next_to_nothing(monkeypatch):
    """200 axes of noise: without a penalty the probe is sure, and wrong half of the time."""
    own = states(64, 0.0, width=200)
    monkeypatch.setattr(mdl_probe, "STRENGTHS", (1e6,))
    assert online_code(own, "name")[0] == pytest.approx(128 + 1)
    monkeypatch.setattr(mdl_probe, "STRENGTHS", (1e-4, 1e6))
    assert 120 < online_code(own, "name")[0] <= 128 + math.log2(3)


def test_the_accuracy_is_of_the_strength_that_did_best_before_the_last_portion(monkeypatch):
    """The second strength is right up to the last portion, and wrong in it; the first the other way round."""

    def margins(own, start, end, strength):
        right = (strength == 2) == (end < 16)
        return np.full(2 * (end - start), 9.0 if right else -1.0)

    monkeypatch.setattr(mdl_probe, "STRENGTHS", (1, 2))
    monkeypatch.setattr(mdl_probe, "_margins", margins)
    assert online_code(states(16, 0.0), "name")[1:] == (0, 16)


def test_neither_scale_nor_place_matters():
    own = states(64, 1.0)
    moved = own * np.array([1e-3, 1.0, 1e3]) + 50
    assert online_code(moved, "name")[0] == pytest.approx(online_code(own, "name")[0], rel=1e-3)


def test_labels_are_not_read_off_the_twin():
    """Twins share their sentence: if the one were sent before the other, states that tell sentences apart would help."""
    sentences = RANDOM.normal(size=(1, 64, 80))
    bits, accuracy, _ = online_code(np.repeat(sentences, 2, axis=0), "name")
    assert bits == pytest.approx(128)
    assert accuracy <= 0.5


def test_too_few_twins_are_refused():
    with pytest.raises(ValueError, match="needs at least 8 twin sentences, got 7"):
        online_code(states(7, 1.0), "name")


PLACES = tuple(
    f"{begin} {{who}} is {end}" for begin in ("the day", "I know") for end in ("good", "bad", "old", "sad", "kind")
)
WITHOUT = tuple((text.replace("{who}", "he"), text.replace("{who}", "she")) for text in PLACES)
WITH = tuple((f"{first} {{mask}}", f"{second} {{mask}}") for first, second in WITHOUT)


def test_measures_of_a_real_encoder(load):
    model = load()
    rows = mdl_probe.probe(model, {"gender": WITH, "other": WITHOUT}, "downstream")
    assert rows == mdl_probe.probe(model, {"gender": WITH, "other": WITHOUT}, "downstream")
    assert {row.stage for row in rows} == {"downstream"}
    places = {(row.group, row.template) for row in rows}
    assert places == {
        ("gender", "first"),
        ("gender", "mean"),
        ("gender", "mask"),
        ("other", "first"),
        ("other", "mean"),
    }
    found = {(row.metric, row.template): row for row in rows if row.group == "gender"}
    for place in ("first", "mean", "mask"):
        bits, ratio, right = (found[f"probe_{name}", place] for name in ("codelength", "compression", "accuracy"))
        assert ratio.value == pytest.approx(20 / bits.value)
        assert (bits.n, ratio.n, right.n) == (20, 20, 10)


def test_the_sides_are_the_labels(monkeypatch):
    """The encoder sees "she" along one axis only: any other pairing of texts and labels would not tell them apart."""

    def states_of(model, texts, positions):
        she = np.array([" she " in text for text in texts], float)
        return {position: np.stack([she, RANDOM.normal(size=len(texts))], axis=1) for position in positions}

    monkeypatch.setattr(mdl_probe, "hidden_states", states_of)
    rows = mdl_probe.probe(LanguageModel(None, None, None), {"gender": WITH * 10}, "upstream")
    assert all(row.value == 1 for row in rows if row.metric == "probe_accuracy")
    assert all(row.value > 3 for row in rows if row.metric == "probe_compression")


def test_a_probability_that_is_not_finite_makes_the_counts_missing(monkeypatch):
    def states_of(model, texts, positions):
        found = {position: RANDOM.normal(size=(len(texts), 2)) for position in positions}
        found["mean"][3, 1] = math.nan
        return found

    monkeypatch.setattr(mdl_probe, "hidden_states", states_of)
    for row in mdl_probe.probe(LanguageModel(None, None, None), {"gender": WITH}, "upstream"):
        assert math.isnan(row.value) == (row.template == "mean")
        assert (row.n == 0) == (row.template == "mean")
