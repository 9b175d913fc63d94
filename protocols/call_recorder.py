"""Follows one party through its phases: hop depth, steps, and the events its listeners hear of."""

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from protocols.events import Event, EventKind, Listener, Stamp
from protocols.party import Phase, Role

Clocks = tuple[int, int]  # CLOCK_MONOTONIC and processor time, in ns


class _Call(NamedTuple):
    """A transport call, the end of a phase, or ("compute") where the step changes, as noted when it
    was over."""

    kind: EventKind
    phase: Phase
    begin: Clocks
    end: Clocks
    depth: int
    peer: Role | None = None
    message_id: int = -1
    sizes: tuple[int, int] = (0, 0)
    listeners_cpu_ns: int = 0
    label: str = ""


class Recorder:
    """Keeps `depth` and `label`, and notes the calls of one phase after the other.

    label: of the step under way. splits: whether compute segments end where a step does.

    Between a message and the next nothing is done but the note: events are made of the notes, and
    `listeners` called, before the party waits for a message and at the end of the phase.
    """

    def __init__(self, listeners: Iterable[Listener], cpu_clock: Callable[[], int]) -> None:
        self.depth = 0
        self.label = ""
        self.splits = False
        self.listeners = tuple(listeners)
        self._cpu_clock = cpu_clock
        self._notes: list[_Call] = []
        self._begin: Clocks = (0, 0)
        self._mark: Clocks = (0, 0)  # until where events were made
        self._mark_depth = 0
        self._listeners_cpu_ns = 0  # in this phase

    def clocks(self) -> Clocks:
        """CLOCK_MONOTONIC and processor time now."""
        return time.monotonic_ns(), self._cpu_clock()

    def begin_phase(self, name: Phase) -> None:
        """A phase begins, with depth 0."""
        self.depth = self._mark_depth = 0
        self._tell(Event("phase_begin", name, time.monotonic_ns(), 0))
        self._listeners_cpu_ns = 0
        self._begin = self._mark = self.clocks()

    def end_phase(self, name: Phase) -> None:
        """The phase ends."""
        end = self.clocks()
        self._notes.append(_Call("phase_end", name, end, end, self.depth, label=self.label))

    def change_step(self, label: str, phase: Phase | None) -> None:
        """The step `label` is under way from now on, in `phase` if there is one."""
        if self.splits and phase is not None:
            now = self.clocks()
            self._notes.append(_Call("compute", phase, now, now, self.depth, label=self.label))
        self.label = label

    def sent(self, begin: Clocks, to: Role, stamp: Stamp, sizes: tuple[int, int]) -> None:
        """A `send` that began at `begin` is over. sizes: payload and wire bytes."""
        end = self.clocks()
        phase, _, depth, message_id = stamp
        note = _Call("send", phase, begin, end, depth, to, message_id, sizes, label=self.label)
        self._notes.append(note)

    def received(
        self,
        begin: Clocks,
        source: Role,
        stamp: Stamp,
        sizes: tuple[int, int],
        listeners_cpu_ns: int,
    ) -> None:
        """A `recv` that began at `begin` is over: the depth may grow.

        listeners_cpu_ns: processor time since `begin` that the listeners took.
        """
        end = self.clocks()
        phase, _, depth, message_id = stamp
        self.depth = depth = max(self.depth, depth + 1)
        received = source, message_id, sizes, listeners_cpu_ns, self.label
        self._notes.append(_Call("recv", phase, begin, end, depth, *received))

    def take_in(self, events: Iterable[Event], depth: int) -> None:
        """Tell the listeners of messages that another thread noted, as part of this phase."""
        self.hand_on()
        for event in events:
            if event.kind in ("send", "recv"):
                self._tell(event)
        self.depth = max(self.depth, depth)

    def hand_on(self) -> int:
        """Tell the listeners everything noted; return the processor time in ns it took."""
        begin_ns = self._cpu_clock()
        notes, self._notes = self._notes, []
        for note in notes:
            self._tell(self._compute(note))
            if note.kind != "compute":
                self._tell(self._phase_end(note) if note.kind == "phase_end" else _message(note))
            self._mark, self._mark_depth = note.end, note.depth
            self._listeners_cpu_ns += note.listeners_cpu_ns
        return self._cpu_clock() - begin_ns

    def _compute(self, note: _Call) -> Event:
        begin_ns, begin_cpu_ns = self._mark
        return Event(
            "compute",
            note.phase,
            begin_ns,
            self._mark_depth,
            wall_ns=note.begin[0] - begin_ns,
            cpu_ns=note.begin[1] - begin_cpu_ns,
            label=note.label,
        )

    def _phase_end(self, note: _Call) -> Event:
        return Event(
            "phase_end",
            note.phase,
            note.end[0],
            note.depth,
            wall_ns=note.end[0] - self._begin[0],
            cpu_ns=note.end[1] - self._begin[1] - self._listeners_cpu_ns,
            label=note.label,
        )

    def _tell(self, event: Event) -> None:
        for listener in self.listeners:
            listener(event)


def _message(note: _Call) -> Event:
    wall, cpu = note.end[0] - note.begin[0], note.end[1] - note.begin[1] - note.listeners_cpu_ns
    return Event(
        note.kind,
        note.phase,
        note.begin[0],
        note.depth,
        note.peer,
        note.message_id,
        *note.sizes,
        wall_ns=wall,
        cpu_ns=cpu,
        label=note.label,
    )
