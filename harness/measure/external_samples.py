"""What was seen of evaluations of external programs, and the phases of a record that come of it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from baselines.external.program_file import OFFLINE
from harness.measure.program_links import Counts
from harness.records.record import PhaseRecord, RolePhase, Sent
from harness.runners.guarded import Usage
from protocols.party import Role

PREPARE, ONLINE = "prepare", "online"
NO_HOPS = "messages of external programs do not say which they follow"


@dataclass(frozen=True)
class Boundary:
    """Between two phases: when, in ns of CLOCK_MONOTONIC, and what had been sent and taken until then."""

    at_ns: int
    counts: Counts
    usages: Mapping[Role, Usage]


@dataclass(frozen=True)
class Part:
    """One phase of one evaluation."""

    begin: Boundary
    end: Boundary

    @property
    def wall_ns(self) -> int:
        """How long it took."""
        return self.end.at_ns - self.begin.at_ns

    def sent(self, role: Role, peer: Role) -> Sent:
        """What `role` sent to `peer`."""
        nothing, key = Sent(0, 0, 0), f"{role}>{peer}"
        after, before = self.end.counts.get(key, nothing), self.begin.counts.get(key, nothing)
        return Sent(
            after.messages - before.messages,
            after.payload_bytes - before.payload_bytes,
            after.wire_bytes - before.wire_bytes,
        )

    @property
    def wire_bytes(self) -> int:
        """Of all roles."""
        total = sum(each.wire_bytes for each in self.end.counts.values())
        return total - sum(each.wire_bytes for each in self.begin.counts.values())

    def cpu_ns(self, role: Role) -> int:
        """What `role` computed."""
        return self.end.usages[role].cpu_ns - self.begin.usages[role].cpu_ns


@dataclass(frozen=True)
class Sample:
    """One evaluation: its phases, when its markers came, since the begin, and its answer's text."""

    parts: dict[str, Part]
    markers: dict[str, int]
    answer: str

    @property
    def wire_bytes(self) -> int:
        """Of all roles, since the begin."""
        return sum(part.wire_bytes for name, part in self.parts.items() if name != PREPARE)


def parts(start: Boundary | None, rest: Sequence[Boundary]) -> dict[str, Part]:
    """The phases between boundaries: the last is online, one before it offline."""
    found = {PREPARE: Part(start, rest[0])} if start else {}
    if len(rest) > 2:
        found[OFFLINE] = Part(rest[0], rest[1])
    return found | {ONLINE: Part(rest[-2], rest[-1])}


def phase_records(
    roles: Sequence[Role], measured: Sequence[Sample], warmups: Sequence[Sample]
) -> dict[str, PhaseRecord]:
    """The phases that the evaluations had. Counts are those of the evaluation in the middle, by bytes."""
    made = {}
    middle = sorted(measured, key=lambda sample: sample.wire_bytes)[len(measured) // 2]
    for name in (PREPARE, OFFLINE, ONLINE):
        timed, before = _of(name, measured), _of(name, warmups)
        if timed or before:  # of programs that stay, only the first evaluation has prepared
            counted = middle.parts.get(name, (timed or before)[0])
            made[name] = _phase_record(roles, timed or before, before if timed else [], counted)
    return made


def _of(name: str, samples: Sequence[Sample]) -> list[Part]:
    return [sample.parts[name] for sample in samples if name in sample.parts]


def _phase_record(
    roles: Sequence[Role], timed: Sequence[Part], warmups: Sequence[Part], counted: Part
) -> PhaseRecord:
    unix_ns = time.time_ns() - time.monotonic_ns()
    return PhaseRecord(
        wall_ns=[part.wall_ns for part in timed],
        warmup_wall_ns=[part.wall_ns for part in warmups],
        hops=None,
        roles={str(role): _role_phase(role, roles, timed, counted) for role in roles},
        started_ns=[part.begin.at_ns + unix_ns for part in timed],
        no_hops=NO_HOPS,
    )


def _role_phase(
    role: Role, roles: Sequence[Role], timed: Sequence[Part], counted: Part
) -> RolePhase:
    return RolePhase(
        cpu_ns=[part.cpu_ns(role) for part in timed],
        peak_rss_bytes=max(part.end.usages[role].peak_rss_bytes for part in timed),
        sent={peer: counted.sent(role, peer) for peer in roles if peer != role},
    )


def varying_counts(samples: Sequence[Sample]) -> str | None:
    """How far evaluations differ in what they send; None where they do not."""
    sizes = sorted(sample.wire_bytes for sample in samples)
    if sizes[0] == sizes[-1]:
        return None
    return f"{sizes[0]} to {sizes[-1]} bytes were sent, by the evaluation"
