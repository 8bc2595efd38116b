"""Corrections for multiple testing: by hand, and Holm's against its definition."""

import math

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.multitest import multipletests

from analysis.stats.multiple_testing import benjamini_hochberg, holm


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


def stepped_down(p: pd.Series) -> pd.Series:
    """Holm 1979, written out: the i-th smallest of m times m - i + 1, never below the one before."""
    ranked = p.dropna().sort_values()
    stepped = np.maximum.accumulate(ranked.to_numpy(float) * np.arange(len(ranked), 0, -1))
    return pd.Series(np.minimum(stepped, 1.0), index=ranked.index).reindex(p.index)


@pytest.mark.parametrize("seed", range(20))
def test_holm_is_its_step_down_definition_with_ties_and_gaps(seed):
    draw = np.random.default_rng(seed)
    p = pd.Series(draw.uniform(0, draw.choice([0.02, 1.0]), draw.integers(2, 60))).round(3)
    p = p.mask(draw.uniform(size=len(p)) < 0.1)
    np.testing.assert_allclose(holm(p), stepped_down(p), rtol=0, atol=1e-9)


@pytest.mark.parametrize("correct", [holm, benjamini_hochberg])
def test_missing_p_values_stay_missing(correct):
    assert correct(pd.Series([math.nan, math.nan])).isna().all()
    assert correct(pd.Series([], dtype=float)).empty
