"""What the links of a group of parties were measured to be, and for how long that counts."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic, sleep
from typing import Any

from harness.progress import Progress
from harness.records.environment import usable_cores
from harness.records.record import OUTSIDE
from netem.tolerance import Deviation
from protocols.party import Role

FIRST_WAIT_S = 1.0  # before a link is measured again; each wait is twice as long as the one before
Pairs = tuple[tuple[Role, Role], ...]
Measure = Callable[[Pairs], Mapping[tuple[Role, Role], Mapping[str, Any]]]


@dataclass(frozen=True)
class Calibration:
    """Links as they were measured: `measured` by pair, as "P0-P1"; `outside`, the reasons why one is
    not what its profile says, the worst first; `load`, the machine's average over the last minute;
    `date`, when (ISO 8601, UTC)."""

    pairs: Pairs
    measured: dict[str, Any]
    outside: list[str]
    load: float = field(default_factory=lambda: os.getloadavg()[0])
    date: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    at_s: float = field(default_factory=monotonic)

    def covers(self, pairs: Pairs, max_age_s: float) -> bool:
        """Whether these links need not be measured again: all were within tolerance, lately."""
        recent = monotonic() - self.at_s < max_age_s
        return recent and self.pairs == pairs and not self.outside

    @property
    def worst(self) -> str:
        """The worst deviation, how many more there are, and the machine's load."""
        more = f" and {len(self.outside) - 1} more" if len(self.outside) > 1 else ""
        return f"{self.outside[0]}{more}; load {self.load:.1f} on {usable_cores()} cores"


def calibrate(
    measure: Measure, pairs: Pairs, progress: Progress, patience_s: float = 0.0
) -> Calibration:
    """Measure the links of `pairs`; again, after waits that grow, while one is outside tolerance and
    `patience_s` are not over."""
    deadline_s = monotonic() + patience_s
    wait_s = FIRST_WAIT_S
    progress.stage("calibrating the link")
    found = _calibration(measure, pairs)
    while found.outside and (left_s := deadline_s - monotonic()) > 0:
        pause_s = min(wait_s, left_s)
        progress.stage(f"{OUTSIDE}: {found.worst}; measuring again in {pause_s:.0f} s")
        sleep(pause_s)
        wait_s *= 2
        progress.stage("calibrating the link again")
        found = _calibration(measure, pairs)
    return found


def _calibration(measure: Measure, pairs: Pairs) -> Calibration:
    found = measure(pairs)
    outside = [
        (deviation.excess, f"{_where(pair, deviation)} {deviation.text}")
        for pair, measured in found.items()
        for deviation in (Deviation(**each) for each in measured["outside"])
    ]
    texts = [text for _, text in sorted(outside, key=lambda each: -each[0])]
    return Calibration(pairs, {f"{a}-{b}": m["measured"] for (a, b), m in found.items()}, texts)


def _where(pair: tuple[Role, Role], deviation: Deviation) -> str:
    a, b = pair
    return {"forward": f"{a}>{b}", "backward": f"{b}>{a}"}.get(deviation.direction, f"{a}-{b}")
