"""Means over seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """A mean over n runs; `std` (divided by n - 1) is None for one run."""

    mean: float
    std: float | None
    n: int


def measure(values: Sequence[float]) -> Measure | None:
    """Mean and sample standard deviation; None of no values."""
    n = len(values)
    if not n:
        return None
    mean = math.fsum(values) / n
    if n == 1:
        return Measure(mean, None, 1)
    squares = math.fsum((value - mean) ** 2 for value in values)
    return Measure(mean, math.sqrt(squares / (n - 1)), n)


def difference(high: Measure, low: Measure) -> tuple[float, float | None]:
    """`high` - `low` and its standard error, None unless both have 2 runs or more.

    The runs are taken as independent: sqrt(s1^2 / n1 + s2^2 / n2).
    """
    gap = high.mean - low.mean
    if high.std is None or low.std is None:
        return gap, None
    return gap, math.sqrt(high.std**2 / high.n + low.std**2 / low.n)
