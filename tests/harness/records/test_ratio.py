"""The interval of a ratio of times, on noise of which the truth is known."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.records.ratio import Interval, paired, unpaired
from harness.records.stats import LEAST

TRIALS, PAIRS, THRESHOLD = 100, 80, 1.05
Estimate = Callable[[list[float], list[float]], Interval]


def disturbed(rng: np.random.Generator, ratio: float) -> tuple[list[float], list[float]]:
    """Times of two sides in turns: 5 % of noise each, drift that both share, and a tail without a
    mean (a tenth of the samples is held up by something else)."""
    shape = (2, PAIRS)
    held_up = np.where(rng.random(shape) < 0.1, 1 + rng.pareto(1.0, shape), 1.0)
    drift = np.exp(np.cumsum(rng.normal(0, 0.02, PAIRS)))
    times = 1e7 * drift * np.exp(rng.normal(0, 0.05, shape)) * held_up
    return list(times[0]), list(times[1] * ratio)


@cache
def intervals(ratio: float, estimate: Estimate = paired) -> list[Interval]:
    rng = np.random.default_rng(7)
    return [estimate(*disturbed(rng, ratio)) for _ in range(TRIALS)]


def test_an_equal_side_is_never_a_regression_and_mostly_fine() -> None:
    verdicts = [interval.verdict(THRESHOLD) for interval in intervals(1.0)]
    assert verdicts.count("regression") == 0
    assert verdicts.count("fine") >= 0.95 * TRIALS


def test_ten_percent_are_nearly_always_found() -> None:
    verdicts = [interval.verdict(THRESHOLD) for interval in intervals(1.1)]
    assert verdicts.count("regression") >= 0.9 * TRIALS
    assert verdicts.count("fine") == 0


@pytest.mark.parametrize("estimate", [paired, unpaired])
@pytest.mark.parametrize("ratio", [0.9, 1.0, 1.1])
def test_the_interval_holds_the_truth_as_often_as_it_says(estimate: Estimate, ratio: float) -> None:
    held = sum(i.low <= ratio <= i.high for i in intervals(ratio, estimate))
    assert held >= 0.92 * TRIALS


def test_pairs_cancel_what_disturbs_both_sides() -> None:
    """Drift widens the interval of two medians, and not that of the pairs."""
    widths = [
        np.median([i.high - i.low for i in intervals(1.0, estimate)])
        for estimate in (paired, unpaired)
    ]
    assert widths[0] < 0.75 * widths[1]


@given(st.lists(st.integers(1, 10**10), min_size=1, max_size=LEAST - 1))
def test_a_few_samples_tell_nothing(times: list[int]) -> None:
    """Five equal ratios have a bootstrap interval of no width, which proves nothing."""
    for estimate in (paired, unpaired):
        assert estimate(times, [time * 10 for time in times]).verdict(THRESHOLD) == "cannot tell"


@given(
    st.lists(
        st.tuples(st.integers(10**6, 10**8), st.integers(10**6, 10**8)), min_size=6, max_size=30
    ),
    st.floats(0.1, 10),
)
def test_the_unit_of_time_does_not_matter(pairs: list[tuple[int, int]], scale: float) -> None:
    old, new = [float(a) for a, _ in pairs], [float(b) for _, b in pairs]
    for estimate in (paired, unpaired):
        one = estimate(old, new)
        other = estimate([a * scale for a in old], [b * scale for b in new])
        assert (other.low, other.ratio, other.high) == pytest.approx((one.low, one.ratio, one.high))
        assert one.low <= one.ratio <= one.high


def test_a_verdict_is_the_same_tomorrow() -> None:
    old, new = disturbed(np.random.default_rng(1), 1.03)
    assert paired(old, new) == paired(old, new)
