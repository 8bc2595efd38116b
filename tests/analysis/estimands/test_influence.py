"""Influence against refitting, and variance inflation against statsmodels."""

import numpy as np
import pytest
from statsmodels.stats.outliers_influence import variance_inflation_factor

from analysis.estimands import influence, slopes
from analysis.report import wording

NONE, PERTURB, SCRUB = ("none", None, "none", None), ("perturb", 0.5, "none", None), ("none", None, "scrub", 1.0)


def noisy(arm, x, z, seed, draw):
    return -1 + 0.3 * x + 0.2 * z + draw.normal(0, 0.1, len(x))


@pytest.fixture
def cells(make_cells):
    return make_cells([NONE, PERTURB, SCRUB], noisy, moved=0.5)


def test_influence_is_that_of_refitting_without_each_group(cells):
    found = influence.influence(cells).set_index(["estimand", "term"])
    for estimand, fit in (("B", slopes.between), ("W", slopes.displacement)):
        without = {}
        for group in cells["group"].unique():
            again = fit(cells[cells["group"] != group], 9).set_index("term")
            without[group] = again.loc["x", "coefficient"]
        own = found.loc[(estimand, "x")]
        largest = max(without, key=lambda group: abs(without[group] - own["coefficient"]))
        assert own["group"] == largest
        assert own["without"] == pytest.approx(without[largest])
        assert (own["lowest"], own["highest"]) == pytest.approx((min(without.values()), max(without.values())))
        assert largest in wording.influence({**own, "estimand": estimand, "term": "x"})


def test_an_outlier_is_the_most_influential_group(cells):
    odd = cells.assign(x=cells["x"] + 1.5 * (cells["group"] == "g07"), y=cells["y"] - 3 * (cells["group"] == "g07"))
    own = influence.influence(odd).set_index(["estimand", "term"]).loc[("B", "x")]
    assert own["group"] == "g07"
    assert own["without"] == pytest.approx(0.3, abs=0.15)
    assert own["coefficient"] < 0


def test_inflation_is_that_of_statsmodels(cells):
    means = slopes.group_means(cells)
    design = np.column_stack([np.ones(len(means)), means["x"], means["z"]])
    own = influence.inflation(cells).set_index("estimand").loc["B"]
    assert own["inflation"] == pytest.approx(variance_inflation_factor(design, 1))
    assert own["correlation"] == pytest.approx(np.corrcoef(means["x"], means["z"])[0, 1])


def test_data_that_cannot_be_fitted_have_a_reason(make_cells, cells):
    few = make_cells([NONE], noisy, groups=9)
    assert influence.influence(few)["reason"].str.contains("9 groups|a single arm").all()
    assert influence.inflation(few)["reason"].str.contains("fewer than 10|a single arm").all()
    flat = influence.inflation(cells.assign(z=1.0)).set_index("estimand").loc["B"]
    assert "z does not vary" in flat["reason"]


def test_a_slope_that_one_group_identifies_is_named(cells):
    alone = cells.assign(x=1.0 * (cells["group"] == "g02"), x_scale=1.0)
    own = influence.influence(alone).set_index(["estimand", "term"]).loc[("B", "x")]
    assert own["group"] == "g02"
    assert "rests on g02 alone" in wording.influence({**own, "estimand": "B", "term": "x"})
