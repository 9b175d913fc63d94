"""Exact comparison of counts: every difference by name."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from harness.gate.baseline import Counts
from harness.record import Sent

NOTHING = Sent(0, 0, 0)
NAMES = {"messages": "messages", "payload_bytes": "payload bytes", "wire_bytes": "wire bytes"}


@dataclass(frozen=True)
class Difference:
    """One number that is not the baseline's. where: "online P0>P1". None: there is no such phase."""

    where: str
    what: str
    expected: int | None
    found: int | None

    def __str__(self) -> str:
        if self.found is None:
            return f"{self.where}: the baseline has this phase, the run has not"
        if self.expected is None:
            return f"{self.where}: the run has this phase, the baseline has not"
        change = self.found - self.expected
        return f"{self.where}: {self.what} {self.found}, expected {self.expected} ({change:+d})"


def differences(
    expected: Mapping[str, Counts], found: Mapping[str, Counts]
) -> tuple[Difference, ...]:
    """Everything in which `found` is not as `expected`, phase by phase; none is good.

    A pair of roles that sends nothing is the same as one that is not named.
    """
    phases = [*expected, *(phase for phase in found if phase not in expected)]
    return tuple(
        found_one
        for phase in phases
        for found_one in _of_phase(phase, expected.get(phase), found.get(phase))
    )


def _of_phase(phase: str, expected: Counts | None, found: Counts | None) -> Iterator[Difference]:
    if expected is None or found is None:
        hops = [None if counts is None else counts.hops for counts in (expected, found)]
        yield Difference(phase, "hops", *hops)
        return
    if expected.hops != found.hops:
        yield Difference(phase, "hops", expected.hops, found.hops)
    for pair in sorted(expected.sent.keys() | found.sent.keys()):
        old, new = (asdict(counts.sent.get(pair, NOTHING)) for counts in (expected, found))
        for key, name in NAMES.items():
            if old[key] != new[key]:
                yield Difference(f"{phase} {pair}", name, old[key], new[key])
