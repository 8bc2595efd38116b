"""Checkpoints that a plan declares to be pre-training seeds of one study, or twins: against `tiny`, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.data import cells as data_cells
from analysis.data import runs as data_runs
from analysis.data.declared import as_read, merged
from analysis.estimands import arm_effects, caveats, equivalence, placebo, positive_control, slopes
from analysis.report import limitations, wording
from bias_transfer.errors import UserError
from bias_transfer.spec import AnalysisPlan, Trial

GROUPS, MODELS, SEEDS = 14, 3, 2
SEEDS_OF_ONE = AnalysisPlan(pretraining_seeds={"small": [f"models/seed{model}" for model in range(MODELS)]})
TREATED, UNTREATED = "hub/intervention", "hub/plain"
TWINS = AnalysisPlan(twins={"pronoun twins": {TREATED: UNTREATED}})
COLUMNS = ["trial", "stage", "metric", "group", "template", "value", "n"]


def checkpoint(model, seed, **fields) -> Trial:
    return Trial(data_digest="d", model=f"models/seed{model}", model_digest=f"m{model}", seed=seed, **fields)


def tiny(model, seed, **fields) -> Trial:
    return Trial(data_digest="d", model_digest="tiny", seed=seed, options={"model.seed": model}, **fields)


def measured(trial: Trial, x: np.ndarray, y: np.ndarray) -> list[tuple]:
    rows = []
    for g in range(GROUPS):
        name = f"group {g:02}"
        rows += [
            (trial.id, "upstream", "negative_sentiment", name, t, x[g] + d, 9) for t, d in (("s", -0.01), ("t", 0.01))
        ]
        rows.append((trial.id, "dataset", "toxic_share", name, "", (5 + g) / 100, 100))
        rows.append((trial.id, "downstream", "fpr", name, "", round(10**7 * math.exp(y[g])) / 10**7, 10**7))
    return rows


def swept(new, plan=SEEDS_OF_ONE):
    """Three models with two seeds each, untouched and perturbed, as a tidy table."""
    trials, rows = [], []
    for model in range(MODELS):
        x = np.random.default_rng(model).normal(0, 1, GROUPS)
        for seed in range(SEEDS):
            for arm in ({}, {"upstream": "perturb", "upstream_dose": 0.5}):
                noise = np.random.default_rng([model, seed, len(arm)]).normal(0, 0.1, GROUPS)
                moved = (0.3 + 0.1 * model + 0.05 * seed) * bool(arm)
                trials.append(new(model, seed, **arm))
                rows += measured(trials[-1], x + moved * noise, -2 + 0.2 * x + noise - moved)
    return trials, data_runs.tidy(trials, pd.DataFrame(rows, columns=COLUMNS), declared=plan)


def test_declared_checkpoints_are_read_like_the_pre_training_seeds_of_tiny(primary):
    (table, expected) = (swept(new)[1] for new in (checkpoint, tiny))
    assert set(table["study"]) == {"wiki synthetic small"}
    assert set(table["model"]) == {"models/seed0", "models/seed1", "models/seed2"}
    own = ["study", "trial", "model"]
    pd.testing.assert_frame_equal(table.drop(columns=own), expected.drop(columns=own))
    by_model = [
        [frame.drop(columns="study") for frame in (slopes.estimate(cells, 99), placebo.placebo(cells))]
        for cells in (data_cells.cells(table, primary), data_cells.cells(expected, primary))
    ]
    for found, other in zip(*by_model, strict=True):
        pd.testing.assert_frame_equal(found, other)


def test_an_effect_on_declared_seeds_is_averaged_within_a_model_and_t_is_over_models(primary):
    cells = data_cells.cells(swept(checkpoint)[1], primary)
    (found,) = arm_effects.arm_effects(cells).to_dict("records")
    y = cells.groupby(["arm", "replicate", "seed"])["y"].mean().groupby(level=[0, 1]).mean()
    by_hand = y["perturb=0.5 + none"] - y["none + none"]
    reach = stats.t.ppf(0.975, MODELS - 1) * by_hand.std(ddof=1) / math.sqrt(MODELS)
    assert (found["coefficient"], found["high"]) == pytest.approx((by_hand.mean(), by_hand.mean() + reach))
    assert (found["seeds"], found["models"], found["clusters"]) == (MODELS * SEEDS, MODELS, MODELS)


def test_what_is_not_declared_is_a_study_per_checkpoint_and_each_is_said_to_be_one(primary):
    declared, separate = (swept(checkpoint, plan)[1] for plan in (SEEDS_OF_ONE, AnalysisPlan()))
    assert separate["study"].nunique() == MODELS
    said = " ".join(limitations.limitations(caveats.caveats(separate, data_cells.cells(separate, primary))))
    assert all(f"One checkpoint (models/seed{model}) does not justify a claim" in said for model in range(MODELS))
    said = " ".join(limitations.limitations(caveats.caveats(declared, data_cells.cells(declared, primary))))
    assert "One checkpoint" not in said
    assert "3 models (pre-training seeds) detect" in said


def twins(seeds=(3, 3), slope=0.4):
    """A treated and an untreated model with their numbers of seeds: y = group effect + slope x, and a noise of seeds that the
    two share; x of the treated one is larger by 0.1, 0.2 ..."""
    trials, rows = [], []
    effect = np.random.default_rng(7).normal(0, 0.3, GROUPS)
    for count, model, moved in zip(seeds, (TREATED, UNTREATED), (0.1 * np.arange(1, GROUPS + 1), 0.0), strict=True):
        for seed in range(count):
            x = np.sin(np.arange(GROUPS)) + moved
            trials.append(Trial(data_digest="d", model=model, model_digest=model[:6], seed=seed))
            rows += measured(trials[-1], x, -3 + effect + slope * x + 0.05 * np.sin(7 * seed + np.arange(GROUPS)))
    return trials, pd.DataFrame(rows, columns=COLUMNS)


def test_a_treated_twin_is_an_arm_of_the_untreated_model_paired_by_seed(primary):
    trials, measures = twins((2, 3))
    table = data_runs.tidy(trials, measures, declared=TWINS)
    assert set(table["study"]) == {"wiki synthetic plain"}
    assert set(table["arm"]) == {"pronoun twins + none", "none + none"}
    cells = data_cells.cells(table, primary)
    (effect,) = arm_effects.arm_effects(cells).to_dict("records")
    assert (effect["term"], effect["seeds"]) == ("pronoun twins + none", 2)  # the seeds that both have
    # 0.4 times the mean of 0.1, 0.2 ... 1.4, whatever a seed's noise is
    assert effect["coefficient"] == pytest.approx(0.4 * 0.75, abs=1e-4)
    (within,) = slopes.displacement(cells).query("term == 'x'").to_dict("records")
    assert within["coefficient"] / within["scale"] == pytest.approx(0.4, abs=0.02)
    assert equivalence.treatments(cells) == ["pronoun twins + none"]
    assert bool(equivalence.displacements(cells)["moved"].iloc[0])


def test_what_is_said_of_twins(primary):
    table = data_runs.tidy(*twins(), declared=TWINS)
    cells = data_cells.cells(table, primary)
    effect = arm_effects.arm_effects(cells).assign(low=0.1, high=0.4)  # the noise is shared: there is no interval
    assert ", for this pair of checkpoints)" in wording.sentences("coefficients", effect)[0]
    said = " ".join(limitations.limitations(caveats.caveats(table, cells)))
    assert f"One checkpoint ({UNTREATED}) does not justify a claim" in said
    assert "The treatment of pronoun twins was given once per pair of checkpoints" in said
    assert "A seed is one draw of an intervention" not in said
    assert data_runs.tidy(*twins())["study"].nunique() == 2  # undeclared, they are two studies


def test_twins_with_a_downstream_arm_and_of_a_declared_seed():
    plan = AnalysisPlan(pretraining_seeds={"small": ["b", "a"]}, twins={"pronoun twins": {"c": "a"}})
    trials = [
        Trial(data_digest="d", model=model, model_digest=model, downstream=arm, downstream_dose=dose)
        for model in "abc"
        for arm, dose in (("none", None), ("scrub", 1.0))
    ]
    measures = pd.DataFrame([(trial.id, "downstream", "fpr", "g", "", 0.5, 9) for trial in trials], columns=COLUMNS)
    table = data_runs.tidy(trials, measures, declared=plan)
    assert table["arm"].tolist() == ["none + none", "none + scrub=1"] * 2 + [
        "pronoun twins + none",
        "pronoun twins + scrub=1",
    ]
    assert table["replicate"].tolist() == [1, 1, 0, 0, 1, 1]
    assert len(set(table["study"])) == 1


def test_opposite_injections_on_declared_seeds_are_nested_in_models():
    trials, rows = [], []
    for model in range(MODELS):
        for seed in range(SEEDS):
            for dose in (1.0, -1.0):
                trials.append(checkpoint(model, seed, upstream="inject", upstream_dose=dose))
                rows += measured(trials[-1], np.zeros(GROUPS), np.full(GROUPS, -2 + dose * (0.2 + 0.05 * model)))
                rows += [
                    (trials[-1].id, "upstream", "injected_direction", f"group {g:02}", "", 1.0, 9)
                    for g in range(GROUPS)
                ]
    primary = {"wiki": {"upstream": "negative_sentiment", "dataset": "toxic_share", "downstream": "fpr"}}
    table = data_runs.tidy(trials, pd.DataFrame(rows, columns=COLUMNS), declared=SEEDS_OF_ONE)
    found = positive_control.by_injection("e", trials, table, primary)
    assert (found.models, found.passed) == (MODELS, True)
    assert found.coefficient == pytest.approx(0.25, abs=1e-5)  # the mean of 0.20, 0.25 and 0.30
    assert found.high - found.low == pytest.approx(2 * stats.t.ppf(0.975, 2) * 0.05 / math.sqrt(3), abs=1e-4)


def test_a_declaration_that_the_trials_contradict_is_refused():
    same = [checkpoint(0, 0), checkpoint(1, 0).model_copy(update={"model_digest": "m0"})]
    with pytest.raises(UserError, match="'models/seed0' and 'models/seed1' to be two models, and they are the same"):
        as_read(same, SEEDS_OF_ONE)
    changed = [checkpoint(0, 0), checkpoint(0, 1).model_copy(update={"model_digest": "other"})]
    with pytest.raises(UserError, match="'models/seed0', which the trials have in 2 versions"):
        as_read(changed, SEEDS_OF_ONE)
    treated = [Trial(data_digest="d", model=m, model_digest=m, upstream="permute") for m in (TREATED, UNTREATED)]
    with pytest.raises(UserError, match="is declared a treated twin"):
        as_read(treated, TWINS)
    with pytest.raises(UserError, match="'small' is declared twice"):
        merged([SEEDS_OF_ONE, AnalysisPlan(pretraining_seeds={"small": ["a", "b"]})])
    assert merged([SEEDS_OF_ONE, TWINS, SEEDS_OF_ONE]).twins == TWINS.twins


def test_models_that_no_plan_names_are_read_as_they_are():
    trials = [checkpoint(0, 0), tiny(1, 0)]
    assert as_read(trials, TWINS) == trials
