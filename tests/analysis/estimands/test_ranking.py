"""Trade-offs of harm and utility and the ranking by them: known answers, A's own numbers, and who is shown apart."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.data.runs import REPEATS
from analysis.estimands import arm_effects, bias_size, equivalence, ranking
from analysis.report import wording
from analysis.report.findings import _rankings
from analysis.stats.paired import NO_INTERVAL

NONE = ("none", None, "none", None)
ARMS = {
    "perturb=1 + none": (0.5, 0.010),  # 0.5 per point, 0.5 points of ROC AUC lost: .5 for 1 point
    "perturb=2 + none": (0.6, 0.030),
    "perturb=3 + none": (0.4, 0.031),  # dominated by both
    "perturb=4 + none": (-0.3, -0.010),  # more harm, more utility
    "perturb=5 + none": (-0.3, 0.020),  # dominated by doing nothing as well
}
"""Arm -> harm reduced, utility lost."""


def made(make_cells, seeds=6, noise=0.02, arms=ARMS, cost_noise=0.0005):
    """(table, cells) with the arms' effects, and noise that harm and utility of a seed share."""
    keys = [NONE, *(("perturb", float(arm[8]), "none", None) for arm in arms)]
    draws = np.random.default_rng(3).normal(size=(len(keys), seeds, 2))

    def y(arm, x, z, seed, draw):
        effect = arms.get(f"perturb={arm[1]:g} + none", (0, 0))[0] if arm[1] else 0
        return np.linspace(-2, -1, len(x)) - effect + noise * draws[keys.index(arm), seed, 0]

    cells = make_cells(keys, y, seeds=seeds, moved=1.0)
    trials = cells.drop_duplicates("trial").assign(stage="utility", metric="roc_auc", group="", template="", n=100)
    cost = [arms.get(arm, (0, 0))[1] for arm in trials["arm"]]
    shared = np.concatenate([0.6 * draws[number, :, 0] + 0.8 * draws[number, :, 1] for number in range(len(keys))])
    return trials.assign(value=0.9 - np.array(cost) + cost_noise * shared), cells


def by_arm(frame):
    return frame.set_index("arm")


def test_arms_are_ranked_by_dominance_and_then_by_the_ratio(make_cells):
    found = ranking.ranking(*made(make_cells))
    assert [int(arm[8]) for arm in found["arm"]] == [1, 2, 4, 3, 5]
    assert found["rank"].tolist() == [1, 2, 3, 4, 5]
    rows = by_arm(found)
    assert rows["layer"].tolist() == [1, 1, 1, 2, 2]
    assert rows.loc["perturb=1 + none", "dominated_by"] == ""
    assert rows.loc["perturb=3 + none", "dominated_by"] == "perturb=1 + none, perturb=2 + none"
    assert rows.loc["perturb=5 + none", "dominated_by"].split(", ")[0] == "none + none"
    assert rows.loc["perturb=1 + none", "ratio"] == pytest.approx(0.5, rel=0.1)  # ln FPR per point
    assert rows.loc["perturb=1 + none", "ratio_low"] < 0.5 < rows.loc["perturb=1 + none", "ratio_high"]
    assert np.isnan(rows.loc["perturb=4 + none", ["ratio", "ratio_low", "ratio_high"]].astype(float)).all()


def test_harm_is_estimand_a_and_the_correlation_is_that_of_the_paired_differences(make_cells):
    table, cells = made(make_cells)
    found, effects = by_arm(ranking.ranking(table, cells)), arm_effects.arm_effects(cells, 99).set_index("term")
    for arm in ARMS:
        row, own = found.loc[arm], effects.loc[arm]
        assert [-row["harm_reduced"], row["harm_p"], row["harm_p_adjusted"]] == pytest.approx(
            [own["coefficient"], own["p"], own["p_adjusted"]]
        )
        assert [-row["harm_high"], -row["harm_low"]] == pytest.approx([own["low"], own["high"]])
    y, cost = (frame.pivot_table(index="seed", columns="arm", values=name)
               for frame, name in ((cells, "y"), (table, "value")))  # fmt: skip
    moved, lost = y["none + none"] - y["perturb=1 + none"], cost["none + none"] - cost["perturb=1 + none"]
    row = found.loc["perturb=1 + none"]
    assert row["correlation"] == pytest.approx(np.corrcoef(moved, lost)[0, 1])
    for end in ("ratio_low", "ratio_high"):
        assert stats.ttest_1samp(moved - 100 * row[end] * lost, 0).pvalue == pytest.approx(0.05)
    assert row["harm_joint_low"] < row["harm_low"] < row["harm_high"] < row["harm_joint_high"]


