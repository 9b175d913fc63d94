"""The part of a `Party` that is the same over every transport: phases, hop depth and events."""

import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from protocols.call_recorder import Recorder
from protocols.errors import PeerError
from protocols.events import Event, Listener, Stamp
from protocols.party import Phase, Role

if TYPE_CHECKING:
    from protocols.background_phase import MailSorter

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
    """A received message."""

    stamp: Stamp
    tensors: tuple[Tensor, ...]
    payload_bytes: int
    wire_bytes: int


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
        self.reporter: Callable[[str], None] = _nobody
        self._recorder = Recorder(listeners, cpu_clock)
        self._phase: Phase | None = None
        self._occurrences: Counter[Phase] = Counter()
        self._next_id: Counter[Role] = Counter()
        self._sending = threading.Lock()  # two threads may send: see `protocols.background_phase`
        self.sorter: MailSorter | None = None

    @abstractmethod
    def _transmit(self, to: Role, stamp: Stamp, tensors: tuple[Tensor, ...]) -> tuple[int, int]:
        """Send without blocking; return payload bytes and wire bytes."""

    @abstractmethod
    def _receive(self, source: Role) -> Message:
        """Wait for the next message of `source`. Raises PeerError."""

    @abstractmethod
    def _unread(self) -> Mapping[Role, int]:
        """How many messages of each peer are here, or under way, and were never received."""

    def send(self, to: Role, *tensors: Tensor) -> None:
        """See `Party.send`. Raises PeerGone."""
        begin = self._recorder.clocks()
        phase = self._current()
        with self._sending:
            stamp = Stamp(phase, self._occurrences[phase], self._recorder.depth, self._next_id[to])
            sizes = self._transmit(to, stamp, tensors)
            self._next_id[to] += 1
        self._recorder.sent(begin, to, stamp, sizes)

    def recv(self, source: Role) -> tuple[Tensor, ...]:
        """See `Party.recv`. Raises PeerGone, PeerTimeout, PeerError."""
        begin = self._recorder.clocks()
        phase = self._current()
        listeners_cpu_ns = self._recorder.hand_on()
        sorter = self.sorter
        message = self._receive(source) if sorter is None else sorter.next(source, aside=False)
        stamp, tensors, payload, wire = message
        if (stamp.phase, stamp.occurrence) != (phase, self._occurrences[phase]):
            raise PeerError(
                f"{self.role} is in phase {phase} #{self._occurrences[phase]}, but message "
                f"{stamp.message_id} of {source} is from phase {stamp.phase} #{stamp.occurrence}"
            )
        self._recorder.received(begin, source, stamp, (payload, wire), listeners_cpu_ns)
        return tensors

    def report(self, text: str) -> None:
        """See `Party.report`: calls `reporter`."""
        self.reporter(text)

    def exchange(self, peer: Role, *tensors: Tensor) -> tuple[Tensor, ...]:
        """See `Party.exchange`."""
        self.send(peer, *tensors)
        return self.recv(peer)

    def step(self, name: str) -> "_Step":
        """See `Party.step`."""
        return _Step(self, name)

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """See `Party.phase`. Phases do not nest. One that raises is not reported as ended."""
        if self._phase is not None:
            raise RuntimeError(f"phase {name} inside phase {self._phase}")
        self._occurrences[name] += 1
        self._phase = name
        try:
            self._recorder.begin_phase(name)
            yield
            self._recorder.end_phase(name)
        finally:
            self._phase = None
            self._recorder.hand_on()

    @contextmanager
    def observed_by(self, *listeners: Listener) -> Iterator[None]:
        """Call `listeners` too, with every `Event` inside, and compute segments split by steps."""
        recorder = self._recorder
        before = recorder.listeners, recorder.splits
        recorder.listeners += listeners
        recorder.splits |= bool(listeners)
        try:
            yield
        finally:
            recorder.listeners, recorder.splits = before

    def start_run(self) -> None:
        """Forget which phases there were, so that all parties count them alike in the next run.

        To be called by all parties behind a barrier. Raises PeerError if messages were left unread.
        """
        left = {peer: count for peer, count in self._unread().items() if count}
        if left:
            text = ", ".join(f"{count} of {peer}" for peer, count in left.items())
            raise PeerError(f"{self.role} left messages unread: {text}")
        self._occurrences.clear()

    def occurrences(self, phase: Phase) -> int:
        """How often `phase` has begun in this run."""
        return self._occurrences[phase]

    def take_in(self, events: Iterable[Event], depth: int) -> None:
        """Count in the phase under way what another thread sent and received for it."""
        self._recorder.take_in(events, depth)

    def _current(self) -> Phase:
        if self._phase is None:
            raise RuntimeError("messages belong to a phase: use them inside `with party.phase(…)`")
        return self._phase


class _Step:
    """A step of one party: its name is part of the label inside. A class, for it costs a third of a
    `contextmanager`."""

    __slots__ = ("_name", "_outer", "_party")

    def __init__(self, party: MeteredParty, name: str) -> None:
        self._party, self._name, self._outer = party, name, ""

    def __enter__(self) -> None:
        recorder = self._party._recorder
        self._outer = recorder.label
        label = f"{self._outer}/{self._name}" if self._outer else self._name
        recorder.change_step(label, self._party._phase)

    def __exit__(self, *error: object) -> None:
        self._party._recorder.change_step(self._outer, self._party._phase)


def _nobody(text: str) -> None:
    """Nobody wants to know."""
