"""How much slower new samples are than old ones, and how sure that is: the ratio of `gate` and `compare`.

Interleaved samples come in pairs of neighbours in time, which whatever else the machine does disturbs
alike: the estimate is the median of the pairs' ratios. Samples of two sessions have no pairs: there it is
the ratio of the medians. Both medians shrug off the long tail of disturbed samples. The interval is the
percentile bootstrap's: 2.5 % to 97.5 % of the same estimate over resampled pairs (or samples of either
side).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.records.stats import LEAST

Verdict = Literal["fine", "regression", "cannot tell"]
LEVEL = 0.95
RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A ratio of times, new to old, with its confidence interval; samples: of the smaller side."""

    ratio: float
    low: float
    high: float
    samples: int

    def verdict(self, threshold: float) -> Verdict:
        """regression: all of the interval is above; fine: none of it is."""
        if self.low > threshold:
            return "regression"
        return "fine" if self.high <= threshold else "cannot tell"

    def narrow(self, threshold: float) -> bool:
        """Whether it is at most as wide as from 1 / threshold to threshold."""
        return self.high <= self.low * threshold**2

    def __str__(self) -> str:
        return f"{self.ratio:.3f} [{self.low:.3f}–{self.high:.3f}]"


def paired(old: Sequence[float], new: Sequence[float]) -> Interval:
    """Of samples that were taken in turns: old[i] beside new[i]."""
    ratios = np.array(new, float) / np.array(old, float)
    resampled = np.median(_resample(ratios, 0), axis=1)
    return _interval(float(np.median(ratios)), resampled, len(ratios))


def unpaired(old: Sequence[float], new: Sequence[float]) -> Interval:
    """Of samples of two sessions."""
    before, after = np.array(old, float), np.array(new, float)
    resampled = np.median(_resample(after, 0), axis=1) / np.median(_resample(before, 1), axis=1)
    ratio = float(np.median(after) / np.median(before))
    return _interval(ratio, resampled, min(len(before), len(after)))


def _resample(values: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """(RESAMPLES, n) draws with replacement; the same ones every time, so that a verdict is too."""
    picks = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    return values[picks]


def _interval(ratio: float, resampled: NDArray[np.float64], samples: int) -> Interval:
    if samples < LEAST:
        return Interval(ratio, 0.0, float("inf"), samples)
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(ratio, float(low), float(high), samples)
