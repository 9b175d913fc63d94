"""What the links of a group of parties were measured to be, and for how long that counts."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from harness.progress import Progress
from protocols.party import Role

ATTEMPTS = 3  # a noisy machine gets that many before a link is refused
Pairs = tuple[tuple[Role, Role], ...]
Measure = Callable[[Pairs], Mapping[tuple[Role, Role], Mapping[str, Any]]]


@dataclass(frozen=True)
class Calibration:
    """Links as they were measured: `measured` by pair, as "P0-P1"; `outside`, the reasons why one is
    not what its profile says; `date`, when (ISO 8601, UTC)."""

    pairs: Pairs
    measured: dict[str, Any]
    outside: list[str]
    date: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    at_s: float = field(default_factory=time.monotonic)

    def covers(self, pairs: Pairs, max_age_s: float) -> bool:
        """Whether these links need not be measured again: all were within tolerance, lately."""
        recent = time.monotonic() - self.at_s < max_age_s
        return recent and self.pairs == pairs and not self.outside


def calibrate(measure: Measure, pairs: Pairs, progress: Progress) -> Calibration:
    """Measure the links of `pairs` until all are within tolerance, or `ATTEMPTS` times."""
    for attempt in range(ATTEMPTS):
        progress.stage("calibrating the link" + (f", attempt {attempt + 1}" if attempt else ""))
        found = {f"{a}-{b}": m for (a, b), m in measure(pairs).items()}
        outside = [f"{pair}: {reason}" for pair, m in found.items() for reason in m["outside"]]
        calibration = Calibration(pairs, {p: m["measured"] for p, m in found.items()}, outside)
        if not outside:
            break
    return calibration
