"""The bytes of a connection, in the clear or in TLS records: read and dated, and written."""

import itertools
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass

from harness.errors import FrameError
from harness.transport import tls
from harness.transport.tls import Tls
from netem.emulated_link import date_arrivals, recv_dated

SCRATCH_BYTES = 1 << 16
WHOLE_BYTES = 8 << 20  # one system call, and one sign of life, for so much of a large message
MAX_VIEWS = 512  # below the 1024 of Linux for one system call
EAGER_CALLS = 3  # of the program itself for one message; what then is left another thread writes


@dataclass(frozen=True)
class Connection:
    """A connected, authenticated socket; with TLS, what protects it and the peer's fingerprint."""

    sock: socket.socket
    tls: Tls | None = None
    fingerprint: bytes | None = None

    def wire_bytes(self, size: int) -> int:
        """How many bytes leave for a message of `size`."""
        return size if self.tls is None else tls.wire_bytes(size)

    def sealed(self, views: list[memoryview]) -> Iterator[list[memoryview]]:
        """A message as it leaves, part by part. Each is encrypted when it is asked for: in the order
        in which they are sent."""
        if self.tls is None:
            yield views
            return
        for batch in tls.batches(views):
            yield [self.tls.encrypt(batch)]


class Reader:
    """Exact reads from a blocking socket: one system call for a small frame, no copy of a large one
    but the decryption.

    came_ns: when the last of what was read most recently came in, in ns of CLOCK_MONOTONIC, however
    much later this thread found the time to read it; when it was read where the kernel does not tell.
    The first bytes of a message in TLS have come when their record has.
    deadline_s: when a read that is not complete raises TimeoutError, on the monotonic clock; None: never.
    """

    deadline_s: float | None = None

    def __init__(self, connection: Connection) -> None:
        self._sock, self._tls = connection.sock, connection.tls
        self._scratch = memoryview(bytearray(SCRATCH_BYTES))
        self._records = memoryview(bytearray(SCRATCH_BYTES if self._tls else 0))
        self._begin = self._end = 0
        self.received_ns = self.came_ns = time.monotonic_ns()
        date_arrivals(self._sock)

    @property
    def buffered(self) -> bool:
        """Whether bytes have been read that nobody has asked for yet."""
        return self._begin < self._end or (self._tls is not None and self._tls.buffered)

    def read_into(self, buffer: memoryview) -> None:
        """Fill `buffer`. Raises EOFError when the stream ends, OSError when it breaks, FrameError for
        records that are not the peer's."""
        while buffer:
            if self._begin == self._end and len(buffer) >= SCRATCH_BYTES:
                buffer = buffer[self._recv(buffer[:WHOLE_BYTES]) :]
                continue
            if self._begin == self._end:
                self._begin, self._end = 0, self._fill_scratch()
            size = min(len(buffer), self._end - self._begin)
            buffer[:size] = self._scratch[self._begin : self._begin + size]
            buffer = buffer[size:]
            self._begin += size

    def _recv(self, buffer: memoryview) -> int:
        if self._tls is not None:
            return self._decrypt(self._tls, buffer)
        self._limit()
        return self._received(self._sock.recv_into(buffer, len(buffer), socket.MSG_WAITALL))

    def _fill_scratch(self) -> int:
        if self._tls is not None:
            return self._decrypt(self._tls, self._scratch)
        return self._recv_stamped(self._scratch)

    def _decrypt(self, tls_: Tls, buffer: memoryview) -> int:
        """One record, into `buffer` as far as it goes."""
        try:
            while not (size := tls_.decrypt(buffer)):
                tls_.feed(self._records[: self._recv_stamped(self._records)])
        except ssl.SSLError as error:
            raise FrameError(f"not a TLS record of this peer: {tls.reason(error)}") from None
        return size

    def _recv_stamped(self, buffer: memoryview) -> int:
        self._limit()
        size, came_ns = recv_dated(self._sock, buffer)
        self._received(size)
        self.came_ns = max(self.came_ns, came_ns)
        return size

    def _limit(self) -> None:
        if self.deadline_s is None:
            return
        if (left_s := self.deadline_s - time.monotonic()) <= 0:
            raise TimeoutError("too slow")
        self._sock.settimeout(left_s)

    def _received(self, size: int) -> int:
        if not size:
            raise EOFError("end of stream")
        self.received_ns = time.monotonic_ns()
        return size


class Outgoing:
    """One message on its way into the kernel."""

    def __init__(self, connection: Connection, views: list[memoryview]) -> None:
        self._sock = connection.sock
        self._parts = connection.sealed(views)
        self._left: list[memoryview] = []

    def push(self, wait: bool) -> bool:
        """Hand over what the socket takes at once, or wait until it has taken all; whether it has.

        At once, at most so much as `EAGER_CALLS` bring. Raises OSError.
        """
        for _ in itertools.count() if wait else range(EAGER_CALLS):
            self._left = self._left or next(self._parts, [])
            if not self._left:
                return True
            self._left = send_some(self._sock, self._left, 0 if wait else socket.MSG_DONTWAIT)
            if self._left and not wait:
                break
        return False


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
