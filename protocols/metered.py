"""The part of a `Party` that is the same over every transport: phases, hop depth and events."""

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from protocols.events import Event, EventKind, Listener, Stamp
from protocols.party import PeerError, Phase, Role

MESSAGE_DTYPES: tuple[torch.dtype, ...] = (
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float32,
    torch.float64,
    torch.bool,
)


class Message(NamedTuple):
    """A received message. release_ns: CLOCK_MONOTONIC before which `recv` must not return it."""

    stamp: Stamp
    tensors: tuple[Tensor, ...]
    payload_bytes: int
    wire_bytes: int
    release_ns: int = 0


Clocks = tuple[int, int]  # CLOCK_MONOTONIC and processor time, in ns


class MeteredParty(ABC):
    """Implements `Party` on top of two calls that a transport provides: `_transmit`, `_receive`.

    listeners: called with every `Event`, in order, from the thread that uses the party.
    cpu_clock: processor time in ns.
    """

    def __init__(
        self,
        role: Role,
        listeners: Iterable[Listener] = (),
        cpu_clock: Callable[[], int] = time.process_time_ns,
    ) -> None:
        self.role: Role = role
        self._listeners = tuple(listeners)
        self._cpu_clock = cpu_clock
        self._phase: Phase | None = None
        self._occurrences: Counter[Phase] = Counter()
        self._next_id: Counter[Role] = Counter()
        self._depth = 0
        self._waited_cpu_ns = 0
        self._mark: Clocks = (0, 0)

    @abstractmethod
    def _transmit(self, to: Role, stamp: Stamp, tensors: tuple[Tensor, ...]) -> tuple[int, int]:
        """Send without blocking; return payload bytes and wire bytes."""

    @abstractmethod
    def _receive(self, source: Role) -> Message:
        """Wait for the next message of `source`. Raises PeerError."""

    @abstractmethod
    def _unread(self) -> Mapping[Role, int]:
        """How many messages of each peer have arrived and were never received."""

    def _await_release(self, release_ns: int) -> int:
        """Wait until `release_ns`; return the processor time in ns that the wait itself took."""
        return 0

    def send(self, to: Role, *tensors: Tensor) -> None:
        """See `Party.send`. Raises PeerGone."""
        begin = self._clocks()
        phase = self._current()
        stamp = Stamp(phase, self._occurrences[phase], self._depth, self._next_id[to])
        payload, wire = self._transmit(to, stamp, tensors)
        self._next_id[to] += 1
        self._report("send", begin, to, Message(stamp, tensors, payload, wire))

    def recv(self, source: Role) -> tuple[Tensor, ...]:
        """See `Party.recv`. Raises PeerGone, PeerTimeout, PeerError."""
        begin = self._clocks()
        phase = self._current()
        message = self._receive(source)
        stamp = message.stamp
        if (stamp.phase, stamp.occurrence) != (phase, self._occurrences[phase]):
            raise PeerError(
                f"{self.role} is in phase {phase} #{self._occurrences[phase]}, but message "
                f"{stamp.message_id} of {source} is from phase {stamp.phase} #{stamp.occurrence}"
            )
        waited = self._await_release(message.release_ns) if message.release_ns else 0
        self._report("recv", begin, source, message, waited)
        return message.tensors

    def exchange(self, peer: Role, *tensors: Tensor) -> tuple[Tensor, ...]:
        """See `Party.exchange`."""
        self.send(peer, *tensors)
        return self.recv(peer)

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """See `Party.phase`. Phases do not nest. A body that raises is not reported as ended."""
        if self._phase is not None:
            raise RuntimeError(f"phase {name} inside phase {self._phase}")
        self._occurrences[name] += 1
        self._phase, self._depth, self._waited_cpu_ns = name, 0, 0
        try:
            self._emit(Event("phase_begin", name, time.monotonic_ns(), 0))
            begin = self._mark = self._clocks()
            yield
            self._end_phase(name, begin)
        finally:
            self._phase = None

    def start_run(self) -> None:
        """Forget which phases there were, so that all parties count them alike in the next run.

        To be called by all parties behind a barrier. Raises PeerError if messages were left unread.
        """
        left = {peer: count for peer, count in self._unread().items() if count}
        if left:
            text = ", ".join(f"{count} of {peer}" for peer, count in left.items())
            raise PeerError(f"{self.role} left messages unread: {text}")
        self._occurrences.clear()

    def _end_phase(self, name: Phase, begin: Clocks) -> None:
        end = self._clocks()
        self._emit_compute(name, self._depth, end)
        wall, cpu = end[0] - begin[0], end[1] - begin[1] - self._waited_cpu_ns
        self._emit(Event("phase_end", name, end[0], self._depth, wall_ns=wall, cpu_ns=cpu))

    def _current(self) -> Phase:
        if self._phase is None:
            raise RuntimeError("messages belong to a phase: use them inside `with party.phase(…)`")
        return self._phase

    def _clocks(self) -> Clocks:
        return time.monotonic_ns(), self._cpu_clock()

    def _report(
        self, kind: EventKind, begin: Clocks, peer: Role, message: Message, waited_cpu_ns: int = 0
    ) -> None:
        stamp, _, payload, wire, _ = message
        depth_before = self._depth
        if kind == "recv":
            self._depth = max(depth_before, stamp.depth + 1)
        self._waited_cpu_ns += waited_cpu_ns
        if not self._listeners:
            return
        end_ns, end_cpu_ns = self._clocks()
        wall, cpu = end_ns - begin[0], end_cpu_ns - begin[1] - waited_cpu_ns
        self._emit_compute(stamp.phase, depth_before, begin)
        self._emit(
            Event(
                kind,
                stamp.phase,
                begin[0],
                self._depth,
                peer,
                stamp.message_id,
                payload,
                wire,
                wall,
                cpu,
            )
        )
        # Read again, so that what the listeners took is nobody's compute time.
        self._mark = self._clocks()

    def _emit_compute(self, phase: Phase, depth: int, until: Clocks) -> None:
        begin_ns, begin_cpu_ns = self._mark
        wall, cpu = until[0] - begin_ns, until[1] - begin_cpu_ns
        self._emit(Event("compute", phase, begin_ns, depth, None, -1, 0, 0, wall, cpu))

    def _emit(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)
