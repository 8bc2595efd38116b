"""The positive control: planted transfer is found, with the same model and settings only."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from analysis.data import runs as data_runs
from analysis.estimands import positive_control
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
    """(runs of the control, trial of the study) -> the result of the control."""

    def build(controls, own):
        monkeypatch.setattr(positive_control, "load", lambda *given, **named: controls)
        (found,) = positive_control.control_results("controls", runs([own])).values()
        return found

    return build


def test_planted_transfer_is_found(judged):
    found = judged(runs([trial(seed=seed) for seed in range(3)], slope=0.5), trial(data="x", seed=7))
    assert found.passed is True
    assert 0.4 <= found.coefficient < 0.5
    assert found.low < found.coefficient < found.high
    assert found.groups == 20


def test_absent_transfer_is_not_found(judged):
    assert judged(runs([trial(seed=seed) for seed in range(3)]), trial()).passed is False


@pytest.mark.parametrize("other", [{"model_digest": "n"}, {"epochs": 1.0}, {"options": {"model.steps": 5}}])
def test_trials_with_another_model_or_setting_are_no_control(judged, other):
    found = judged(runs([trial(**other)], slope=0.5), trial())
    assert found.passed is None
    assert "no planted trial of wiki with this model and these settings" in found.reason


def test_trials_that_mention_groups_or_have_nothing_planted_are_no_control(judged):
    assert judged(runs([trial()], slope=0.5, mentions=12), trial()).passed is None
    assert judged(runs([trial()], slope=0.5, planted=False), trial()).passed is None


def test_without_a_named_control_the_result_is_unknown():
    (found,) = positive_control.control_results(None, runs([trial()])).values()
    assert found.passed is None
    assert found.experiment is None
