"""Dose-response: the effect of each dose, and the slope paired by seed."""

import math

import numpy as np
import pytest
from scipy import stats

from analysis.estimands import dose_response

NONE = ("none", None, "none", None)
LOW, HIGH = ("perturb", 0.5, "none", None), ("perturb", 1.0, "none", None)
BACK, FORTH = ("inject", -1.0, "none", None), ("inject", 1.0, "none", None)
BOTH = ("perturb", 1.0, "scrub", 1.0)


def linear(arm, x, z, seed, draw):
    return -1 - 0.3 * (arm[1] or 0) * (1 + 0.1 * seed) + 0.01 * draw.normal(size=len(x)) + 0.2 * (arm[2] == "scrub")


@pytest.fixture
def cells(make_cells):
    return make_cells([NONE, HIGH, LOW, BACK, FORTH, BOTH], linear, seeds=5)


def test_families_are_arms_that_differ_in_one_dose_only(cells):
    assert dose_response.families(cells) == {
        "perturb + none": {"perturb=0.5 + none": 0.5, "perturb=1 + none": 1.0},
        "inject + none": {"inject=-1 + none": -1.0, "inject=1 + none": 1.0},
    }


def test_arms_with_different_options_are_different_families(cells):
    renamed = cells.replace({"arm": {"perturb=0.5 + none": "perturb=0.5(kept) + none"}})
    assert list(dose_response.families(renamed)) == ["inject + none"]


def test_each_dose_has_its_effect(cells):
    found = dose_response.responses(cells)
    own = found[found["family"] == "perturb + none"]
    assert own["dose"].tolist() == [0.5, 1.0]
    assert own["coefficient"].tolist() == pytest.approx([-0.18, -0.36], abs=0.01)
    assert (own["low"] < own["coefficient"]).all()
    assert own["seeds"].tolist() == [5, 5]


def test_the_slope_is_fitted_within_each_seed(cells):
    own = dose_response.slopes(cells).set_index("term").loc["perturb + none"]
    wide = cells.pivot_table(index="seed", columns="arm", values="y")
    effects = [wide[arm] - wide["none + none"] for arm in ("none + none", "perturb=0.5 + none", "perturb=1 + none")]
    per_seed = np.polyfit([0.0, 0.5, 1.0], np.array(effects), 1)[0]
    oracle = stats.ttest_1samp(per_seed, 0)
    assert own["coefficient"] == pytest.approx(per_seed.mean())
    assert [own["low"], own["high"]] == pytest.approx(list(oracle.confidence_interval()))
    assert own["coefficient"] == pytest.approx(-0.36, abs=0.01)
    assert own["p"] == pytest.approx(oracle.pvalue)
    assert "per unit of dose" in own["unit"]


def test_signed_doses_and_lost_seeds(cells):
    assert dose_response.slopes(cells).set_index("term").loc["inject + none", "coefficient"] == pytest.approx(
        -0.36, abs=0.01
    )
    lost = cells[~((cells["arm"] == "perturb=1 + none") & (cells["seed"] < 3))]
    assert dose_response.slopes(lost).set_index("term").loc["perturb + none", "clusters"] == 2
    none = cells[cells["arm"] != "none + none"]
    assert dose_response.slopes(none)["reason"].str.contains("no seed and group that none").all()
    assert dose_response.responses(none)["reason"].str.contains("no seed that none").all()


def test_without_dosed_arms_there_are_no_rows(make_cells):
    cells = make_cells([NONE, LOW], linear)
    assert dose_response.responses(cells).empty
    assert dose_response.slopes(cells).empty
    assert list(dose_response.responses(cells).columns) == list(dose_response.COLUMNS)


def test_the_effect_of_an_unknown_arm_is_nan(cells):
    assert all(map(math.isnan, dose_response.mean_effect(cells, "nothing + none")))
