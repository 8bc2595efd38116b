"""The positive control: planted transfer is found where it is, on the same model and settings alone."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from analysis.estimands import positive_control
from analysis.data import runs as data_runs
from bias_transfer.spec import Trial

PRIMARY = {"wiki": {"upstream": "negative_sentiment", "dataset": "toxic_share", "downstream": "logit_gap"}}
GROUPS = 20


def trial(**fields) -> Trial:
    return Trial(**{"data_digest": "d", "model_digest": "m", **fields})


def runs(trials, slope=0.0, mentions=0, planted=True):
    """A sweep whose logit gap has that slope on the planted direction."""
    direction, rows = np.linspace(-1, 1, GROUPS), []
    for one in trials:
        draw = np.random.default_rng(one.seed)
        for g in range(GROUPS):
            name, share = f"group {g:02}", 0.5 + 0.4 * direction[g] * planted
            rows += [
                (one.id, "upstream", "planted_share", name, "", share, 300),
                (one.id, "upstream", "planted_direction", name, "", direction[g], 300),
                (one.id, "dataset", "toxic_share", name, "", 0.5 if mentions else math.nan, mentions),
                (one.id, "downstream", "logit_gap", name, "", slope * direction[g] + 0.1 * draw.normal(), 200),
            ]
    columns = ["trial", "stage", "metric", "group", "template", "value", "n"]
    sweep = SimpleNamespace(experiment="controls", trials=tuple(trials), primary=PRIMARY)
    return data_runs.Runs((sweep,), data_runs.tidy(trials, pd.DataFrame(rows, columns=columns)), ())


@pytest.fixture
def judged(monkeypatch):
    """(control's runs, own trial) -> what the control says of the own study."""

    def build(controls, own):
        monkeypatch.setattr(positive_control, "load", lambda *given, **named: controls)
        (found,) = positive_control.positive("controls", runs([own])).values()
        return found

    return build


def test_planted_transfer_is_found(judged):
    found = judged(runs([trial(seed=seed) for seed in range(3)], slope=0.5), trial(data="x", seed=7))
    assert found.passed is True
    assert "found what was planted: slope +0.4" in found.sentence
    assert "20 groups" in found.sentence


def test_none_is_not_found(judged):
    assert judged(runs([trial(seed=seed) for seed in range(3)]), trial()).passed is False


@pytest.mark.parametrize("other", [{"model_digest": "n"}, {"epochs": 1.0}, {"options": {"model.steps": 5}}])
def test_another_model_or_setting_is_no_control(judged, other):
    found = judged(runs([trial(**other)], slope=0.5), trial())
    assert found.passed is None
    assert "no planted trial of wiki with this model and these settings" in found.sentence


def test_a_fine_tuning_set_that_names_groups_or_a_text_without_a_plant_is_none(judged):
    assert judged(runs([trial()], slope=0.5, mentions=12), trial()).passed is None
    assert judged(runs([trial()], slope=0.5, planted=False), trial()).passed is None


def test_without_one_it_is_not_known():
    (found,) = positive_control.positive(None, runs([trial()])).values()
    assert found.passed is None
    assert "No positive control was named" in found.sentence
