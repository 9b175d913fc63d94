"""One connected socket to one peer: sending never blocks, receiving happens in the background."""

import socket
import struct
import threading
import time
from collections.abc import Set as AbstractSet
from queue import Empty, SimpleQueue

from harness.errors import FrameError
from harness.transport.frame import MAX_MESSAGE_BYTES, Frame, decode
from netem.link import SO_TIMESTAMPNS, EmulatedLink, date_arrivals, exact_sleeps
from protocols.errors import PeerError, PeerGone, PeerTimeout
from protocols.events import Stamp
from protocols.metered import Message
from protocols.party import Phase, Role

SCRATCH_BYTES = 1 << 16
LONG_S = 3600.0  # a wait that every clock can express
WHOLE_BYTES = 8 << 20  # one system call, and one sign of life, for so much of a large message
READ_FAILURES = (OSError, EOFError, RuntimeError, MemoryError, ArithmeticError)
MAX_VIEWS = 512  # below the 1024 of Linux for one system call
TIMESPEC = struct.Struct("@qq")  # of the kernel's note of when bytes came in, CLOCK_REALTIME
STAMP_SPACE = socket.CMSG_SPACE(TIMESPEC.size)


class SocketReader:
    """Exact reads from a blocking socket: one system call for a small frame, no copy of a large.

    came_ns: when the last of what was read most recently came in, in ns of CLOCK_MONOTONIC, however
    much later this thread found the time to read it; when it was read where the kernel does not tell.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._scratch = memoryview(bytearray(SCRATCH_BYTES))
        self._begin = self._end = 0
        self.received_ns = self.came_ns = time.monotonic_ns()
        date_arrivals(sock)

    @property
    def buffered(self) -> bool:
        """Whether bytes have been read that nobody has asked for yet."""
        return self._begin < self._end

    def read_into(self, buffer: memoryview) -> None:
        """Fill `buffer`. Raises EOFError when the stream ends, OSError when it breaks."""
        while buffer:
            if self._begin == self._end and len(buffer) >= SCRATCH_BYTES:
                buffer = buffer[self._recv(buffer[:WHOLE_BYTES], socket.MSG_WAITALL) :]
                continue
            if self._begin == self._end:
                self._begin, self._end = 0, self._recv_stamped()
            size = min(len(buffer), self._end - self._begin)
            buffer[:size] = self._scratch[self._begin : self._begin + size]
            buffer = buffer[size:]
            self._begin += size

    def _recv(self, buffer: memoryview, flags: int) -> int:
        return self._received(self._sock.recv_into(buffer, len(buffer), flags))

    def _recv_stamped(self) -> int:
        size, notes, _, _ = self._sock.recvmsg_into([self._scratch], STAMP_SPACE)
        ago_ns = 0
        for level, kind, data in notes:
            if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
                seconds, ns = TIMESPEC.unpack(data)
                ago_ns = time.time_ns() - (seconds * 1_000_000_000 + ns)
        self._received(
            size
        )  # the two clocks are read one after the other: a pause between errs late
        self.came_ns = max(self.came_ns, self.received_ns - max(0, ago_ns))
        return size

    def _received(self, size: int) -> int:
        if not size:
            raise EOFError("end of stream")
        self.received_ns = time.monotonic_ns()
        return size


def send_some(sock: socket.socket, views: list[memoryview], flags: int) -> list[memoryview]:
    """One `sendmsg` of what it will take; returns what is left. Raises OSError."""
    try:
        sent = sock.sendmsg(views[:MAX_VIEWS], (), flags)
    except BlockingIOError:
        return views
    for index, view in enumerate(views):
        if sent < len(view):
            return [view[sent:], *views[index + 1 :]]
        sent -= len(view)
    return []


class Channel:
    """Messages to and from one peer over a connected, authenticated socket, which it then owns.

    One thread may send and receive. A reader thread collects whole messages; a writer thread takes
    what the socket did not take at once; a link thread keeps back what has not arrived over an
    emulated link. All end with `close`.
    """

    def __init__(
        self, role: Role, peer: Role, sock: socket.socket, max_bytes: int = MAX_MESSAGE_BYTES
    ) -> None:
        self._names = (role, peer)
        self._sock = sock
        self._max_bytes = max_bytes
        self._inbox: SimpleQueue[Message | None] = SimpleQueue()  # None: nothing more will come
        self._outbox: SimpleQueue[list[memoryview] | None] = SimpleQueue()  # None: end the thread
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
        sock.settimeout(None)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = SocketReader(sock)
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

    def send(self, frame: Frame, phase: Phase | None) -> None:
        """Write what the socket takes now, leave the rest to the writer. Raises PeerGone."""
        if self._failure:
            raise self._error(phase)
        left = frame.views
        # A thread switch costs more than writing a small message.
        if self._queued == self._written:
            try:
                left = send_some(self._sock, left, socket.MSG_DONTWAIT)
            except OSError as error:
                self._failure = self._failure or error
                raise self._error(phase) from None
        if left:
            self._queued += 1
            self._outbox.put(left)

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
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            drained = False  # the peer was faster
        self._closing.set()
        self._on_link.put(None)
        for thread in (writer, reader, link):
            thread.join()
        self._sock.close()
        return drained

    def _write_all(self) -> None:
        while (views := self._outbox.get()) is not None:
            try:
                while views:
                    views = send_some(self._sock, views, 0)
            except OSError as error:
                self._failure = self._failure or error
            self._written += 1

    def _read_all(self) -> None:
        try:
            while True:
                self._enter(decode(self._reader.read_into, self._max_bytes, self._note_arrival))
        except READ_FAILURES as error:
            self._failure = self._failure or error
        self._enter(None)

    def _note_arrival(self, stamp: Stamp, wire_bytes: int) -> None:
        """When the message whose header has come in will have arrived."""
        link, phases = self._shaping
        if link is not None and stamp.phase in phases:
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
