"""Estimands on tables with planted coefficients, clustered errors by hand, and refused data."""

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

from analysis.data import runs
from analysis.estimands import arm_effects, caveats, slopes
from analysis.estimands.rows import saturation, unlogged
from analysis.report import limitations, wording


def row(frame, estimand, term):
    (found,) = frame[(frame["estimand"] == estimand) & (frame["term"] == term)].to_dict("records")
    return found


@pytest.fixture(scope="module")
def cells(cells_of):
    return cells_of()


@pytest.fixture(scope="module")
def found(cells):
    return slopes.estimate(cells)


@pytest.mark.parametrize("estimand", ["B", "W"])
def test_planted_coefficients_are_recovered(found, estimand):
    assert row(found, estimand, "x")["coefficient"] == pytest.approx(0.3, abs=0.02)
    assert row(found, estimand, "z")["coefficient"] == pytest.approx(0.2, abs=0.02)
    difference = row(found, estimand, "x - z")
    assert difference["coefficient"] == pytest.approx(
        row(found, estimand, "x")["coefficient"] - row(found, estimand, "z")["coefficient"]
    )
    assert difference["low"] < 0.1 < difference["high"]


@pytest.mark.parametrize("estimand", ["B", "W"])
def test_without_a_planted_slope_none_is_found(estimand, cells_of):
    """The negative control: with beta 0 the same code finds 0, so 0.3 above is no artefact."""
    none = slopes.estimate(cells_of(beta=0.0))
    assert row(none, estimand, "x")["coefficient"] == pytest.approx(0.0, abs=0.02)
    assert row(none, estimand, "z")["coefficient"] == pytest.approx(0.2, abs=0.02)


def test_displacement_is_not_fooled_by_a_shared_cause_and_between_is(cells):
    """A cause that x and y share raises B; group effects remove it from W."""
    shared = cells.groupby("group")["x"].transform("mean") / cells["x_scale"]
    confounded = slopes.estimate(cells.assign(y=cells["y"] + shared))
    assert row(confounded, "W", "x")["coefficient"] == pytest.approx(0.3, abs=0.02)
    assert row(confounded, "B", "x")["coefficient"] > 0.7


def test_displacement_leaves_out_the_arms_that_change_what_is_learned(cells, found):
    kept = cells[cells["upstream"] != "reinitialise"]
    pd.testing.assert_frame_equal(slopes.displacement(cells), slopes.displacement(kept))
    assert row(found, "W", "x")["n"] == 3 * 4 * 40


def crv1(design, y, groups, counted):
    """Coefficients and the covariance of Liang and Zeger with Stata's factor, written out."""
    bread = np.linalg.inv(design.T @ design)
    coefficients = bread @ design.T @ y
    residual = y - design @ coefficients
    scores = [design[groups == name].T @ residual[groups == name] for name in np.unique(groups)]
    meat = sum(np.outer(score, score) for score in scores)
    n, g = len(y), len(np.unique(groups))
    return coefficients, bread @ meat @ bread * g / (g - 1) * (n - 1) / (n - counted)


def test_between_equals_crv1_by_hand_and_statsmodels(cells, found):
    untouched = cells[(cells["arm"] == runs.UNTOUCHED) & ~cells["thin"]].groupby("group").mean(numeric_only=True)
    design = np.column_stack(
        [np.ones(len(untouched)), untouched["x"] / untouched["x_scale"], untouched["z"] / untouched["z_scale"]]
    )
    groups = np.arange(len(untouched))
    coefficients, covariance = crv1(design, untouched["y"].to_numpy(), groups, 3)
    oracle = sm.OLS(untouched["y"].to_numpy(), design).fit(cov_type="cluster", cov_kwds={"groups": groups}, use_t=True)
    mine = row(found, "B", "x")
    assert mine["coefficient"] == pytest.approx(coefficients[1], rel=1e-9)
    assert mine["crv1_error"] == pytest.approx(math.sqrt(covariance[1, 1]), rel=1e-9)
    assert mine["crv1_error"] == pytest.approx(oracle.bse[1], rel=1e-9)
    assert [mine["crv1_low"], mine["crv1_high"]] == pytest.approx(list(oracle.conf_int()[1]), rel=1e-9)
    spread = covariance[1, 1] + covariance[2, 2] - 2 * covariance[1, 2]
    assert row(found, "B", "x - z")["crv1_error"] == pytest.approx(math.sqrt(spread), rel=1e-9)


