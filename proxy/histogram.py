"""Counting measurements into buckets: with fixed bounds for scrapers, on a logarithmic scale for percentiles."""

from bisect import bisect_left
from collections.abc import Mapping
from math import log2

_PER_OCTAVE = 8
_SHORTEST = 1e-5


class Histogram:
    """Counts of measurements by upper bound, the bound included, and their sum. The last count is of all above."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one measurement."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


def bucket(seconds: float) -> int:
    """The bucket of a duration; each is 9 % wider than the one before, so that its middle is within 5 % of it."""
    return int(log2(max(_SHORTEST, seconds)) * _PER_OCTAVE // 1)


def percentiles(counts: Mapping[int, int], shares: tuple[float, ...]) -> list[float | None]:
    """The durations in seconds under which these shares of the measurements lie; None of nothing.

    `counts` are measurements by `bucket`, `shares` rise.
    """
    total = sum(counts.values())
    if not total:
        return [None] * len(shares)
    found: list[float | None] = []
    seen = 0
    for number in sorted(counts):
        seen += counts[number]
        while len(found) < len(shares) and seen >= shares[len(found)] * total:
            found.append(2 ** ((number + 0.5) / _PER_OCTAVE))
    return found
