"""Student's t, looked up once: it is asked for the same few values again and again."""

from __future__ import annotations

from functools import lru_cache

from scipy import stats


@lru_cache(maxsize=1024)
def t_quantile(level: float, freedom: int) -> float:
    """The value that t of so many degrees of freedom stays below with probability `level`."""
    return float(stats.t.ppf(level, freedom))
