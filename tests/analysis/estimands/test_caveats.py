"""What the limits name: thin data, saturation, one checkpoint, and what few seeds can see."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.estimands import caveats
from analysis.data import runs
from bias_transfer.spec import Trial


def test_a_single_saturated_trial_is_said(cells_of):
    cells = cells_of()
    floor = (cells["arm"] == runs.UNTOUCHED) & (cells["seed"] == 1)
    (said,) = caveats.saturated(cells.assign(y_rate=cells["y_rate"].mask(floor, 0.0)))
    assert said.startswith("Saturated: in 1 of 4 trials of none + none the FPR lies between 0.000 and 0.000")


@pytest.mark.parametrize(("seeds", "expected"), [(3, 3.3), (10, 1.0)])
def test_detectable_differences_are_those_of_the_science_page(seeds, expected):
    assert caveats.detectable(seeds) == pytest.approx(expected, abs=0.05)
    reach = stats.t.ppf(0.975, seeds - 1)
    noncentral = caveats.detectable(seeds) * math.sqrt(seeds)
    assert stats.nct.sf(reach, seeds - 1, noncentral) == pytest.approx(0.8, abs=1e-3)


def test_reliability_of_a_mean_over_templates():
    draw = np.random.default_rng(0)
    truth = draw.normal(0, 1, (4000, 1))
    noisy = pd.DataFrame(truth + draw.normal(0, 1, (4000, 5)))
    assert caveats.reliability(noisy) == pytest.approx(5 / 6, abs=0.02)  # Spearman and Brown with r = 1/2
    assert caveats.reliability(pd.DataFrame(draw.normal(0, 1, (4000, 5)))) == pytest.approx(0.0, abs=0.1)
    assert math.isnan(caveats.reliability(noisy[[0]]))


def test_limits_name_what_is_thin_and_are_silent_where_nothing_is(simulate, primary):
    table = simulate(groups=60, seeds=12, unseen=0)
    said = " ".join(caveats.too_thin(table, runs.cells(table, primary)))
    for absent in ("Left out", "few clusters", "reliability", "Saturated", "noise."):
        assert absent not in said, absent
    for always in ("'No transfer' cannot be claimed", "One checkpoint (tiny)", "variance inflation", "12 paired seeds"):
        assert always in said, always
    table = simulate(groups=20, unseen=2)
    noisy = table["metric"] == "negative_sentiment"
    table.loc[noisy, "value"] += np.random.default_rng(0).normal(0, 0.5, noisy.sum())
    said = " ".join(caveats.too_thin(table, runs.cells(table, primary)))
    for part in ("Left out", "18 groups are few clusters", "The reliability of x over 2 templates", "4 paired seeds"):
        assert part in said, part


def test_a_model_that_hardly_knows_the_language_is_said(simulate):
    table = simulate(groups=10, seeds=1)
    base = {**table.iloc[0].to_dict(), "stage": "upstream", "group": "", "template": "", "n": 9}
    loss, unigram = (
        {**base, "metric": name, "value": value} for name, value in (("masked_lm_loss", 5.6), ("unigram_loss", 5.8))
    )
    assert "noise" in caveats.knows_language(pd.concat([table, pd.DataFrame([loss, unigram])]))
    assert not caveats.knows_language(pd.concat([table, pd.DataFrame([{**loss, "value": 3.0}, unigram])]))


def test_one_checkpoint_is_said_and_several_pre_training_seeds_are_not(simulate, primary):
    table = simulate(seeds=2, arms=[("none", "none")])
    several = [Trial(options={"model.seed": number}) for number in (0, 1)]
    said = "One checkpoint (tiny) licenses no claim"
    for trials, shown in ((), True), (several[:1], True), (several, False):
        told = " ".join(caveats.too_thin(table, runs.cells(table, primary), trials=trials))
        assert (said in told) is shown
