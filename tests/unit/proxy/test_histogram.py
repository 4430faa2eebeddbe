import math

from hypothesis import given
from hypothesis import strategies as st

from proxy.histogram import Histogram, bucket, percentiles

DURATIONS = st.floats(min_value=1e-4, max_value=3600, allow_nan=False)


def test_a_bound_is_part_of_its_bucket() -> None:
    """As Prometheus's `le` says."""
    histogram = Histogram((1.0, 2.0))
    for value in (0.0, 1.0, 1.5, 2.0, 2.1):
        histogram.observe(value)
    assert (histogram.counts, histogram.total) == ([2, 2, 1], 6.6)


@given(st.lists(DURATIONS, min_size=1, max_size=200), st.floats(min_value=0.01, max_value=1))
def test_a_percentile_is_within_a_twentieth_of_the_measured_one(values: list[float], share: float) -> None:
    """Nearest rank, whatever the durations."""
    counts: dict[int, int] = {}
    for value in values:
        counts[bucket(value)] = counts.get(bucket(value), 0) + 1
    exact = sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
    (found,) = percentiles(counts, (share,))
    assert found is not None
    assert abs(found / exact - 1) < 0.05


def test_nothing_has_no_percentiles() -> None:
    assert percentiles({}, (0.5, 0.9)) == [None, None]


def test_a_duration_of_nothing_has_a_bucket_too() -> None:
    """Clocks may stand still, or go back."""
    assert bucket(0.0) == bucket(-1.0) < bucket(0.001)
