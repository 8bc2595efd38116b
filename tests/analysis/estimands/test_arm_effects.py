"""Estimand A: paired by seed, against scipy and by hand; corrections; missing pairs are named."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.estimands import arm_effects
from analysis.report import wording
from analysis.stats.paired import IDENTICAL, NO_INTERVAL, crossed

NONE = ("none", None, "none", None)
PERTURB, SCRUB = ("perturb", 0.5, "none", None), ("none", None, "scrub", 1.0)


def shocked(arm, x, z, seed, draw):
    """One shock per trial; perturb subtracts 0.5, scrub nothing."""
    return -1 + 0.2 * x + draw.normal(0, 0.05) + draw.normal(0, 0.05, len(x)) - 0.5 * (arm[0] == "perturb")


@pytest.fixture
def cells(make_cells):
    return make_cells([NONE, PERTURB, SCRUB], shocked, seeds=6)


def test_the_effect_is_scipys_paired_t_test(cells):
    found = arm_effects.arm_effects(cells).set_index("term")
    wide = cells.pivot_table(index="seed", columns="arm", values="y")
    oracle = stats.ttest_rel(wide["perturb=0.5 + none"], wide["none + none"])
    mine = found.loc["perturb=0.5 + none"]
    assert mine["p"] == pytest.approx(oracle.pvalue)
    assert [mine["low"], mine["high"]] == pytest.approx(list(oracle.confidence_interval()))
    assert [mine["low_90"], mine["high_90"]] == pytest.approx(list(oracle.confidence_interval(0.9)))
    assert mine["p_permutation"] == 2 / 64
    assert mine["low"] < -0.5 < mine["high"]
    assert found.loc["none + scrub=1", "p"] > 0.05


def test_holm_over_the_arms_of_a_study(cells, make_cells):
    both = pd.concat([cells, make_cells([NONE, PERTURB], shocked, study="another", number=1)])
    found = arm_effects.arm_effects(both)
    own = found[found["study"] == "a study"].sort_values("p")
    assert own["p_adjusted"].iloc[0] == pytest.approx(2 * own["p"].iloc[0])
    assert own["p_adjusted"].iloc[1] == pytest.approx(own["p"].iloc[1])
    (other,) = found[found["study"] == "another"].to_dict("records")
    assert other["p_adjusted"] == pytest.approx(other["p"])


def test_pairing_removes_what_all_trials_of_a_seed_share(cells):
    """The negative control: without pairing, a shock that both arms of a seed share would widen the interval."""
    shocks = pd.Series(np.random.default_rng(0).normal(0, 5, 6))
    moved = cells.assign(y=cells["y"] + cells["seed"].map(shocks))
    columns = ["coefficient", "low", "high"]
    first, second = (arm_effects.arm_effects(one)[columns].to_numpy(float) for one in (cells, moved))
    assert first == pytest.approx(second)
    wide = moved.pivot_table(index="seed", columns="arm", values="y")
    unpaired = stats.ttest_ind(wide["perturb=0.5 + none"], wide["none + none"]).confidence_interval()
    assert unpaired.high - unpaired.low > 10 * (second[0, 2] - second[0, 1])


def test_group_effects_are_corrected_over_groups(cells):
    found = arm_effects.group_effects(
        cells.assign(y=cells["y"] - 0.5 * ((cells["group"] == "g03") & (cells["upstream"] != "none")))
    )
    own = found[found["arm"] == "perturb=0.5 + none"].set_index("group")
    assert len(own) == 20
    assert own["coefficient"].idxmin() == "g03"
    assert (own["q"] >= own["p"]).all()
    assert own["q"].max() == pytest.approx(own["p"].max())
    wide = cells[cells["group"] == "g05"].pivot_table(index="seed", columns="arm", values="y")
    assert own.loc["g05", "p"] == pytest.approx(stats.ttest_rel(wide["perturb=0.5 + none"], wide["none + none"]).pvalue)


def test_power_gives_the_detectable_effect_and_the_seeds_needed(cells):
    mine = arm_effects.power(cells, effect=0.1).set_index("arm").loc["none + scrub=1"]
    wide = cells.pivot_table(index="seed", columns="arm", values="y")
    spread = (wide["none + scrub=1"] - wide["none + none"]).std()
    assert mine["spread"] == pytest.approx(spread)
    assert mine["detectable"] == pytest.approx(spread * mine["detectable_sd"])
    assert mine["seeds"] == 6
    assert 2 < mine["seeds_needed"] < 50


def trial(replicate=0, draw=-1, seed=0):
    return {"replicate": replicate, "draw": draw, "seed": seed}


def utilities(values):
    rows = [
        {"study": "s", "arm": arm, "stage": "utility", "metric": "accuracy", "group": "", "value": value}
        | trial(seed=seed)
        for arm, own in values.items()
        for seed, value in enumerate(own)
    ]
    return pd.DataFrame(rows)


def test_utility_is_paired_by_seed():
    own = arm_effects.utility(utilities({"none + none": [0.8, 0.9, 0.7], "a + none": [0.7, 0.85, 0.6]})).set_index(
        "arm"
    )
    oracle = stats.ttest_1samp([-0.1, -0.05, -0.1], 0)
    assert own.loc["none + none", "value"] == pytest.approx(0.8)
    assert math.isnan(own.loc["none + none", "difference"])
    assert own.loc["a + none", "p"] == pytest.approx(oracle.pvalue)
    assert [own.loc["a + none", "low"], own.loc["a + none", "high"]] == pytest.approx(
        list(oracle.confidence_interval())
    )


def test_utility_without_a_pair_is_named():
    own = arm_effects.utility(utilities({"a + none": [0.7]}))
    assert "no seed that none + none has" in own["reason"].iloc[0]
    single = arm_effects.utility(utilities({"none + none": [0.8], "a + none": [0.7]})).set_index("arm").loc["a + none"]
    assert single["difference"] == pytest.approx(-0.1)
    assert single["reason"] == NO_INTERVAL


def test_a_single_seed_gives_an_effect_without_interval_and_a_single_arm_none(make_cells):
    single = arm_effects.arm_effects(make_cells([NONE, PERTURB], shocked, seeds=1)).iloc[0]
    assert math.isfinite(single["coefficient"])
    assert math.isnan(single["low"])
    assert math.isnan(single["p_adjusted"])
    assert single["reason"] == NO_INTERVAL
    alone = make_cells([NONE], shocked)
    assert arm_effects.arm_effects(alone).empty
    assert arm_effects.group_effects(alone).empty
    assert arm_effects.power(alone).empty
    (lost,) = arm_effects.arm_effects(make_cells([PERTURB], shocked)).to_dict("records")
    assert "no seed that none + none has" in lost["reason"]


def test_identical_differences_have_neither_interval_nor_p(make_cells):
    cells = make_cells([NONE, PERTURB], lambda arm, x, z, seed, draw: x - (arm[0] == "perturb"))
    for found in (arm_effects.arm_effects(cells).iloc[0], arm_effects.group_effects(cells).iloc[0]):
        assert found["coefficient"] == pytest.approx(-1.0)
        assert found[["low", "high", "p"]].isna().all()
        assert found["reason"] == IDENTICAL
    power = arm_effects.power(cells, effect=0.1).iloc[0]
    assert power[["spread", "detectable", "seeds_needed"]].isna().all()
    same = utilities({"none + none": [0.8, 0.9, 0.7], "a + none": [0.7, 0.8, 0.6]})
    utility = arm_effects.utility(same).set_index("arm").loc["a + none"]
    assert utility[["low", "high", "p"]].isna().all()
    assert utility["reason"] == IDENTICAL


def test_models_are_counted_and_not_their_seeds(make_cells):
    """Six seeds of three models: every number is that of scipy on the three means."""
    cells = make_cells([NONE, PERTURB], shocked, seeds=6)
    nested = cells.assign(replicate=cells["seed"] // 2)
    wide = cells.pivot_table(index="seed", columns="arm", values="y")
    means = (wide["perturb=0.5 + none"] - wide["none + none"]).to_numpy().reshape(3, 2).mean(axis=1)
    oracle = stats.ttest_1samp(means, 0)
    effect = arm_effects.arm_effects(nested).iloc[0]
    assert effect["p"] == pytest.approx(oracle.pvalue)
    assert [effect["low"], effect["high"]] == pytest.approx(list(oracle.confidence_interval()))
    assert effect[["seeds", "models", "clusters"]].tolist() == [6, 3, 3]
    assert effect["p_permutation"] == 2 / 2**3
    power = arm_effects.power(nested).iloc[0]
    assert power["spread"] == pytest.approx(means.std(ddof=1))
    assert power["detectable_sd"] == pytest.approx(3.26, abs=0.01)  # of three units
    group = arm_effects.group_effects(nested)
    assert group["q"].isna().all()  # three models
    assert (group["reason"] == arm_effects.FEW_FOR_Q).all()
    of_group = (
        cells[cells["group"] == "g05"].pivot_table(index="seed", columns="arm", values="y").diff(axis=1).iloc[:, 1]
    )
    assert group.set_index("group").loc["g05", "p"] == pytest.approx(
        stats.ttest_1samp(of_group.to_numpy().reshape(3, 2).mean(axis=1), 0).pvalue
    )
    sentences = [wording.arm_effect(row) for row in (effect, arm_effects.arm_effects(cells).iloc[0])]
    assert "3 models with 6 paired seeds in all" in sentences[0]
    assert sentences[0].endswith(", over 3 models).")
    assert sentences[1].endswith(", for this checkpoint).")


def test_utility_counts_models():
    table = utilities({"none + none": [0.8, 0.9, 0.7, 0.6], "a + none": [0.7, 0.85, 0.6, 0.58]})
    own = arm_effects.utility(table.assign(replicate=table["seed"] // 2)).set_index("arm").loc["a + none"]
    assert own["p"] == pytest.approx(stats.ttest_1samp([-0.075, -0.06], 0).pvalue)


def test_draws_are_pooled_and_paired_with_the_one_untouched_trial_of_their_seed(make_cells):
    cells = make_cells([NONE, PERTURB], shocked, seeds=4)
    drawn = [make_cells([NONE, PERTURB], shocked, seeds=4, number=5 + draw).assign(draw=draw) for draw in range(3)]
    pooled = pd.concat([cells[cells["arm"] == "none + none"], *(of[of["upstream"] == "perturb"] for of in drawn)])
    effect = arm_effects.arm_effects(pooled).iloc[0]
    base = cells[cells["arm"] == "none + none"].groupby("seed")["y"].mean().to_numpy()
    y = np.stack([of[of["upstream"] == "perturb"].groupby("seed")["y"].mean().to_numpy() - base for of in drawn])
    assert effect["coefficient"] == pytest.approx(y.mean())
    assert effect["standard_error"] == pytest.approx(crossed(y).error)
    assert effect[["seeds", "draws", "clusters"]].tolist() == [12, 3, 3]
    assert "3 draws with 12 paired seeds in all" in wording.arm_effect(effect)
    lost = pooled[~((pooled["draw"] == 2) & (pooled["seed"] == 3))]
    assert arm_effects.arm_effects(lost).iloc[0]["seeds"] == 9  # the seeds that all draws have


def test_fewer_than_four_seeds_have_no_q(make_cells):
    for seeds in (3, 4):
        found = arm_effects.group_effects(make_cells([NONE, PERTURB], shocked, seeds=seeds))
        assert found["p"].notna().all()
        assert found["q"].notna().all() == (seeds == 4)
