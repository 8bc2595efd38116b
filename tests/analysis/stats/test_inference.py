"""Inference on one contrast, and the cases in which it is refused."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest

from analysis.stats.inference import infer, method
from analysis.stats.regression import RefusedError, fit, from_rows, panel
from analysis.stats.wild_bootstrap import signs

with warnings.catch_warnings():  # pyfixest 0.60 on pandas 3.1
    warnings.simplefilter("ignore")
    import pyfixest


def rows(groups=20, trials=12, shared=0.0):
    draw = np.random.default_rng(5)
    seed = np.tile(np.arange(trials) % 6, groups)
    x = draw.normal(size=groups * trials)
    by_seed = draw.normal(size=6)[seed]
    frame = pd.DataFrame({"group": np.repeat([f"g{n:02}" for n in range(groups)], trials), "seed": seed, "x": x})
    noise = draw.normal(size=len(frame))
    return frame.assign(trial=np.tile(np.arange(trials), groups), y=0.3 * x + noise + shared * by_seed * x)


def two_way(frame):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own = pyfixest.feols(
            "y ~ x | group + trial", frame, vcov={"CRV1": "group+seed"}, ssc=pyfixest.ssc(k_adj=False, G_adj=False)
        )
    return float(own.se()["x"])


def test_two_way_errors_are_those_of_pyfixest_up_to_the_factors_of_few_clusters():
    frame = rows(shared=1.0)
    found = fit(from_rows(frame, ("x",), True))
    own = infer(found, {"x": 1.0}, 99, two_way=True)
    carrier = found.panel.x[..., 0] / (found.panel.x**2).sum()
    scores = (carrier * found.residual) @ np.eye(6)[list(found.panel.seeds)]
    parts = [(20, (scores.sum(axis=1) ** 2).sum()), (6, (scores.sum(axis=0) ** 2).sum()), (120, (scores**2).sum())]
    plain = math.sqrt(parts[0][1] + parts[1][1] - parts[2][1])
    assert plain == pytest.approx(two_way(frame), rel=1e-8)
    by_cluster = [count / (count - 1) * 239 / (240 - 13) * square for count, square in parts]
    assert own.two_way_error == pytest.approx(math.sqrt(by_cluster[0] + by_cluster[1] - by_cluster[2]), rel=1e-8)
    assert own.two_way_error > 1.5 * own.crv1_error
    assert own.two_way_high - own.two_way_low == pytest.approx(2 * 2.5706 * own.two_way_error, rel=1e-4)  # t of 5


def test_two_way_errors_are_optional_and_never_below_those_by_group():
    found = fit(from_rows(rows(), ("x",), True))
    assert math.isnan(infer(found, {"x": 1.0}, 99).two_way_error)
    both, by_group = infer(found, {"x": 1.0}, 99, two_way=True).two_way_error, infer(found, {"x": 1.0}, 99).crv1_error
    assert both >= by_group * (1 - 1e-12)
    one = fit(from_rows(rows().assign(seed=0), ("x",), True))
    assert math.isnan(infer(one, {"x": 1.0}, 99, two_way=True).two_way_error)


def test_the_90_percent_interval_is_within_the_95_percent_interval():
    own = infer(fit(from_rows(rows(), ("x",), True)), {"x": 1.0}, 999)
    assert own.low < own.low_90 < own.coefficient < own.high_90 < own.high
    assert own.crv3_high - own.crv3_low > own.crv1_high - own.crv1_low
    assert 0 < own.p <= 1
    assert 0 < own.p_permutation <= 1


def test_the_same_table_gives_the_same_numbers():
    found = fit(from_rows(rows(), ("x",), True))
    assert infer(found, {"x": 1.0}, 199) == infer(found, {"x": 1.0}, 199)


def test_a_slope_that_one_group_identifies_is_refused_and_the_group_is_named():
    x = np.zeros((12, 1, 1))
    x[3] = 1.0
    own = panel(np.random.default_rng(0).normal(size=(12, 1)), x, ("x",), False, [f"g{n}" for n in range(12)])
    with pytest.raises(RefusedError, match="no interval: without g3, x does not vary"):
        infer(fit(own), {"x": 1.0}, 99)


def test_a_perfect_fit_is_refused():
    x = np.arange(12.0).reshape(12, 1, 1)
    with pytest.raises(RefusedError, match="leaves nothing unexplained"):
        infer(fit(panel(2 * x[..., 0] + 1, x, ("x",), False)), {"x": 1.0}, 99)


def test_regressors_orthogonal_to_what_is_left_within_every_group_are_said_to_be_so():
    """Residuals of SD .35 are not "nothing unexplained"."""
    x = np.tile([-1.0, 1.0, -1.0, 1.0], (12, 1))
    y = 0.35 * np.tile([1.0, 1.0, -1.0, -1.0], (12, 1)) * np.where(np.arange(12) % 2, 1, -1)[:, None]
    with pytest.raises(RefusedError, match="coefficient of x by nothing, since within every group it is orthogonal"):
        infer(fit(panel(y, x[..., None] * np.arange(1, 13)[:, None, None], ("x",), within=True)), {"x": 1.0}, 99)


@pytest.mark.parametrize("groups", [10, 11, 12, 13, 14, 28])
@pytest.mark.parametrize("draws", [399, 9_999])
def test_the_method_names_the_samples_that_were_drawn(groups, draws):
    weights = signs(groups, draws)
    distribution = "Webb" if len(np.unique(weights)) > 2 else "Rademacher"
    assert f"{weights.shape[1]:,} {distribution} draws" in method(groups, draws)
