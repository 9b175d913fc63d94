"""Summaries of samples, and numbers as people read them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles

# Decimal units: 1 kB is 1000 bytes, 1 Mbit is 10^6 bits.
BYTE_UNITS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))
TIME_UNITS = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns"))
RATE_UNITS = ((1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s"), (1.0, "bit/s"))

LEAST = 6  # fewer samples cannot bound a median with 95 %: the smallest of 5 is above it in 3 %
P95_LEAST = 20  # of fewer the 95th percentile is their maximum, or beyond it


@dataclass(frozen=True)
class Spread:
    """The order statistics of some samples; `q1` and `q3` bound the interquartile range. p95: None of
    fewer than `P95_LEAST`."""

    median: float
    low: float
    high: float
    q1: float
    q3: float
    samples: int
    p95: float | None = None


def spread(samples: Sequence[float]) -> Spread | None:
    """The order statistics of `samples`; None if there are none."""
    if not samples:
        return None
    ordered = sorted(samples)
    # A single sample is its own quartiles; quantiles() wants two.
    points = ordered if len(ordered) > 1 else ordered * 2
    q1, _, q3 = quantiles(points, n=4, method="inclusive")
    n = len(ordered)
    p95 = quantiles(ordered, n=20, method="inclusive")[-1] if n >= P95_LEAST else None
    return Spread(median(ordered), ordered[0], ordered[-1], q1, q3, n, p95)


def format_ns(value: float) -> str:
    """Nanoseconds as "35.2 ms"."""
    scale, unit = _unit(value, TIME_UNITS)
    return f"{digits(value / scale)} {unit}"


def format_spread(values: Spread) -> str:
    """Median and range in the median's unit, as "35.2 ms [34.1–36.0]"."""
    scale, _ = _unit(values.median, TIME_UNITS)
    low, high = digits(values.low / scale), digits(values.high / scale)
    return f"{format_ns(values.median)} [{low}–{high}]"


def format_bytes(value: float) -> str:
    """Bytes as "1.28 MB", in decimal units."""
    scale, unit = _unit(value, BYTE_UNITS)
    return f"{value:.0f} B" if unit == "B" else f"{digits(value / scale)} {unit}"


def format_rate(rate_bit_s: float | None) -> str:
    """Bits a second as "305 Mbit/s"; None is unlimited."""
    if rate_bit_s is None:
        return "unlimited"
    scale, unit = _unit(rate_bit_s, RATE_UNITS)
    return f"{rate_bit_s / scale:g} {unit}"


def digits(value: float) -> str:
    """Three significant digits, and never an exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:.0f}"
    value = float(f"{value:.3g}")  # first, so that 99.96 is 100 and not 100.0
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(decimals, 6)}f}"


def _unit(value: float, units: tuple[tuple[float, str], ...]) -> tuple[float, str]:
    # 999.6 of a unit would print as 1000 of it.
    return next((unit for unit in units if abs(value) >= 0.9995 * unit[0]), units[-1])
