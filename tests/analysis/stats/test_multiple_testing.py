"""Holm, Benjamini and Hochberg, by hand; seeds needed against the power they were asked for."""

import math

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.multitest import multipletests

from analysis.stats.multiple_testing import benjamini_hochberg
from analysis.stats.multiple_testing import detectable
from analysis.stats.multiple_testing import holm
from analysis.stats.multiple_testing import seeds_needed


def test_holm_by_hand():
    assert holm(pd.Series([0.01, 0.04, 0.03, math.nan])).tolist()[:3] == pytest.approx([0.03, 0.06, 0.06])


def test_benjamini_and_hochberg_by_hand():
    q = benjamini_hochberg(pd.Series([0.01, math.nan, 0.04, 0.03]))
    assert [q[0], q[2], q[3]] == pytest.approx([0.03, 0.04, 0.04])
    assert math.isnan(q[1])


@pytest.mark.parametrize(("correct", "name"), [(holm, "holm"), (benjamini_hochberg, "fdr_bh")])
def test_corrections_are_those_of_statsmodels(correct, name):
    p = pd.Series(np.random.default_rng(0).uniform(0, 0.2, 30), index=range(100, 130))
    mine = correct(p)
    assert mine.tolist() == pytest.approx(multipletests(p, method=name)[1].tolist())
    assert mine.index.equals(p.index)


@pytest.mark.parametrize("correct", [holm, benjamini_hochberg])
def test_nothing_known_gives_nothing(correct):
    assert correct(pd.Series([math.nan, math.nan])).isna().all()
    assert correct(pd.Series([], dtype=float)).empty


@pytest.mark.parametrize(("effect", "spread"), [(1.0, 1.0), (-0.5, 1.0), (0.1, 0.3)])
def test_seeds_needed_are_the_fewest_that_see_the_effect(effect, spread):
    seeds = int(seeds_needed(effect, spread))
    assert spread * detectable(seeds) <= abs(effect) < spread * detectable(seeds - 1)


def test_ten_seeds_see_one_sd_and_nothing_sees_nothing():
    assert seeds_needed(1.0, 1.0) == 10
    assert seeds_needed(0.0, 1.0) == math.inf
    assert seeds_needed(1e-9, 1.0) == math.inf
    assert math.isnan(seeds_needed(math.nan, 1.0))
    assert detectable(1) == math.inf
