"""Who connects to a listener is greeted side by side with all others: a silent stranger delays nobody."""

import os
import select
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from queue import SimpleQueue
from types import TracebackType
from typing import Self

from harness.errors import HandshakeError, Refused
from harness.transport.handshake import Credentials, Greeting, Trust, connect, ready
from harness.transport.stream import Connection
from protocols.party import ALL_ROLES, Role

SIDE_BY_SIDE = (
    64  # handshakes at once: who comes next takes the place of the one that is the oldest
)
GREETING_S = 5.0  # for a whole handshake
STRANGER_S = 2.0  # of it until the secret is proved
PAUSE_S = 0.05  # where this process has no descriptor left
Arrival = tuple[Role, Connection]


class Reception:
    """Handshakes with whoever connects to `listener`, until each role of `trusts` has come once.

    A context manager: at its end no handshake is under way. It leaves the listener open. dropped, last:
    how many strangers there were, and what was wrong with the last one.
    """

    def __init__(
        self, listener: socket.socket, me: Credentials, trusts: Mapping[Role, Trust]
    ) -> None:
        self._listener, self._me = listener, me
        self._awaited = dict(trusts)
        self._lock = threading.Lock()
        self._greeted: dict[socket.socket, threading.Thread] = {}  # the oldest first
        self._found: SimpleQueue[Arrival | HandshakeError] = SimpleQueue()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)  # rung for each of these
        self._closed = False
        self.dropped, self.last = 0, ""
        self._timeout_s = listener.gettimeout()
        listener.setblocking(False)

    def next(self, timeout_s: float) -> Arrival | None:
        """The next of those who are awaited; None if none has come. Raises Refused."""
        deadline = time.monotonic() + timeout_s
        while (arrival := self._arrival()) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            ready_now, _, _ = select.select([self._listener.fileno(), self._bell], [], [], left)
            if self._listener.fileno() in ready_now:
                self._greet_next(left)
        return arrival

    def _arrival(self) -> Arrival | None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._bell)
        while not self._found.empty():
            found = self._found.get()
            if isinstance(found, Refused):
                raise found
            if not isinstance(found, HandshakeError):
                return found
            self.dropped, self.last = self.dropped + 1, str(found)
        return None

    def _greet_next(self, left: float) -> None:
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return  # it has gone again
        except OSError:
            time.sleep(min(PAUSE_S, left))
            return
        with self._lock:
            if len(self._greeted) >= SIDE_BY_SIDE:
                oldest = next(iter(self._greeted))
                self._greeted.pop(oldest)
                _hang_up(oldest)
            thread = threading.Thread(target=self._greet, args=(sock,), daemon=True)
            self._greeted[sock] = thread
        thread.start()

    def _greet(self, sock: socket.socket) -> None:
        found: Arrival | HandshakeError
        try:
            found = self._admitted(sock)
        except (OSError, EOFError) as error:
            found = HandshakeError(f"{self._me.role} got no handshake of a stranger: {error}")
        except HandshakeError as error:
            found = error
        if isinstance(found, HandshakeError):
            sock.close()
        with self._lock:
            self._greeted.pop(sock, None)
            self._found.put(found)
            if not self._closed:
                os.eventfd_write(self._bell, 1)

    def _admitted(self, sock: socket.socket) -> Arrival:
        """A role that has proved itself, if it is the first to do so. Raises as `Greeting.accept`."""
        now = time.monotonic()
        greeting = Greeting(sock, self._me, now + STRANGER_S)
        with self._lock:
            awaited = dict(self._awaited)
        role, connection = greeting.accept(awaited, now + GREETING_S)
        with self._lock:
            trust = self._awaited.pop(role, None)
        if trust is None:
            raise HandshakeError(f"a second {role}")
        try:
            greeting.welcome(connection)
        except OSError:
            with self._lock:
                self._awaited[role] = trust
            raise
        return role, ready(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._lock:
            greeted = dict(self._greeted)
            for sock in greeted:
                _hang_up(sock)
        for thread in greeted.values():
            thread.join(GREETING_S)
        with self._lock:
            self._closed = True
            os.close(self._bell)
        while not self._found.empty():
            if not isinstance(found := self._found.get(), HandshakeError):
                found[1].sock.close()
        self._listener.settimeout(self._timeout_s)


def _hang_up(sock: socket.socket) -> None:
    """End a handshake under way."""
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def accept(
    listener: socket.socket,
    me: Credentials,
    trusts: Mapping[Role, Trust],
    *,
    timeout_s: float = 10.0,
) -> Arrival:
    """Wait for one of the roles of `trusts` and return it with its connection.

    A connection that fails to prove a secret is dropped, and waiting goes on. Raises HandshakeError at
    the deadline, and Refused.
    """
    with Reception(listener, me, trusts) as reception:
        return _next(reception, me, trusts, timeout_s)


def connect_all(
    me: Credentials,
    listener: socket.socket,
    addresses: Mapping[Role, tuple[str, int]],
    trusts: Mapping[Role, Trust],
    *,
    timeout_s: float = 10.0,
) -> dict[Role, Connection]:
    """Connect with every role of `trusts`; all of them call this at once.

    The role earlier in ALL_ROLES connects, the later one accepts; `addresses` has the later ones'. Raises
    HandshakeError, then no socket is left open.
    """
    deadline = time.monotonic() + timeout_s
    connections: dict[Role, Connection] = {}
    place = ALL_ROLES.index(me.role)
    later = [peer for peer in ALL_ROLES[place + 1 :] if peer in trusts]
    earlier = {peer: trusts[peer] for peer in ALL_ROLES[:place] if peer in trusts}
    try:
        for peer in later:
            left = max(0.01, deadline - time.monotonic())
            connections[peer] = connect(addresses[peer], me, peer, trusts[peer], timeout_s=left)
        with Reception(listener, me, earlier) as reception:
            while missing := earlier.keys() - connections.keys():
                left = deadline - time.monotonic()
                peer, connection = _next(reception, me, missing, left)
                connections[peer] = connection
    except HandshakeError:
        for connection in connections.values():
            connection.sock.close()
        raise
    return connections


def _next(
    reception: Reception, me: Credentials, awaited: Iterable[Role], timeout_s: float
) -> Arrival:
    """Raises HandshakeError."""
    if (arrival := reception.next(timeout_s)) is not None:
        return arrival
    last = f", the last: {reception.last}" if reception.last else ""
    raise HandshakeError(
        f"{me.role} waited {max(0.0, timeout_s):g} s for {' or '.join(sorted(awaited))} to connect "
        f"({reception.dropped} strangers dropped{last})"
    )
