"""Published times on networks: which contradict their own, and what they would be on another.

    bytes of one direction  · 8 / rate + rounds · RTT / 2      both directions at once
    bytes of both directions · 8 / rate + rounds · RTT         one after the other

A paper seldom says whether its messages cross or wait for one another, so that a time on another network
is a range. (Of hops it is known: each is RTT / 2.) The compute time is printed, or it is what is left of a
measured time. Bytes are those of both parties unless the source says otherwise (`EACH`); half of them go in
each direction.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.config.network import NetworkConfig
from harness.records.published import MEASURED, Published
from harness.records.stats import digits

EACH = ("SHAFT",)  # whose bytes are what each party sends: its Table VII counts them twice
KEYS = "keys included"
PRINTED = re.compile(r"printed (?P<rate>[\d.]+) (?P<unit>[GM])bit/s")
TIMES = ("time", "time (projected)", "online time")
PROJECTED = "projected by its authors"
ROUNDING = 0.005  # half a unit of the last digit that SIGMA prints


@dataclass(frozen=True)
class Known:
    """What is published of one system and workload. bytes: of both directions; trips: how often a
    round-trip time passes, with both directions at once and one after the other."""

    bytes: float
    trips: tuple[float, float]

    def network_s(self, rate_mbit: float | None, rtt_ms: float) -> tuple[float, float]:
        """What a network takes of it, with both directions at once and one after the other."""
        both_s = self.bytes * 8 / (rate_mbit * 1e6) if rate_mbit else 0.0
        crossing, waiting = (trips * rtt_ms / 1e3 for trips in self.trips)
        return both_s / 2 + crossing, both_s + waiting


@dataclass(frozen=True)
class Range:
    """A time on a network, s."""

    least_s: float
    most_s: float


def family(system: str) -> str:
    """A system's name without its remarks: "SIGMA (projected by SHAFT)" is SIGMA."""
    return system.partition(" (")[0]


def recomputed(
    row: Published, published: Sequence[Published], network: NetworkConfig
) -> Range | None:
    """What a published time would be on `network`; None where bytes, rounds or compute are not known."""
    known = _known(row, published)
    compute = known and _compute_s(row, published, known)
    if not known or not compute:
        return None
    on_it = known.network_s(network.rate_mbit, network.rtt_ms)
    times = [own + more for own, more in zip(compute, on_it, strict=True)]
    return Range(min(times), max(times))


def _known(row: Published, published: Sequence[Published]) -> Known | None:
    sent, rounds = _bytes(row, published), _number(row, published, "rounds")
    hops = _number(row, published, "hops")
    if sent is None or KEYS in row.system or row.metric not in (*TIMES, "compute time"):
        return None
    if hops is not None:
        return Known(sent, (hops / 2, hops / 2))
    return None if rounds is None else Known(sent, (rounds / 2, rounds))


def _compute_s(
    row: Published, published: Sequence[Published], known: Known
) -> tuple[float, float] | None:
    """The compute time that is printed, or what is left of a time that was measured."""
    printed = _number(row, published, "compute time")
    if printed is not None and row.how in (MEASURED, PROJECTED):
        return printed, printed
    if row.how != MEASURED or row.rate_mbit is None or row.rtt_ms is None or row.number is None:
        return None
    crossing, waiting = known.network_s(row.rate_mbit, row.rtt_ms)
    return None if crossing > row.number else (row.number - crossing, max(0, row.number - waiting))


def _number(row: Published, published: Iterable[Published], metric: str) -> float | None:
    """Another number of the same system and workload: of the row's own name, else of its system's."""
    alike = [p for p in published if p.metric == metric and p.what == row.what]
    own = [p for p in alike if p.system == row.system]
    named = [p for p in alike if p.system == family(row.system)]
    return next((p.number for p in (*own, *named)), None)


def _bytes(row: Published, published: Sequence[Published]) -> float | None:
    """Bytes of both directions, with those of keys where the row's time includes them."""
    sent = _number(row, published, "bytes")
    keys = _number(row, published, "key bytes") if KEYS in row.system else 0.0
    if sent is None or keys is None:
        return None
    return sent * (2 if family(row.system) in EACH else 1) + keys


def contradiction(row: Published, published: Sequence[Published]) -> str | None:
    """The arithmetic that shows that a row cannot be what its network says; None where there is none."""
    return _too_fast(row, published) or _computed(row, published)


def _too_fast(row: Published, published: Sequence[Published]) -> str | None:
    """A time in which its own bytes do not fit through its own link, even if both directions are full
    at once."""
    rate, sent = _printed_mbit(row), _bytes(row, published)
    if row.metric not in TIMES or not rate or not sent or row.number is None:
        return None
    least_s = sent / 2 * 8 / (rate * 1e6)
    if least_s <= row.number:
        return None
    return (
        f"{_size(sent / 2)} in each direction at {_rate(rate)} take {digits(least_s)} s, "
        f"more than the {row.value} s printed"
        f"{_as_reckoned(row, published, rate, sent)}"
    )


def _as_reckoned(row: Published, published: Sequence[Published], rate: float, sent: float) -> str:
    """How the printed time comes out, where compute and rounds are known: bytes by a rate in bytes."""
    compute = _number(row, published, "compute time")
    rounds = _number(row, published, "rounds")
    if compute is None or rounds is None or row.rtt_ms is None or row.number is None:
        return ""
    trips_s, bytes_s = rounds * row.rtt_ms / 1e3, sent / (rate * 1e6)
    if abs(compute + bytes_s + trips_s - row.number) > 0.01 * row.number:
        return ""
    whole = compute + bytes_s * 8 + trips_s
    return (
        f". {compute:g} + 2 · {sent / 2e9:g} ÷ {rate / 1e3:g} + {rounds:g} · {row.rtt_ms:g} ms = "
        f"{row.value} s divides GB by GB/s; with Gbit/s the same sum is {digits(whole)} s"
    )


def _computed(row: Published, published: Sequence[Published]) -> str | None:
    """A transfer time that is keys · 8 / rate to the last digit: computed, not measured."""
    if row.metric != "key transfer" or not row.rate_mbit or row.number is None:
        return None
    keys = next(
        (
            p
            for p in published
            if (p.system, p.what, p.metric) == (row.system, row.what, "key bytes")
        ),
        None,
    )
    if keys is None:
        return None
    size, rate = float(keys.value), row.rate_mbit / 1e3
    low, high = ((size + by) * 8 / rate for by in (-ROUNDING, ROUNDING))
    if not low - ROUNDING <= row.number <= high + ROUNDING:
        return None
    real = digits(size * 2**30 * 8 / (row.rate_mbit * 1e6))
    return (
        f"{keys.value} GB · 8 ÷ {rate:g} Gbit/s = {row.value} s: computed from the size, not measured; "
        f"if these GB are 2^30 bytes, as the artifact says, it is {real} s"
    )


def _printed_mbit(row: Published) -> float | None:
    """The rate that the source prints, also where it computed with another."""
    found = PRINTED.match(row.network)
    if found is None:
        return row.rate_mbit
    return float(found["rate"]) * (1e3 if found["unit"] == "G" else 1.0)


def _size(size: float) -> str:
    return f"{digits(size / 1e9)} GB"


def _rate(rate_mbit: float) -> str:
    return f"{rate_mbit / 1e3:g} Gbit/s" if rate_mbit >= 1e3 else f"{rate_mbit:g} Mbit/s"
