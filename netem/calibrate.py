"""Measures a link between its two ends, through messages like those of a protocol.

Every message carries when it was sent (CLOCK_MONOTONIC, one clock for all processes of a host) and
its receiver notes how long it took. In this order, each direction on its own unless said otherwise:

    pings     11 small messages there and back; the first is thrown away, medians are kept
    ladder    4 kB, 64 kB, 1 MB (and 4 MB on a fast link), each after the link was idle for so long
              that a TCP connection starts slowly again
    bulk      80 ms worth of the rate, at once after the ladder
    both      the same, both directions at the same time
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from netem.link import wait_until
from netem.measurement import DirectionMeasurement, LinkMeasurement, Rung
from netem.profile import LinkProfile

PINGS = 11
LADDER_BYTES = (4_000, 64_000, 1_000_000)
LARGE_RUNG_BYTES = 4_000_000
LARGE_RUNG_S = 0.1
BULK_S = 0.08
BULK_MIN_BYTES, BULK_MAX_BYTES, BULK_UNLIMITED_BYTES = 250_000, 64_000_000, 32_000_000
IDLE_FROM_BYTES = 16_000  # a cold TCP window holds less
RTO_S = 0.2
_STAMP_BYTES = 8


@dataclass(frozen=True)
class End:
    """This end of the link: how to send a message to the other end and receive one from it."""

    send: Callable[..., None]
    recv: Callable[[], tuple[Tensor, ...]]


def initiate(end: End, forward: LinkProfile, backward: LinkProfile) -> LinkMeasurement:
    """Measure the link from this end while the other end runs `respond`.

    forward, backward: the profiles that the link should have from here and to here; they set the
    sizes and what the result is compared with.
    """
    pings = [_ping(end) for _ in range(PINGS)][1:]
    rungs = [_exchange_rung(end, size, forward, backward) for size in _ladder(forward, backward)]
    bulk = [_timed_there(end, bulk_bytes(forward)), _timed_here(end)]
    both = _both(end, forward, backward, leads=True)
    directions = [
        _direction(
            profile,
            one_way_s=statistics.median(ping[which] for ping in pings),
            rungs=[rung[which] for rung in rungs],
            bulk_s=bulk[which],
            both_s=both[which],
        )
        for which, profile in enumerate((forward, backward))
    ]
    rtt_s = statistics.median(sum(ping) for ping in pings)
    return LinkMeasurement(rtt_s, forward.delay_s + backward.delay_s, *directions)


def respond(end: End, forward: LinkProfile, backward: LinkProfile) -> None:
    """The other end of `initiate`, with the same profiles in the same order."""
    for _ in range(PINGS):
        _answer(end, _STAMP_BYTES)
    for size in _ladder(forward, backward):
        _answer(end, size)
    _answer(end, bulk_bytes(backward))
    _both(end, backward, forward, leads=False)


def bulk_bytes(profile: LinkProfile) -> int:
    """Size of the bulk message: `BULK_S` of the rate, within bounds."""
    if profile.rate_bit_s is None:
        return BULK_UNLIMITED_BYTES
    return round(min(max(profile.rate_bit_s / 8 * BULK_S, BULK_MIN_BYTES), BULK_MAX_BYTES))


def _ladder(forward: LinkProfile, backward: LinkProfile) -> list[int]:
    slower_s = max(profile.transfer_s(LARGE_RUNG_BYTES) for profile in (forward, backward))
    return [*LADDER_BYTES] + [LARGE_RUNG_BYTES] * (slower_s <= LARGE_RUNG_S)


def _ping(end: End) -> tuple[float, float]:
    """One-way times there and back, in seconds."""
    return _timed_there(end, _STAMP_BYTES), _timed_here(end)


def _exchange_rung(
    end: End, size: int, forward: LinkProfile, backward: LinkProfile
) -> tuple[tuple[int, float], tuple[int, float]]:
    if size > IDLE_FROM_BYTES and (forward.shaped or backward.shaped):
        time.sleep(RTO_S + forward.delay_s + backward.delay_s)
    return (size, _timed_there(end, size)), (size, _timed_here(end))
