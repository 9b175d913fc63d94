"""One connected socket to one peer: sending never blocks, receiving happens in the background."""

import socket
import threading
import time
from collections.abc import Set as AbstractSet
from queue import Empty, SimpleQueue

from harness.errors import FrameError
from harness.transport.frame import MAX_MESSAGE_BYTES, Frame, decode
from harness.transport.stream import Connection, Outgoing, Reader
from netem.emulated_link import EmulatedLink, exact_sleeps
from protocols.errors import PeerError, PeerGone, PeerTimeout
from protocols.events import Stamp
from protocols.metered_party import Message
from protocols.party import Phase, Role

LONG_S = 3600.0  # a wait that every clock can express
READ_FAILURES = (OSError, EOFError, RuntimeError, MemoryError, ArithmeticError)


class Channel:
    """Messages to and from one peer over a connection, which it then owns.

    One thread at a time may send, and one receive. A reader thread collects whole messages; a writer
    thread takes what the socket did not take at once; a link thread keeps back what has not arrived
    over an emulated link. All end with `close`.
    """

    def __init__(
        self, role: Role, peer: Role, connection: Connection, max_bytes: int = MAX_MESSAGE_BYTES
    ) -> None:
        self._names = (role, peer)
        self._connection = connection
        self._max_bytes = max_bytes
        self._inbox: SimpleQueue[Message | None] = SimpleQueue()  # None: nothing more will come
        self._outbox: SimpleQueue[Outgoing | None] = SimpleQueue()  # None: end the thread
        self._queued = self._written = 0  # each is advanced by one thread only
        self._on_link: SimpleQueue[tuple[int, Message | None] | None] = SimpleQueue()
        self._under_way = 0  # how many are on the link
        self._moving = threading.Lock()  # for a message's way from there into the inbox
        self._due_ns = 0  # when the message that is being read will have arrived
        self._arrival_ns = 0  # the same of the last one that was read whole
        self._ended = False
        self._closing = threading.Event()
        self._shaping: tuple[EmulatedLink | None, AbstractSet[Phase]] = None, frozenset()
        self._failure: Exception | None = None
        connection.sock.settimeout(None)
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = Reader(connection)
        self._threads = [
            threading.Thread(target=target, name=f"{role}-{peer}-{target.__name__}", daemon=True)
            for target in (self._write_all, self._read_all, self._deliver_all)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def unread(self) -> int:
        """How many messages are here, or under way on the link, and were not received."""
        with self._moving:
            here = self._inbox.qsize() + self._under_way
        return here - 1 if self._ended else here

    def shape(self, link: EmulatedLink | None, phases: AbstractSet[Phase]) -> None:
        """Let what comes in pass `link` from now on, in `phases`."""
        self._shaping = link, phases

    def send(self, frame: Frame, phase: Phase | None) -> int:
        """Write what the socket takes now, leave the rest to the writer. Raises PeerGone.

        Returns how many bytes leave.
        """
        if self._failure:
            raise self._error(phase)
        outgoing, done = Outgoing(self._connection, frame.views), False
        # A thread switch costs more than writing a small message.
        if self._queued == self._written:
            try:
                done = outgoing.push(wait=False)
            except OSError as error:
                self._failure = self._failure or error
                raise self._error(phase) from None
        if not done:
            self._queued += 1
            self._outbox.put(outgoing)
        return self._connection.wire_bytes(frame.wire_bytes)

    def receive(self, timeout_s: float, phase: Phase | None) -> Message:
        """The next message. Raises PeerTimeout after that much silence, PeerGone, FrameError."""
        begin_ns = time.monotonic_ns()
        while True:
            try:
                left_s = timeout_s - self._silent_s(begin_ns)
                message = self._inbox.get(timeout=min(max(0.0, left_s), LONG_S))
            except Empty:
                if self._silent_s(begin_ns) < timeout_s:
                    continue
                raise self._silence(timeout_s, phase) from None
            if message is None:
                self._inbox.put(None)
                raise self._error(phase)
            return message

    def close(self, drain_s: float) -> bool:
        """Send what is queued, for at most `drain_s`, then end all threads and the connection.

        Returns whether everything that was queued has been handed to the kernel.
        """
        writer, reader, link = self._threads
        self._outbox.put(None)
        writer.join(drain_s)
        drained = self._queued == self._written and not self._failure
        try:
            self._connection.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            drained = False  # the peer was faster
        self._closing.set()
        self._on_link.put(None)
        for thread in (writer, reader, link):
            thread.join()
        self._connection.sock.close()
        return drained

    def _write_all(self) -> None:
        while (outgoing := self._outbox.get()) is not None:
            try:
                outgoing.push(wait=True)
            except OSError as error:
                self._failure = self._failure or error
            self._written += 1

    def _read_all(self) -> None:
        try:
            while True:
                message = decode(self._reader.read_into, self._max_bytes, self._note_arrival)
                wire_bytes = self._connection.wire_bytes(message.wire_bytes)
                self._enter(message._replace(wire_bytes=wire_bytes))
        except READ_FAILURES as error:
            self._failure = self._failure or error
        self._enter(None)

    def _note_arrival(self, stamp: Stamp, size: int) -> None:
        """When the message whose header has come in will have arrived."""
        link, phases = self._shaping
        if link is not None and stamp.phase in phases:
            wire_bytes = self._connection.wire_bytes(size)
            self._due_ns = link.arrival_ns(self._reader.came_ns, wire_bytes)

    def _enter(self, message: Message | None) -> None:
        """Into the inbox, or onto the link; nothing overtakes what is on the link."""
        if message is not None:
            self._arrival_ns = self._due_ns
        with self._moving:
            self._ended = message is None
            if not self._under_way and self._arrival_ns <= time.monotonic_ns():
                self._inbox.put(message)
                return
            self._under_way += 1
        self._on_link.put((self._arrival_ns, message))

    def _deliver_all(self) -> None:
        exact_sleeps()
        while (entry := self._on_link.get()) is not None:
            arrival_ns, message = entry
            while not self._closing.is_set() and (left_ns := arrival_ns - time.monotonic_ns()) > 0:
                self._closing.wait(min(left_ns / 1e9, LONG_S))
            with self._moving:
                self._under_way -= 1
                self._inbox.put(message)

    def _silent_s(self, begin_ns: int) -> float:
        """Since the peer last sent something, or `begin_ns`. A message under way is no silence."""
        received_ns = max(begin_ns, self._reader.received_ns, self._arrival_ns)
        return (time.monotonic_ns() - received_ns) / 1e9

    def _error(self, phase: Phase | None) -> PeerError:
        role, peer = self._names
        if isinstance(self._failure, OSError | EOFError):
            return PeerGone(f"{peer} has closed its connection; {role} is in phase {phase}")
        return FrameError(f"{role} cannot read what {peer} sent in phase {phase}: {self._failure}")

    def _silence(self, timeout_s: float, phase: Phase | None) -> PeerTimeout:
        role, peer = self._names
        return PeerTimeout(
            f"{role} in phase {phase} received nothing from {peer} for {timeout_s:g} s"
        )
