"""What calibration finds out about a link. Errors are relative: measured/expected − 1."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Rung:
    """One message size after idle, one way."""

    bytes: int
    seconds: float
    expected_s: float

    @property
    def error(self) -> float | None:
        """Relative error; None where the profile expects no time at all."""
        return relative_error(self.seconds, self.expected_s)


@dataclass(frozen=True)
class DirectionMeasurement:
    """One direction. Rates are those of a bulk message, less the one-way time of an empty one.

    both: the same while the other direction carries a bulk message too.
    expected_bit_s: the profile's rate; None is unlimited, and then there is no error.
    """

    one_way_s: float
    expected_one_way_s: float
    ladder: tuple[Rung, ...]
    bulk_bytes: int
    bulk_bit_s: float
    both_bit_s: float
    expected_bit_s: float | None

    @property
    def bulk_error(self) -> float | None:
        """Relative error of the bulk rate."""
        return relative_error(self.bulk_bit_s, self.expected_bit_s)

    @property
    def both_error(self) -> float | None:
        """Relative error of the bulk rate while both directions carry one."""
        return relative_error(self.both_bit_s, self.expected_bit_s)


@dataclass(frozen=True)
class LinkMeasurement:
    """Both directions between two roles; `forward` is from the role that initiated."""

    rtt_s: float
    expected_rtt_s: float
    forward: DirectionMeasurement
    backward: DirectionMeasurement

    @property
    def rtt_error(self) -> float | None:
        """Relative error of the round-trip time."""
        return relative_error(self.rtt_s, self.expected_rtt_s)

    def to_dict(self) -> dict[str, Any]:
        """Everything, errors included, as numbers, lists and dicts for a JSON record."""
        directions = {"forward": self.forward, "backward": self.backward}
        return {
            "rtt_s": self.rtt_s,
            "expected_rtt_s": self.expected_rtt_s,
            "rtt_error": self.rtt_error,
            **{name: _direction_dict(direction) for name, direction in directions.items()},
        }


def relative_error(measured: float, expected: float | None) -> float | None:
    """measured/expected − 1; None where nothing, or zero, is expected."""
    return measured / expected - 1 if expected else None


def _direction_dict(direction: DirectionMeasurement) -> dict[str, Any]:
    return {
        **asdict(direction),
        "ladder": [{**asdict(rung), "error": rung.error} for rung in direction.ladder],
        "bulk_error": direction.bulk_error,
        "both_error": direction.both_error,
    }