def test_displacement_equals_the_regression_with_all_dummies_by_hand(cells):
    own = cells[cells["upstream"] != "reinitialise"]
    mine = row(slopes.displacement(own), "W", "x")
    effects = pd.get_dummies(own[["group", "trial"]].astype("category"), dtype=float).to_numpy()
    design = np.column_stack([own["x"] / own["x_scale"], own["z"] / own["z_scale"]])
    within = lambda values: values - effects @ np.linalg.lstsq(effects, values, rcond=None)[0]  # noqa: E731
    counted = 2 + own["trial"].nunique()
    coefficients, covariance = crv1(within(design), within(own["y"].to_numpy()), own["group"].to_numpy(), counted)
    assert mine["coefficient"] == pytest.approx(coefficients[0], rel=1e-8)
    assert mine["crv1_error"] == pytest.approx(math.sqrt(covariance[0, 0]), rel=1e-8)
    reach = stats.t.ppf(0.975, own["group"].nunique() - 1) * mine["crv1_error"]
    ends = [mine["coefficient"] - reach, mine["coefficient"] + reach]
    assert [mine["crv1_low"], mine["crv1_high"]] == pytest.approx(ends)
    assert mine["clusters"] == 40


def test_groups_that_a_trial_lacks_are_left_out_of_displacement_and_named(cells):
    """All trials have the same groups; a trial without any is dropped first."""
    holes = cells.copy()
    holes.loc[(holes["group"] == "g3") & (holes["seed"] == 1), "y"] = math.nan
    holes.loc[holes["trial"] == holes["trial"].iloc[0], "x"] = math.nan
    mine = row(slopes.displacement(holes), "W", "x")
    kept = cells[(cells["group"] != "g3") & (cells["trial"] != holes["trial"].iloc[0])]
    assert mine["coefficient"] == pytest.approx(row(slopes.displacement(kept), "W", "x")["coefficient"], rel=1e-9)
    assert mine["clusters"] == 39
    assert mine["reason"] == "left out: g3 (missing in some trial)"


def test_x_is_standardised_by_the_untouched_model_whatever_the_arms(cells):
    untouched = cells[cells["arm"] == runs.UNTOUCHED].groupby("group")["x"].mean()
    assert cells["x_scale"].unique() == pytest.approx([untouched.std()])
    assert row(slopes.estimate(cells), "B", "x")["scale"] == pytest.approx(untouched.std())


def test_an_arm_effect_is_the_mean_paired_difference_with_a_t_interval_over_seeds(cells, found):
    wide = cells.pivot_table(index=["group", "seed"], columns="arm", values="y")
    means = (wide["reinitialise=1 + none"] - wide[runs.UNTOUCHED]).groupby("seed").mean()
    mine, oracle = row(found, "A", "reinitialise=1 + none"), stats.ttest_1samp(means, 0)
    assert mine["coefficient"] == pytest.approx(means.mean())
    assert mine["coefficient"] == pytest.approx(-0.8, abs=0.3)  # what reinitialise takes off y in all groups
    assert [mine["low"], mine["high"]] == pytest.approx(list(oracle.confidence_interval()))
    assert (mine["n"], mine["clusters"]) == (160, 4)
    assert row(found, "A", "none + scrub=1")["coefficient"] < 0


def test_arm_effects_pair_by_seed_and_not_by_order(cells):
    one_lost = cells[~((cells["arm"] == "perturb=0.5 + none") & (cells["seed"] == 0))]
    mine = row(arm_effects.arm_effects(one_lost), "A", "perturb=0.5 + none")
    wide = one_lost.pivot_table(index=["group", "seed"], columns="arm", values="y").dropna()
    assert mine["clusters"] == 3
    assert mine["coefficient"] == pytest.approx((wide["perturb=0.5 + none"] - wide[runs.UNTOUCHED]).mean())


def test_a_group_that_is_never_mentioned_is_left_out_and_not_counted_as_0(cells_of):
    cells = cells_of(unseen=5)
    found = slopes.estimate(cells)
    assert cells.loc[cells["group"] == "g0", "z"].isna().all()
    assert row(found, "B", "x")["n"] == 35
    assert row(found, "W", "z")["clusters"] == 35
    assert row(found, "B", "z")["coefficient"] == pytest.approx(0.2, abs=0.02)
    assert row(found, "A", "none + scrub=1")["n"] == 160  # no dataset bias enters
    (said,) = limitations.left_out(caveats.left_out(cells))
    assert "5 that the fine-tuning set never mentions (g0, g1, g2, g3, g4)" in said


@pytest.mark.parametrize(("groups", "fitted"), [(9, False), (10, True)])
def test_fewer_than_ten_groups_are_refused(groups, fitted, cells_of):
    found = slopes.estimate(cells_of(groups=groups))
    for estimand in ("B", "W"):
        mine = row(found, estimand, "x")
        assert math.isfinite(mine["coefficient"]) == fitted
        assert (
            bool(wording.sentences("coefficients", found[(found["estimand"] == estimand) & (found["term"] == "x")])[0])
            == fitted
        )
        assert fitted or "9 groups" in mine["reason"]
    assert math.isfinite(row(found, "A", "none + scrub=1")["coefficient"])


