"""Least squares on a panel, against pyfixest; leaving a group out, against refitting; and refused data."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest

from analysis.stats import regression
from analysis.stats.wild_bootstrap import crv3

with warnings.catch_warnings():  # pyfixest 0.60 on pandas 3.1
    warnings.simplefilter("ignore")
    import pyfixest

TERMS = ("x", "z")


def rows(groups=14, trials=8, number=0):
    """A frame whose errors are shared within groups and grow with x."""
    draw = np.random.default_rng(number)
    x, z = draw.gamma(1, 1, (groups, trials)), draw.normal(size=(groups, trials))
    y = 0.3 * x - 0.2 * z + draw.normal(size=(groups, 1)) * x + draw.normal(size=(groups, trials))
    return pd.DataFrame(
        {
            "group": np.repeat([f"g{n:02}" for n in range(groups)], trials),
            "trial": np.tile([f"t{n}" for n in range(trials)], groups),
            "seed": np.tile(np.arange(trials) % 4, groups),
            "y": y.ravel(), "x": x.ravel(), "z": z.ravel(),
        }
    )  # fmt: skip


def oracle(frame, formula, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pyfixest.feols(formula, frame, **settings)


WITHOUT = pyfixest.ssc(k_adj=False, G_adj=False)
KINDS = {
    "B": (rows(30, 1), "y ~ x + z", False),
    "W": (rows(), "y ~ x + z | group + trial", True),
}


@pytest.mark.parametrize("kind", KINDS)
def test_coefficients_and_both_errors_are_those_of_pyfixest(kind):
    frame, formula, within = KINDS[kind]
    found = regression.fit(regression.from_rows(frame, TERMS, within))
    classic = oracle(frame, formula, vcov={"CRV1": "group"})
    terms = list(TERMS)
    assert found.coefficients == pytest.approx(classic.coef()[terms].to_numpy(), rel=1e-8)
    assert np.sqrt(np.diag(found.covariance)) == pytest.approx(classic.se()[terms].to_numpy(), rel=1e-8)
    # pyfixest leaves (G-1)/G out of CRV3, and puts CRV1's factor in its place
    jackknife = oracle(frame, formula, vcov={"CRV3": "group"}, ssc=WITHOUT).se()[terms].to_numpy()
    mine = [crv3(found, np.eye(2)[number]) for number in (0, 1)]
    assert mine == pytest.approx(jackknife * math.sqrt((found.groups - 1) / found.groups), rel=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_leaving_a_group_out_is_fitting_without_it(kind):
    frame, _, within = KINDS[kind]
    found = regression.fit(regression.from_rows(frame, TERMS, within))
    for number in (0, 5, 13):
        rest = frame[frame["group"] != found.panel.groups[number]]
        alone = regression.fit(regression.from_rows(rest, TERMS, within)).coefficients
        assert found.left_out[number] == pytest.approx(alone, rel=1e-8)


def test_with_one_row_per_group_the_errors_are_hc1():
    frame = rows(30, 1)
    found = regression.fit(regression.from_rows(frame, TERMS, False))
    robust = oracle(frame, "y ~ x + z", vcov="HC1").se()[list(TERMS)].to_numpy()
    assert np.sqrt(np.diag(found.covariance)) == pytest.approx(robust, rel=1e-8)


def test_order_of_rows_changes_nothing():
    frame = rows()
    mine, shuffled = (
        regression.fit(regression.from_rows(one, TERMS, True)) for one in (frame, frame.sample(frac=1, random_state=1))
    )
    assert np.array_equal(mine.coefficients, shuffled.coefficients)
    assert np.array_equal(mine.covariance, shuffled.covariance)


def test_a_constant_of_a_group_or_of_a_trial_changes_nothing_within():
    frame = rows()
    moved = frame.assign(y=frame["y"] + frame["group"].str[1:].astype(float) + 3 * frame["seed"])
    mine, other = (regression.fit(regression.from_rows(one, TERMS, True)) for one in (frame, moved))
    assert mine.coefficients == pytest.approx(other.coefficients, rel=1e-9)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda frame: frame[frame["group"] < "g09"], "9 groups have complete data; fewer than 10"),
        (lambda frame: frame.assign(y=1.5), "the outcome does not vary"),
        (lambda frame: frame.assign(x=0.1, z=7), "x and z do not vary"),
        (lambda frame: frame.assign(z=2 - 3 * frame["x"]), "rank deficient: x and z are collinear"),
        (lambda frame: frame.assign(y=math.nan), "0 groups have complete data"),
    ],
)
@pytest.mark.parametrize("within", [False, True])
def test_data_that_cannot_be_fitted_are_refused_with_the_reason(change, said, within):
    with pytest.raises(regression.RefusedError, match=said.replace("(", r"\(")):
        regression.from_rows(change(rows(20, 3 if within else 1)), TERMS, within)


def test_empty_trials_are_dropped_first_then_incomplete_groups_which_are_named():
    frame = rows(12, 5)
    frame.loc[(frame["group"] == "g03") & (frame["trial"] == "t1"), "x"] = math.nan
    frame.loc[frame["trial"] == "t4", "y"] = math.nan
    own = regression.from_rows(frame, TERMS, True)
    assert own.y.shape == (11, 4)
    assert own.dropped == ("g03",)
    frame.loc[frame["group"].isin(["g01", "g02"]) & (frame["trial"] == "t0"), "z"] = math.nan
    with pytest.raises(regression.RefusedError, match="9 groups .*without g01, g02, g03, which some trials lack"):
        regression.from_rows(frame, TERMS, True)
