"""Counts of one party: messages, bytes, hops and times of every phase it went through."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from protocols.events import Event
from protocols.party import Phase, Role


@dataclass(frozen=True)
class Traffic:
    """What one role sent to one other in one phase. Wire bytes include framing, and TLS records."""

    messages: int = 0
    payload_bytes: int = 0
    wire_bytes: int = 0

    def plus(self, event: Event) -> "Traffic":
        """The traffic with one more message."""
        return Traffic(
            self.messages + 1,
            self.payload_bytes + event.payload_bytes,
            self.wire_bytes + event.wire_bytes,
        )


@dataclass(frozen=True)
class PhaseCounts:
    """One completed phase of one party.

    sent: by receiving role; a role that was sent nothing is absent.
    depth: this party's hop depth at the end; a phase's hops are the largest over its parties.
    end_ns: CLOCK_MONOTONIC at its end.
    cpu_ns: processor time, without the wait for links.
    """

    phase: Phase
    sent: Mapping[Role, Traffic]
    depth: int
    wall_ns: int
    cpu_ns: int
    end_ns: int


@dataclass
class Counters:
    """Listener that counts. Phases that ended by an exception leave no entry."""

    _done: list[PhaseCounts] = field(default_factory=list)
    _sent: dict[Role, Traffic] = field(default_factory=dict)

    def __call__(self, event: Event) -> None:
        """Take one event into account."""
        if event.kind == "send":
            assert event.peer is not None
            self._sent[event.peer] = self._sent.get(event.peer, Traffic()).plus(event)
        elif event.kind == "phase_begin":
            self._sent = {}
        elif event.kind == "phase_end":
            counts = PhaseCounts(
                event.phase, self._sent, event.depth, event.wall_ns, event.cpu_ns, event.t_ns
            )
            self._done.append(counts)

    @property
    def phases(self) -> tuple[PhaseCounts, ...]:
        """All completed phases, in the order they were entered."""
        return tuple(self._done)

    def of(self, phase: Phase) -> tuple[PhaseCounts, ...]:
        """The completed occurrences of one phase."""
        return tuple(counts for counts in self._done if counts.phase == phase)

    def clear(self) -> None:
        """Forget all completed phases."""
        self._done = []
