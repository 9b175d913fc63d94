"""One connected socket to one peer: sending never blocks, receiving happens in the background."""

import socket
import threading
import time
from collections.abc import Set as AbstractSet
from queue import Empty, SimpleQueue

from harness.transport.frame import MAX_MESSAGE_BYTES, Frame, FrameError, decode
from netem.link import EmulatedLink
from protocols.events import Stamp
from protocols.metered import Message
from protocols.party import PeerError, PeerGone, PeerTimeout, Phase, Role

SCRATCH_BYTES = 1 << 16
WHOLE_BYTES = 8 << 20  # one system call, and one sign of life, for so much of a large message
MAX_VIEWS = 512  # below the 1024 of Linux for one system call


class SocketReader:
    """Exact reads from a blocking socket: one system call for a small frame, no copy of a large."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._scratch = memoryview(bytearray(SCRATCH_BYTES))
        self._begin = self._end = 0
        self.heard_ns = time.monotonic_ns()

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
                self._begin, self._end = 0, self._recv(self._scratch, 0)
            size = min(len(buffer), self._end - self._begin)
            buffer[:size] = self._scratch[self._begin : self._begin + size]
            buffer = buffer[size:]
            self._begin += size

    def _recv(self, buffer: memoryview, flags: int) -> int:
        size = self._sock.recv_into(buffer, len(buffer), flags)
        if not size:
            raise EOFError("end of stream")
        self.heard_ns = time.monotonic_ns()
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
    what the socket did not take at once. Both end with `close`. What comes in may pass an emulated link.
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
        self._shaping: tuple[EmulatedLink | None, AbstractSet[Phase]] = None, frozenset()
        self._failure: OSError | EOFError | RuntimeError | MemoryError | None = None
        sock.settimeout(None)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = SocketReader(sock)
        self._threads = [
            threading.Thread(target=target, name=f"{role}-{peer}-{target.__name__}", daemon=True)
            for target in (self._write_all, self._read_all)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def unread(self) -> int:
        """How many messages have arrived and were not received."""
        return max(0, self._inbox.qsize() - (1 if self._failure else 0))

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
            silent_ns = time.monotonic_ns() - max(begin_ns, self._reader.heard_ns)
            try:
                message = self._inbox.get(timeout=max(0.0, timeout_s - silent_ns / 1e9))
            except Empty:
                if time.monotonic_ns() - self._reader.heard_ns < timeout_s * 1e9:
                    continue
                raise self._silence(timeout_s, phase) from None
            if message is None:
                self._inbox.put(None)
                raise self._error(phase)
            return message

    def close(self, drain_s: float) -> bool:
        """Send what is queued, for at most `drain_s`, then end both threads and the connection.

        Returns whether everything that was queued has been handed to the kernel.
        """
        writer, reader = self._threads
        self._outbox.put(None)
        writer.join(drain_s)
        drained = self._queued == self._written and not self._failure
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            drained = False  # the peer was faster
        writer.join()
        reader.join()
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
                self._inbox.put(decode(self._reader.read_into, self._max_bytes, self._arrival))
        except (OSError, EOFError, RuntimeError, MemoryError) as error:
            self._failure = self._failure or error
        self._inbox.put(None)

    def _arrival(self, stamp: Stamp, wire_bytes: int) -> int:
        link, phases = self._shaping
        if link is None or stamp.phase not in phases:
            return 0
        return link.arrival_ns(time.monotonic_ns(), wire_bytes)

    def _error(self, phase: Phase | None) -> PeerError:
        role, peer = self._names
        if isinstance(self._failure, OSError | EOFError):
            return PeerGone(f"{peer} has closed its connection; {role} is in phase {phase}")
        return FrameError(f"{role} cannot read what {peer} sent in phase {phase}: {self._failure}")

    def _silence(self, timeout_s: float, phase: Phase | None) -> PeerTimeout:
        role, peer = self._names
        return PeerTimeout(f"{role} in phase {phase} heard nothing from {peer} for {timeout_s:g} s")
