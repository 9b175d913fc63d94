"""Whether a measured link is the one that was asked for."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from netem.measurement import DirectionMeasurement, LinkMeasurement, Rung
from netem.profile import LinkProfile


@dataclass(frozen=True)
class Tolerance:
    """How far a link may be from its profile: a fraction, plus an absolute time in seconds.

    Handling a message at its ends comes on top of any link: 0.05 to 0.2 ms a message, by the machine. A
    profile's own jitter is allowed too. The floors are for what the profile leaves unlimited: only a link
    that something else slows down is below them.
    """

    rtt: float = 0.05
    rtt_s: float = 0.3e-3
    bulk: float = 0.05
    ladder: float = 0.05
    ladder_s: float = 0.5e-3
    floor_bit_s: float = 0.5e9
    unshaped_rtt_s: float = 5e-3


Direction = Literal["", "forward", "backward"]  # "": both


@dataclass(frozen=True)
class Deviation:
    """One way in which a link is not its profile.

    excess: how many times the allowed deviation it is.
    """

    direction: Direction
    text: str
    excess: float


# A kernel link's rate counts the headers of every packet: 66 bytes of 1514 are 4.4 %.
PACKETS = Tolerance(bulk=0.07, ladder=0.07, ladder_s=1e-3)


def judge(
    measurement: LinkMeasurement,
    profiles: tuple[LinkProfile, LinkProfile],
    tolerance: Tolerance | None = None,
) -> list[Deviation]:
    """Why the link is outside `tolerance` of its profiles (forward, backward), the worst first; empty
    if within."""
    allowed = tolerance or Tolerance()
    forward, backward = profiles
    reasons = list(_judge_rtt(measurement, forward, backward, allowed))
    reasons += _judge_direction("forward", measurement.forward, forward, allowed)
    reasons += _judge_direction("backward", measurement.backward, backward, allowed)
    return sorted(reasons, key=lambda deviation: -deviation.excess)


def _judge_rtt(
    measurement: LinkMeasurement,
    forward: LinkProfile,
    backward: LinkProfile,
    allowed: Tolerance,
) -> Iterator[Deviation]:
    expected_s = forward.delay_s + backward.delay_s
    if expected_s == 0:
        if measurement.rtt_s > allowed.unshaped_rtt_s:
            text = (
                f"rtt is {measurement.rtt_s * 1e3:.3f} ms on a link without delay, "
                f"more than {allowed.unshaped_rtt_s * 1e3:g} ms"
            )
            yield Deviation("", text, measurement.rtt_s / allowed.unshaped_rtt_s)
        return
    margin_s = allowed.rtt * expected_s + allowed.rtt_s + forward.jitter_s + backward.jitter_s
    yield from _time("", "rtt", measurement.rtt_s, expected_s, margin_s)


def _judge_direction(
    name: Direction, measured: DirectionMeasurement, profile: LinkProfile, allowed: Tolerance
) -> Iterator[Deviation]:
    for rung in measured.ladder:
        yield from _judge_rung(name, rung, profile, allowed)
    rates = {"bulk": measured.bulk_bit_s, "both-ways bulk": measured.both_bit_s}
    for what, bit_s in rates.items():
        yield from _judge_rate(name, what, bit_s, profile, allowed, measured.bulk_bytes)


def _judge_rung(
    name: Direction, rung: Rung, profile: LinkProfile, allowed: Tolerance
) -> Iterator[Deviation]:
    margin_s = allowed.ladder * rung.expected_s + allowed.ladder_s + profile.jitter_s
    if profile.rate_bit_s is None:
        margin_s += rung.bytes * 8 / allowed.floor_bit_s
        if not profile.shaped:
            margin_s += allowed.unshaped_rtt_s
    yield from _time(name, f"{rung.bytes} bytes", rung.seconds, rung.expected_s, margin_s)


def _judge_rate(
    name: Direction,
    what: str,
    bit_s: float,
    profile: LinkProfile,
    allowed: Tolerance,
    size: int,
) -> Iterator[Deviation]:
    if profile.rate_bit_s is None:
        if bit_s < allowed.floor_bit_s:
            text = (
                f"{what} is {bit_s / 1e6:.1f} Mbit/s on a link without a rate, "
                f"less than {allowed.floor_bit_s / 1e6:g} Mbit/s"
            )
            yield Deviation(name, text, allowed.floor_bit_s / max(bit_s, 1.0))
        return
    ideal_s = size * 8 / profile.rate_bit_s
    margin = allowed.bulk + 2 * profile.jitter_s / ideal_s
    if (off := abs(bit_s / profile.rate_bit_s - 1)) > margin:
        text = (
            f"{what} is {bit_s / 1e6:.1f} Mbit/s instead of {profile.rate_bit_s / 1e6:g} ± "
            f"{margin * 100:.1f} %"
        )
        yield Deviation(name, text, off / margin)


def _time(
    name: Direction, what: str, measured_s: float, expected_s: float, margin_s: float
) -> Iterator[Deviation]:
    if (off_s := abs(measured_s - expected_s)) > margin_s:
        text = (
            f"{what} takes {measured_s * 1e3:.3f} ms instead of {expected_s * 1e3:.3f} ± "
            f"{margin_s * 1e3:.3f} ms"
        )
        yield Deviation(name, text, off_s / margin_s)
