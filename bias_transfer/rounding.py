"""Counts of a share, computed from the decimal that was written and not from the binary fraction that stands for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction


def part(share: float, count: float) -> int:
    """round(share x count), a half to the even neighbour. In binary, .07 x 50 is above 3.5."""
    return round(_written(share) * _written(count))


def ceiling(factor: float, count: int) -> int:
    """The smallest integer that is not below factor x count. In binary, 1.1 x 100 is above 110."""
    return math.ceil(_written(factor) * count)


def apportion(count: int, sizes: Sequence[int]) -> list[int]:
    """`count` divided in the proportions of `sizes` by largest remainders; of equal remainders the first is served first.

    No part is larger than its size while `count` is at most their sum.
    """
    whole = sum(sizes)
    parts = [count * size // whole for size in sizes]
    by_remainder = sorted(range(len(sizes)), key=lambda place: -(count * sizes[place] % whole))
    for place in by_remainder[: count - sum(parts)]:
        parts[place] += 1
    return parts


def _written(value: float) -> Fraction:
    return Fraction(repr(float(value)))
