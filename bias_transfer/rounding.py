"""Counts of a share, computed from the decimal that was written and not from the binary fraction that stands for it."""

from __future__ import annotations

import math
from fractions import Fraction


def part(share: float, count: float) -> int:
    """round(share x count), a half to the even neighbour. In binary, .07 x 50 is above 3.5."""
    return round(_written(share) * _written(count))


def ceiling(factor: float, count: int) -> int:
    """The smallest integer that is not below factor x count. In binary, 1.1 x 100 is above 110."""
    return math.ceil(_written(factor) * count)


def _written(value: float) -> Fraction:
    return Fraction(repr(float(value)))
