"""Corrections for multiple testing; p values that are missing are left out and stay missing."""

from __future__ import annotations

import pandas as pd
from scipy.stats import false_discovery_control
from statsmodels.stats.multitest import multipletests


def holm(p: pd.Series) -> pd.Series:
    """p values adjusted so that the chance of any false positive stays at the level (Holm 1979)."""
    known = p.dropna()
    adjusted = multipletests(known.to_numpy(float), method="holm")[1] if len(known) else []
    return pd.Series(adjusted, index=known.index, dtype=float).reindex(p.index)


def benjamini_hochberg(p: pd.Series) -> pd.Series:
    """q values: the expected share of false positives among the discoveries (Benjamini and Hochberg 1995)."""
    known = p.dropna()
    adjusted = false_discovery_control(known.to_numpy(float)) if len(known) else []
    return pd.Series(adjusted, index=known.index, dtype=float).reindex(p.index)