def test_of_an_outcome_with_a_zero_harm_is_the_size_of_bias(made_up):
    table, cells = made_up("bios", seeds=4)
    found, sizes = by_arm(ranking.ranking(table, cells)), bias_size.size_changes(cells).set_index("term")
    main = found[found["main"]]
    assert set(main["utility"]) == {"accuracy"}
    for arm, row in main.iterrows():
        own = sizes.loc[arm]
        assert [-row["harm_reduced"], -row["harm_high"], -row["harm_low"]] == pytest.approx(
            [own["coefficient"], own["low"], own["high"]]
        )
        assert -1 <= row["correlation"] <= 1


def test_a_utility_loss_that_may_be_0_has_no_ratio_and_no_infinity(make_cells):
    arms = {"perturb=1 + none": (0.5, 0.0002)}
    found = ranking.ranking(*made(make_cells, arms=arms, cost_noise=0.002))
    (row,) = found.to_dict("records")
    assert math.isnan(row["ratio"])
    assert row["ratio_low"] > 0
    assert math.isnan(row["ratio_high"])
    assert not np.isinf(found.select_dtypes("number").to_numpy(float)).any()
    (sentence,) = wording.sentences("ranking", found)
    assert "utility loss not distinguishable from 0; if any was lost, harm fell by at least" in sentence
    assert "inf" not in sentence
    assert "nan" not in sentence


def test_one_seed_is_not_ranked_and_says_why(make_cells):
    table, cells = made(make_cells, seeds=1)
    found = ranking.ranking(table, cells)
    assert set(found["standing"]) == {ranking.NOT_RANKED}
    assert found[["rank", "harm_low", "utility_low", "ratio", "harm_p"]].isna().to_numpy().all()
    assert found["reason"].str.contains(NO_INTERVAL).all()
    pairs = ranking.dominance(table, cells, found)
    assert pairs.empty
    (section,) = _rankings(found, pairs)
    assert [block.title for block in section.blocks[1:]] == [wording.APART[ranking.NOT_RANKED]]


def test_controls_and_failed_checks_stand_apart(make_cells):
    table, cells = made(make_cells)
    displaced = equivalence.displacements(cells)
    assert ranking.apart(table, cells, displaced, ()) == {}
    still = displaced.assign(moved=[arm != "perturb=1 + none" for arm in displaced["arm"]])
    standing = ranking.apart(table, cells, still, {f"perturb=2 + none {seed}" for seed in range(6)})
    assert standing == {
        ("a study", "perturb=1 + none"): ranking.FAILED,
        ("a study", "perturb=2 + none"): ranking.CONTROL,
    }
    found = ranking.ranking(table, cells, standing)
    rows = by_arm(found)
    assert found["standing"].tolist()[-2:] == [ranking.FAILED, ranking.CONTROL]
    assert rows["rank"].isna().tolist() == [False, False, False, True, True]
    assert "perturb=1 + none" not in ", ".join(rows["dominated_by"])
    assert rows["harm_p_adjusted"].tolist() == pytest.approx(
        by_arm(ranking.ranking(table, cells)).loc[rows.index, "harm_p_adjusted"].tolist()
    )  # Holm's family is that of A: all arms
    unknown = displaced.assign(moved=None)
    assert ranking.apart(table, cells, unknown, ()) == {}


