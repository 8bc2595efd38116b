"""The positive control: planted and injected transfer is found, with the same model and settings only."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

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
        own = own if isinstance(own, data_runs.Runs) else runs([own])
        (found,) = positive_control.control_results("controls", own).values()
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


def test_text_that_a_checkpoint_never_read_is_no_control(judged):
    """As was recorded of hub models on synthetic data: the shares of a text that `tiny` would have read."""
    found = judged(
        runs([trial(model="roberta-base", seed=seed) for seed in range(3)], slope=0.5), trial(model="roberta-base")
    )
    assert found.passed is None
    assert "no injections at dose 1 and -1 of wiki" in found.reason


ROBERTA = {"model": "roberta-base", "data": "wiki", "upstream": "inject"}


def injected(seeds, effect=0.3, draws=(None,), models=(None,), direction="drawn", noise=0.05, study="pairs", **fields):
    """Opposite injections that change the outcome by `effect` in the direction of the push, and all groups alike by -1 from
    training on; each model carries over more or less, by an SD of 0.1."""
    rows, trials = [], []
    for model in models:
        carried = effect + 0.1 * np.random.default_rng(model or 0).normal() * (len(models) > 1)
        for draw in draws:
            for seed in range(seeds):
                source = np.random.default_rng([seed, draw or 0])
                ways = np.ones(GROUPS) if direction == "all" else source.permutation([1.0, -1.0] * (GROUPS // 2))
                for dose in (1.0, -1.0):
                    options = {"upstream.draw": draw, "model.seed": model}
                    known = {key: value for key, value in options.items() if value is not None}
                    one = trial(**{**ROBERTA, **fields}, upstream_dose=dose, seed=seed, options=known)
                    y = carried * ways * dose - 1 + source.normal(0, noise, GROUPS)
                    trials.append(one)
                    for g in range(GROUPS):
                        name = f"group {g:02}"
                        rows.append((one.id, "upstream", "injected_direction", name, "", ways[g], 50))
                        rows.append((one.id, "downstream", "logit_gap", name, "", y[g], 200))
                        rows.append((one.id, "dataset", "toxic_share", name, "", 0.5, 40))
    columns = ["trial", "stage", "metric", "group", "template", "value", "n"]
    sweep = SimpleNamespace(experiment=study, trials=tuple(trials), primary=PRIMARY)
    return data_runs.Runs((sweep,), data_runs.tidy(trials, pd.DataFrame(rows, columns=columns)), ())


def within(controls):
    (found,) = positive_control.control_results(None, controls).values()
    return found


@pytest.mark.parametrize("direction", ["drawn", "all"])
def test_an_injected_transfer_is_found_in_the_study_itself(direction):
    """Although its fine-tuning set mentions all groups, and nothing was planted in pre-training."""
    found = within(injected(4, direction=direction))
    assert (found.experiment, found.passed, found.injected) == ("pairs", True, True)
    assert found.coefficient == pytest.approx(0.3, abs=0.03)
    assert found.low > 0.2
    assert (found.groups, found.seeds, found.models) == (GROUPS, 4, 1)
    assert within(injected(4, effect=0.0, direction=direction)).passed is False
    assert within(injected(4, effect=-0.3, direction=direction)).passed is False


def test_the_interval_is_t_over_seeds_of_the_mean_over_groups():
    controls = injected(3)
    wide = controls.table[controls.table["group"] != ""].pivot_table(
        index=["seed", "group"], columns=["upstream_dose", "metric"], values="value", observed=True
    )
    c = wide[1.0]["injected_direction"] * (wide[1.0]["logit_gap"] - wide[-1.0]["logit_gap"]) / 2
    by_seed = c.groupby(level="seed").mean()
    reach = stats.t.ppf(0.975, 2) * by_seed.std(ddof=1) / math.sqrt(3)
    found = within(controls)
    assert (found.coefficient, found.low) == pytest.approx((by_seed.mean(), by_seed.mean() - reach))


def test_seeds_and_draws_are_averaged_within_a_model():
    one, four = (within(injected(seeds, draws=(0, 1), models=(1, 2, 3), model="tiny")) for seeds in (1, 4))
    assert (one.models, four.models, four.seeds) == (3, 3, 4)
    assert four.high - four.low > 0.1  # the models differ, and three of them are all there is
    assert one.passed is not None
    draws = within(injected(3, draws=(0, 1, 2)))
    assert (draws.models, draws.seeds) == (1, 3)


def test_one_seed_of_one_model_has_no_interval():
    found = within(injected(1))
    assert found.passed is None
    assert found.coefficient == pytest.approx(0.3, abs=0.05)
    assert found.reason == "has no interval: one seed gives no interval"


def test_opposite_injections_count_in_the_named_experiment_too(judged):
    own = trial(model="roberta-base", data="wiki", upstream="perturb", upstream_dose=0.5)
    found = judged(injected(3), own)
    assert (found.experiment, found.passed, found.injected) == ("pairs", True, True)
    assert judged(injected(3, epochs=1.0), own).passed is None
    assert judged(injected(3, model_digest="other"), own).passed is None


def test_a_control_that_failed_in_the_study_is_not_replaced_by_another(judged):
    assert judged(injected(3), injected(3, effect=0.0, study="own")).experiment == "own"
    assert judged(injected(3), injected(1, effect=0.0, study="own")).experiment == "pairs"  # no interval: unknown


def test_a_pair_of_which_one_trial_has_not_finished_is_left_out(judged):
    controls = injected(4)
    last = controls.trials[-1].id
    partial = data_runs.Runs(controls.sweeps, controls.table[controls.table["trial"] != last], (controls.trials[-1],))
    found = judged(partial, trial(model="roberta-base", data="wiki"))
    assert (found.passed, found.seeds) == (True, 3)


def test_pairs_differ_in_the_dose_alone():
    plus, minus = (trial(**ROBERTA, upstream_dose=dose) for dose in (1.0, -1.0))

    def pairs(*trials):
        return list(positive_control.opposite(trials, {each.id: 0 for each in trials}).values())

    assert pairs(plus, minus) == [(plus, minus)]
    for other in ({"seed": 1}, {"options": {"upstream.steps": 9}}, {"epochs": 1.0}, {"upstream_dose": -0.5}):
        assert not pairs(plus, minus.with_fields(**other))
    assert not pairs(*(one.with_fields(downstream="scrub") for one in (plus, minus)))


def test_injections_without_a_recorded_direction_are_unknown():
    controls = injected(3)
    without = data_runs.Runs(controls.sweeps, controls.table[controls.table["metric"] != "injected_direction"], ())
    found = within(without)
    assert found.passed is None
    assert "has no group with an outcome and injected_direction" in found.reason


def test_without_a_named_control_the_result_is_unknown():
    (found,) = positive_control.control_results(None, runs([trial()])).values()
    assert found.passed is None
    assert found.experiment is None
