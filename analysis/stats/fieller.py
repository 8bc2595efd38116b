"""Fieller's interval of a ratio of two correlated means (Fieller 1954), which may be unbounded.

Where the denominator cannot be told from 0, the data rule out no large ratio of either sign, and no interval of finite length
has its coverage (Gleser and Hwang 1987). What is left then is one end or none, and never an infinity in a table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimates:
    """Two estimates from the same units, with their covariance."""

    numerator: float
    denominator: float
    variance: float
    """Of the numerator."""
    denominator_variance: float
    covariance: float
    quantile: float
    """Of the t distribution, for both."""


@dataclass(frozen=True)
class Ratio:
    """The ratios that the data do not reject, as far as the denominator is positive: an end that does not exist is NaN."""

    value: float = math.nan
    """The ratio of the estimates; NaN unless the denominator is above 0 beyond its interval."""
    low: float = math.nan
    high: float = math.nan

    @property
    def bounded(self) -> bool:
        """Whether both ends exist."""
        return not (math.isnan(self.low) or math.isnan(self.high))


def fieller(own: Estimates) -> Ratio:
    """The ratios r for which t of (numerator - r denominator) is within the quantile, as far as the denominator is positive.

    They are those with a r^2 - 2 b r + c <= 0. A denominator above 0 beyond its interval (a > 0): all of them, an interval.
    One that cannot be told from 0 (a <= 0): what is accepted has two parts, of either sign of the denominator, if only the
    numerator can be told from 0; the part of the positive one has a lower end where the numerator is positive, and an upper end
    where it is negative. Else there is no end. A denominator below 0 beyond its interval: no ratio, as nothing was lost.
    """
    square = own.quantile**2
    a = own.denominator**2 - square * own.denominator_variance
    b = own.numerator * own.denominator - square * own.covariance
    c = own.numerator**2 - square * own.variance
    if a > 0:
        if own.denominator < 0:
            return Ratio()
        reach = math.sqrt(max(b * b - a * c, 0.0))
        return Ratio(own.numerator / own.denominator, (b - reach) / a, (b + reach) / a)
    if c <= 0 or a == 0:
        return Ratio()
    reach = math.sqrt(b * b - a * c)  # a < 0 < c: the roots are real, and of either sign
    first, last = sorted(((b + reach) / a, (b - reach) / a))
    return Ratio(low=last) if own.numerator > 0 else Ratio(high=first)