def test_an_arm_that_reached_no_prompt_failed(make_cells):
    table, cells = made(make_cells)
    reached = table.assign(stage="dataset", metric="prompt_changed", value=0.0)
    told = pd.concat([table, reached[reached["arm"] == "perturb=4 + none"]])
    assert ranking.apart(told, cells, equivalence.displacements(cells), ()) == {
        ("a study", "perturb=4 + none"): ranking.FAILED
    }


def test_dominance_takes_both_tests_and_holm_over_all_pairs(make_cells):
    table, cells = made(make_cells)
    pairs = ranking.dominance(table, cells, ranking.ranking(table, cells))
    key = pairs.set_index(["arm", "dominated"])
    row = key.loc[("perturb=1 + none", "perturb=3 + none")]
    y, cost = (frame.pivot_table(index="seed", columns="arm", values=name)
               for frame, name in ((cells, "y"), (table, "value")))  # fmt: skip
    tests = [stats.ttest_rel(own["perturb=1 + none"], own["perturb=3 + none"]).pvalue for own in (y, cost)]
    assert row["p"] == pytest.approx(max(tests))
    assert row["established"]
    assert set(pairs["pairs"]) == {15}  # of five arms and the untouched one
    assert (pairs["p_adjusted"] >= pairs["p"]).all()
    texts = dict(zip(key.index, wording.sentences("dominance", pairs), strict=True))
    assert texts["perturb=1 + none", "perturb=3 + none"].startswith("perturb=1 + none dominates perturb=3 + none: -")
    assert "and +2.1" in texts["perturb=1 + none", "perturb=3 + none"]  # points of ROC AUC


@pytest.mark.long
def test_noise_is_hardly_ever_called_dominance(make_cells):
    """Arms that do nothing: a false claim in at most 5 % of samples; both tests have to fail at once."""
    arms = {f"perturb={number} + none": (0.0, 0.0) for number in range(1, 4)}
    claimed = 0
    for number in range(20):
        table, cells = made(make_cells, arms=arms)
        draw = np.random.default_rng(number)
        shocks = dict(zip(cells["trial"].unique(), draw.normal(0, 0.1, cells["trial"].nunique()), strict=True))
        cells = cells.assign(y=cells["y"] + cells["trial"].map(shocks))
        table = table.assign(value=0.9 + draw.normal(0, 0.01, len(table)))
        claimed += ranking.dominance(table, cells, ranking.ranking(table, cells))["established"].any()
    assert claimed <= 2


def test_models_are_the_sample_where_there_are_several(make_cells):
    table, cells = made(make_cells)
    table, cells = (frame.assign(replicate=frame["seed"] % 2) for frame in (table, cells))
    row = by_arm(ranking.ranking(table, cells)).loc["perturb=1 + none"]
    assert (row["clusters"], row["models"], row["seeds"]) == (2, 2, 6)
    y = cells.pivot_table(index=["replicate", "seed"], columns="arm", values="y")
    means = (y["none + none"] - y["perturb=1 + none"]).groupby(level="replicate").mean()
    assert row["harm_p"] == pytest.approx(stats.ttest_1samp(means, 0).pvalue)


def test_draws_of_a_random_arm_are_crossed_with_seeds(make_cells):
    table, cells = made(make_cells, seeds=4, arms={"perturb=1 + none": (0.5, 0.01)})
    draw = np.random.default_rng(0)

    def drawn(frame, name, spread):
        treated = frame[frame["arm"] != "none + none"]
        copies = [
            treated.assign(draw=number, trial=treated["trial"] + f" {number}", **{name: treated[name] + shift})
            for number, shift in enumerate(draw.normal(0, spread, 3))
        ]
        return pd.concat([frame[frame["arm"] == "none + none"], *copies])

    (row,) = ranking.ranking(drawn(table, "value", 0.001), drawn(cells, "y", 0.05)).to_dict("records")
    assert (row["draws"], row["seeds"], row["standing"]) == (3, 12, ranking.RANKED)
    assert row["harm_low"] < 0.5 < row["harm_high"]
    assert row["ratio_low"] < row["ratio"] < row["ratio_high"]
    assert set(REPEATS) <= set(cells.columns)
