"""Measures a link between its two ends, through messages like those of a protocol.

Every message carries when it was sent, on a clock that both ends refer to (see `End`), and its
receiver notes how long it took. A round is one such message there and one back:

    pings     11 rounds of small messages; the first is thrown away, medians are kept
    ladder    rounds of 4 kB, 64 kB, 1 MB and 4 MB, as far as the rate allows, each after the link
              was idle for so long that a TCP connection starts slowly again
    bulk      a round of 80 ms worth of the rate, at once after the ladder
    both      the same, but both messages at the same time

A brief measurement has 6 pings and no ladder.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from netem.emulated_link import wait_until
from netem.measurement import DirectionMeasurement, LinkMeasurement, Rung
from netem.profile import LinkProfile

PINGS, BRIEF_PINGS = 11, 6
LADDER_BYTES = (4_000, 64_000, 1_000_000, 4_000_000)
RUNG_MAX_S = 0.1  # of serialisation; larger rungs are left out
BULK_S = 0.08
BULK_MAX_BYTES, BULK_UNLIMITED_BYTES = 64_000_000, 32_000_000
COLD_WINDOW_BYTES = 14_000  # what a TCP connection sends at once after idle
RETRANSMISSION_S = 0.2  # idle for longer than this and the RTT, TCP starts slowly
LEAD_S = 0.02

_STAMP_BYTES = 8


@dataclass(frozen=True)
class End:
    """This end of the link: how to send a message to the other end, and to receive one from it.

    clock_ahead_ns: this end's CLOCK_MONOTONIC less the clock that both ends refer to.
    """

    send: Callable[..., None]
    recv: Callable[[], tuple[Tensor, ...]]
    clock_ahead_ns: int = 0

    def now_ns(self) -> int:
        """The common clock."""
        return time.monotonic_ns() - self.clock_ahead_ns


def initiate(
    end: End, forward: LinkProfile, backward: LinkProfile, brief: bool = False
) -> LinkMeasurement:
    """Measure the link from this end while the other end runs `respond`.

    forward, backward: what the link should be from here and to here; they set the sizes, and the
    measurement is compared with them. brief: fewer pings and no ladder.
    """
    pings = [_round(end, _STAMP_BYTES) for _ in range(_pings(brief))][1:]
    sizes = [] if brief else _ladder(forward, backward)
    ladder = [(size, _rung(end, size, forward, backward)) for size in sizes]
    bulk = _round(end, bulk_bytes(forward))
    both = _lead_both(end, forward)
    rtt_s = statistics.median(sum(ping) for ping in pings)
    directions = [
        _direction(
            profile,
            statistics.median(ping[i] for ping in pings),
            [(size, times[i]) for size, times in ladder],
            bulk[i],
            both[i],
        )
        for i, profile in enumerate((forward, backward))
    ]
    return LinkMeasurement(rtt_s, forward.delay_s + backward.delay_s, *directions)


def respond(end: End, forward: LinkProfile, backward: LinkProfile, brief: bool = False) -> None:
    """The other end of `initiate`, with the same two profiles: to here, and from here."""
    for _ in range(_pings(brief)):
        _answer(end, _STAMP_BYTES)
    for size in [] if brief else _ladder(forward, backward):
        _answer(end, size)
    _answer(end, bulk_bytes(backward))
    _follow_both(end, backward)


def bulk_bytes(profile: LinkProfile) -> int:
    """Size of the bulk message in bytes: `BULK_S` of the rate, up to `BULK_MAX_BYTES`."""
    if profile.rate_bit_s is None:
        return BULK_UNLIMITED_BYTES
    return max(_STAMP_BYTES, min(round(profile.rate_bit_s / 8 * BULK_S), BULK_MAX_BYTES))


def _pings(brief: bool) -> int:
    return BRIEF_PINGS if brief else PINGS


def _ladder(forward: LinkProfile, backward: LinkProfile) -> list[int]:
    rates = [profile.rate_bit_s for profile in (forward, backward) if profile.rate_bit_s]
    return [size for size in LADDER_BYTES if not rates or size * 8 / min(rates) <= RUNG_MAX_S]


def _rung(end: End, size: int, forward: LinkProfile, backward: LinkProfile) -> tuple[float, float]:
    if size > COLD_WINDOW_BYTES and (forward.shaped or backward.shaped):
        time.sleep(RETRANSMISSION_S + forward.delay_s + backward.delay_s)
    return _round(end, size)


def _round(end: End, size: int) -> tuple[float, float]:
    """Seconds that a message of `size` bytes took to the other end, and its answer back."""
    _send(end, size)
    here_s, rest = _recv(end)
    return float(rest[0]), here_s


def _answer(end: End, size: int) -> None:
    here_s, _ = _recv(end)
    _send(end, size, torch.tensor(here_s, dtype=torch.float64))


def _lead_both(end: End, forward: LinkProfile) -> tuple[float, float]:
    start_ns = end.now_ns() + round((forward.delay_s + forward.jitter_s + LEAD_S) * 1e9)
    end.send(torch.tensor(start_ns))
    here_s = _send_and_recv_at(end, start_ns, bulk_bytes(forward))
    (there_s,) = end.recv()
    return float(there_s), here_s


def _follow_both(end: End, backward: LinkProfile) -> None:
    (start_ns,) = end.recv()
    here_s = _send_and_recv_at(end, int(start_ns), bulk_bytes(backward))
    end.send(torch.tensor(here_s, dtype=torch.float64))


def _send_and_recv_at(end: End, start_ns: int, size: int) -> float:
    wait_until(start_ns + end.clock_ahead_ns)
    _send(end, size)
    return _recv(end)[0]


def _send(end: End, size: int, *more: Tensor) -> None:
    stamp, filling = np.zeros(1, np.int64), torch.zeros(size - _STAMP_BYTES, dtype=torch.uint8)
    message = (torch.from_numpy(stamp), filling, *more)
    stamp[0] = end.now_ns()
    end.send(*message)


def _recv(end: End) -> tuple[float, tuple[Tensor, ...]]:
    stamp, _, *more = end.recv()
    return (end.now_ns() - int(stamp)) / 1e9, tuple(more)


def _direction(
    profile: LinkProfile,
    one_way_s: float,
    ladder: Sequence[tuple[int, float]],
    bulk_s: float,
    both_s: float,
) -> DirectionMeasurement:
    size = bulk_bytes(profile)
    return DirectionMeasurement(
        one_way_s=one_way_s,
        expected_one_way_s=profile.delay_s,
        ladder=tuple(Rung(rung, took_s, profile.transfer_s(rung)) for rung, took_s in ladder),
        bulk_bytes=size,
        bulk_bit_s=_rate_bit_s(size, bulk_s - one_way_s),
        both_bit_s=_rate_bit_s(size, both_s - one_way_s),
        expected_bit_s=profile.rate_bit_s,
    )


def _rate_bit_s(size: int, took_s: float) -> float:
    return size * 8 / max(took_s, 1e-9)  # jitter may make a small message slower than a bulk one
