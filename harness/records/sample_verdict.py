"""What the samples of a record say about its online time: good, or why it should not be trusted.

The thresholds and why they are what they are: METHODOLOGY, "Verdict of a row".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import sqrt
from statistics import median

from harness.records.record import Record
from harness.records.stats import LEAST, Spread, digits, format_ns, spread

GOOD, NONE = "good", "–"
SHORT_NS = 2_000_000  # to wake a waiting party takes some 0.1 ms, now more, now less: 5 % of this
WIDE = 0.10  # interquartile range over median
FENCE = 3.0  # interquartile ranges from the quartiles: Tukey's far outliers
FAR = 0.10  # of the median: what is nearer disturbs nobody, however narrow the rest is
OUTLIERS = 0.05  # more of the samples than this
DRIFT = 0.05  # of the median, from the first sample to the last
CERTAIN = 2.58  # standard deviations of Kendall's S: a trend that chance makes in 1 of 100 runs
POINTS = 60  # of a trend: more samples are taken in groups, by their medians


@dataclass(frozen=True)
class Verdict:
    """words: what is wrong, in the order of `REASONS`; empty: nothing. reasons: one for each word, with
    its numbers. judged: what was looked at; None where there are no samples."""

    words: tuple[str, ...]
    reasons: tuple[str, ...]
    judged: str | None

    def __str__(self) -> str:
        if self.judged is None:
            return NONE
        return ", ".join(self.words) or GOOD


def verdict(record: Record) -> Verdict:
    """Of the online times of its evaluations; of a run with one evaluation, of its tokens. Pure."""
    online = record.phases.get("online")
    samples: Sequence[int] = online.wall_ns if online else ()
    tokens = [step.wall_ns for step in record.steps if step.kind == "decode"]
    if len(samples) == 1 and len(tokens) > 1:
        return judge(tokens, "tokens", drifts=False)  # later ones have more to attend to
    return judge(samples, "evaluations")


def judge(samples: Sequence[float], judged: str, drifts: bool = True) -> Verdict:
    """The verdict of some times in ns, in the order in which they were taken. drifts: whether a trend
    is a fault."""
    values = spread(samples)
    if values is None:
        return Verdict((), (), None)
    found = {
        "few": _few(values, judged),
        "short": _short(values),
        "spread": _wide(values),
        "outliers": _outliers(samples, values, judged),
        "drift": _drift(samples, values) if drifts else None,
    }
    given = {word: reason for word, reason in found.items() if reason is not None}
    return Verdict(tuple(given), tuple(given.values()), judged)


def _few(values: Spread, judged: str) -> str | None:
    if values.samples >= LEAST:
        return None
    return f"{values.samples} {judged}: fewer than {LEAST} do not bound a median with 95 %"


def _short(values: Spread) -> str | None:
    if values.median >= SHORT_NS:
        return None
    return (
        f"{format_ns(values.median)}: of less than {format_ns(SHORT_NS)} the wake-up of one waiting party "
        "is more than 5 %"
    )


def _wide(values: Spread) -> str | None:
    share = (values.q3 - values.q1) / values.median if values.median else 0.0
    if share <= WIDE:
        return None
    return f"the middle half spans {_percent(share)} of the median, more than {_percent(WIDE)}"


def _outliers(samples: Sequence[float], values: Spread, judged: str) -> str | None:
    reach = max(FENCE * (values.q3 - values.q1), FAR * values.median)
    far = [x for x in samples if x > values.q3 + reach or x < values.q1 - reach]
    if len(far) <= OUTLIERS * len(samples):
        return None
    worst = max(far, key=lambda x: abs(x - values.median))
    return (
        f"{len(far)} of {len(samples)} {judged} far from the others, one {format_ns(worst)} "
        f"beside a median of {format_ns(values.median)}"
    )


def _drift(samples: Sequence[float], values: Spread) -> str | None:
    """A trend by Kendall's test, as large as the median of all pairs' slopes (Theil–Sen) says."""
    points = _grouped(samples)
    n = len(points)
    if n < LEAST or not values.median:
        return None
    pairs = [(b - a, j - i) for (i, a), (j, b) in combinations(enumerate(points), 2)]
    score = sum((rise > 0) - (rise < 0) for rise, _ in pairs)
    change = median(rise / run for rise, run in pairs) * (n - 1) / values.median
    if abs(score) < CERTAIN * sqrt(n * (n - 1) * (2 * n + 5) / 18) or abs(change) <= DRIFT:
        return None
    way = "rose" if change > 0 else "fell"
    return f"times {way} by {_percent(abs(change))} from the first sample to the last"


def _grouped(samples: Sequence[float]) -> list[float]:
    """At most `POINTS` medians of neighbours."""
    size = -(-len(samples) // POINTS)
    return [median(samples[i : i + size]) for i in range(0, len(samples), size)]


def _percent(share: float) -> str:
    return f"{digits(100 * share)} %"
