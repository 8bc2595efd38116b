"""Specification curve: numbers by hand, and only measured outcomes."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from analysis.data import runs
from analysis.estimands import specification_curve
from analysis.estimands.specification_curve import specifications


@pytest.fixture(scope="module")
def wiki(made_up, primary):
    table, cells = made_up("wiki", groups=24, seeds=3)
    return specifications(table, primary), cells, table


def test_the_primary_specification_is_the_regression_of_means_over_seeds(wiki):
    frame, cells, _ = wiki
    row = frame[frame["primary"]].squeeze()
    own = cells[(cells["arm"] == "none + none") & ~cells["thin"]].groupby("group")
    names = ["words", "tokens", "log_frequency"]
    own = own[["x", "z", "y", *names]].mean()
    scaled = (own - own.mean()) / own.std()
    found = sm.OLS(scaled["y"], sm.add_constant(scaled[["x", "z", *names]])).fit(cov_type="HC3", use_t=True)
    low, high = found.conf_int().loc["x"]
    assert (row["estimate"], row["low"], row["high"]) == pytest.approx((found.params["x"], low, high))
    assert row["n"] == 23
    assert (row["metric"], row["denominator"], row["template"]) == ("ln FPR", "own negatives", specification_curve.MEAN)


def test_every_choice_varies_and_no_specification_occurs_twice(wiki):
    frame = wiki[0]
    assert not frame.duplicated(list(specification_curve.CHOICES)).any()
    assert all(len(set(frame[name])) > 1 for name in specification_curve.CHOICES)
    assert frame["template"].nunique() == 4
    assert set(frame["threshold"]) == {"0.5", "equal error", "-"}
    assert np.isfinite(frame[["estimate", "low", "high"]].to_numpy(float)).all()


def test_a_denominator_that_groups_share_changes_no_slope_and_the_others_do(wiki):
    fixed = {
        "threshold": "0.5",
        "smoothing": "1/2",
        "template": specification_curve.MEAN,
        "estimator": "OLS, HC3",
        "name": "left free",
    }
    frame = wiki[0]
    own = frame[(frame[list(fixed)] == pd.Series(fixed)).all(axis=1)].set_index("denominator")["estimate"]
    assert own["neutral words"] == pytest.approx(own["own negatives"])
    assert own["other terms"] != pytest.approx(own["own negatives"], rel=1e-9)


def test_the_log_against_others_by_hand():
    rows = [("t", "downstream", "fpr", group, "", rate, 200) for group, rate in (("a", 0.1), ("b", 0.2), ("c", 0.0))]
    frame = pd.DataFrame(rows, columns=["trial", "stage", "metric", "group", "template", "value", "n"])
    measured = specification_curve.Measured(frame.assign(arm="none + none"))
    found = specification_curve.mean_log_rate_to_others("fpr", 0.5)(measured)
    assert found["a"] == pytest.approx(np.log((20.5 / 200.5) / (40.5 / 400.5)))
    assert np.isnan(specification_curve.mean_log_rate("fpr", 0.0)(measured)["c"])  # no infinity
    assert specification_curve.mean_log_rate("fpr", 0.5)(measured)["c"] == pytest.approx(np.log(0.5 / 200.5))


def test_bios_has_its_own_outcomes(made_up, primary):
    frame = specifications(made_up("bios", groups=28)[0], primary)
    assert set(frame["metric"]) == {"TPR gap", "ln TPR ratio"}
    assert set(frame["denominator"]) == {"test set as it is", "scrubbed test set"}
    assert frame["primary"].sum() == 1


def test_fewer_than_ten_groups_and_no_untouched_arm_give_none(made_up, primary):
    table, _ = made_up("wiki")
    few = table[table["group"].isin(["", *(f"group {g}" for g in range(10))])]  # one of them is thin
    assert specifications(few, primary).empty
    assert specifications(table[table["arm"] != "none + none"], primary).empty
    assert list(specifications(few, primary).columns) == list(specification_curve.COLUMNS)


def test_categories_and_plain_words_give_the_same(made_up, primary):
    table, _ = made_up("wiki")
    pd.testing.assert_frame_equal(specifications(table, primary), specifications(runs.plain(table), primary))