def test_a_constant_regressor_has_a_reason_and_the_other_one_a_number(cells):
    found = slopes.estimate(cells[cells["arm"].isin([runs.UNTOUCHED, "perturb=0.5 + none"])])
    assert row(found, "W", "z")["reason"] == "z does not vary within groups and trials"
    assert math.isnan(row(found, "W", "z")["coefficient"])
    assert row(found, "W", "x")["coefficient"] == pytest.approx(0.3, abs=0.02)
    flat = slopes.between(cells.assign(x=0.1 + 0.2, x_scale=0.0))
    assert "x does not vary" in row(flat, "B", "x")["reason"]
    assert math.isnan(row(flat, "B", "x")["coefficient"])
    assert math.isfinite(row(flat, "B", "z")["coefficient"])


def test_collinear_regressors_are_refused(cells):
    same = cells.assign(z=1.0 - 2 * cells["x"], z_scale=2 * cells["x_scale"])
    mine = row(slopes.between(same), "B", "x")
    assert "rank deficient" in mine["reason"]
    assert math.isnan(mine["coefficient"])


def test_an_outcome_that_does_not_vary_is_refused(cells):
    assert "the outcome does not vary" in row(slopes.between(cells.assign(y=-1.0)), "B", "x")["reason"]


def test_a_single_arm_has_b_alone(cells_of):
    cells = cells_of(arms=[("none", "none")])
    found = slopes.estimate(cells)
    assert row(found, "B", "x")["coefficient"] == pytest.approx(0.3, abs=0.02)
    assert "a single arm displaces nothing" in row(found, "W", "x")["reason"]
    assert not (found["estimand"] == "A").any()
    assert caveats.paired_seeds(cells).arms == 0


def test_a_single_seed_gives_no_interval(cells_of):
    cells = cells_of(seeds=1)
    mine = row(slopes.estimate(cells), "A", "none + scrub=1")
    assert math.isfinite(mine["coefficient"])
    assert math.isnan(mine["low"])
    assert mine["reason"] == "one seed gives no interval"
    assert "no interval" in wording.arm_effect(mine)
    assert "nan" not in wording.arm_effect(mine)
    assert caveats.paired_seeds(cells).fewest == 1


def test_without_the_untouched_arm_nothing_can_be_standardised(cells_of):
    found = slopes.estimate(cells_of(arms=[("perturb", "none"), ("none", "scrub")]))
    assert "no finished untouched trial" in row(found, "B", "x")["reason"]
    assert "no finished untouched trial" in row(found, "W", "x")["reason"]
    assert "no seed" in row(found, "A", "none + scrub=1")["reason"]
    assert all(math.isnan(row(found, "W", term)["coefficient"]) for term in ("x", "z", "x - z"))
    assert math.isfinite(row(found, "W", "z_log")["coefficient"])  # it needs no standard


def test_for_a_saturated_outcome_the_logit_gap_is_added(simulate, primary):
    table = simulate(level=-9.0, beta=0.1, gamma=0.1)
    first, second = slopes.outcomes(table, primary)
    assert runs.UNTOUCHED in set(saturation(first)["arm"])
    untouched = saturation(first).set_index("arm").loc[runs.UNTOUCHED]
    assert (untouched["saturated"], untouched["trials"]) == (4, 4)
    assert row(slopes.estimate(second), "B", "x")["coefficient"] == pytest.approx(0.1, abs=0.02)
    assert "logits" in wording.association(row(slopes.estimate(second), "B", "x"))
    assert len(slopes.outcomes(simulate(), primary)) == 1


def test_for_a_logarithm_that_is_missing_in_all_groups_the_logit_gap_is_added(simulate, primary):
    """With 40 phrases per term. A single group that has 100 keeps the outcome."""
    table = simulate(beta=0.1, gamma=0.1)
    assert unlogged(slopes.outcomes(table, primary)[0]) == {}
    table.loc[table["metric"] == "fpr", "n"] = 40
    first, second = slopes.outcomes(table, primary)
    assert [*unlogged(first).values()] == [40]
    assert first["y"].isna().all()
    assert {*second["outcome"]} == {"logit_gap"}
    assert second["y"].notna().any()
    table.loc[(table["metric"] == "fpr") & (table["group"] == table["group"].iloc[-1]), "n"] = 100
    assert len(slopes.outcomes(table, primary)) == 1


def test_studies_are_kept_apart(cells):
    other = cells.assign(study="another", y=cells["y"] - cells["x"] / cells["x_scale"], trial="other " + cells["trial"])
    both = slopes.estimate(pd.concat([cells, other], ignore_index=True))
    own = both[both["study"] == "another"]
    assert row(own, "B", "x")["coefficient"] == pytest.approx(-0.7, abs=0.02)
    first = both[both["study"] != "another"].reset_index(drop=True)
    pd.testing.assert_frame_equal(first[first["estimand"] == "B"], slopes.between(cells))
