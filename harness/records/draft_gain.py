"""What verifying drafted tokens in one pass would gain: costs measured, rates of acceptance assumed.

With k drafted tokens, each right with probability a where those before it were, a pass gives

    1 + a + a² + … + a^k = (1 − a^(k+1)) / (1 − a)

tokens: the right ones up to the first wrong one, and the model's own after them. Their time is that of
one pass over k + 1 tokens, instead of one decode step for each.
"""

from dataclasses import dataclass
from statistics import median
from typing import Any

from harness.records.record import Record

COLUMNS = {
    "pass_ns": "online time of one pass over the last token and the drafted ones, median, ns",
    "decode_ns": "online time of one decode step, median, ns",
    "tokens": "tokens a pass, for each rate of experiment.acceptance",
    "speed_up": "how much faster than decode steps, for each rate of experiment.acceptance",
}


@dataclass(frozen=True)
class Gain:
    """At one rate of acceptance: tokens a pass, and how much faster than decode steps they come."""

    acceptance: float
    tokens: float
    speed_up: float


def gains(record: Record) -> list[Gain]:
    """One for each rate that the run asks for; none where drafted tokens were not verified."""
    decode, whole = (_median_ns(record, kind) for kind in ("decode", "verify"))
    if decode is None or whole is None:
        return []
    given = record.config["experiment"]
    tokens = {rate: expected_tokens(rate, given["drafted"]) for rate in given["acceptance"]}
    return [Gain(rate, count, count * decode / whole) for rate, count in tokens.items()]


def expected_tokens(acceptance: float, drafted: int) -> float:
    """1 + a + … + a^k."""
    return float(sum(acceptance**i for i in range(drafted + 1)))


def columns(record: Record) -> dict[str, Any]:
    """The values of `COLUMNS`; None in a record without drafted tokens."""
    found = gains(record)
    times = [_median_ns(record, kind) if found else None for kind in ("verify", "decode")]
    lists = [[g.tokens for g in found], [g.speed_up for g in found]]
    return dict(zip(COLUMNS, [*times, *(values or None for values in lists)], strict=True))


def _median_ns(record: Record, kind: str) -> float | None:
    times = [step.wall_ns for step in record.steps if step.kind == kind]
    return median(times) if times else None
