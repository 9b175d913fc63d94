"""Strangers that connect and say nothing, or something else: nobody waits for them."""

import errno
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from harness.errors import HandshakeError, PartyFailure
from harness.parties.group import PartyGroup
from harness.transport import Credentials, Trust, accept, connect, connect_all, listen
from harness.transport.handshake import SECRET_BYTES
from protocols.party import ROLES, Role
from tests.faults.puppets import Stage

SECRET = Trust(os.urandom(SECRET_BYTES))
MANY = 150  # more than are greeted at once


@pytest.fixture
def silent() -> Iterator[ExitStack]:
    """Closes strangers at the end."""
    with ExitStack() as stack:
        yield stack


def crowd(stack: ExitStack, address: tuple[str, int], number: int, says: bytes = b"") -> None:
    for _ in range(number):
        sock = stack.enter_context(socket.socket())
        sock.settimeout(0 if not says else 5)
        sock.connect_ex(address)  # it need not be taken yet
        if says:
            sock.sendall(says)


def started(runner: Stage, wait_s: float) -> None:
    """Start a group of parties, and end it."""
    runner.start_timeout_s = wait_s
    parties = PartyGroup(runner, 1, timeout_s=5)
    try:
        parties.start()
    finally:
        parties.close()


@pytest.mark.parametrize("says", [b"", b"PBHS\x02P0H0", b"GET / HTTP/1.1\r\n\r\n"])
def test_silent_strangers_keep_no_run_from_starting(silent: ExitStack, says: bytes) -> None:
    """They come first, and more of them than a party has time to wait for one by one."""
    count = 12 if says else MANY
    started(Stage(before=lambda address: crowd(silent, address, count, says)), wait_s=8)


def test_how_long_the_harness_waits_is_what_it_was_told(silent: ExitStack) -> None:
    runner = Stage(before=lambda address: crowd(silent, address, 10), absent=("P1",))
    with pytest.raises(PartyFailure, match=r"P1 did not start in 0\.5 s") as caught:
        started(runner, wait_s=0.5)
    assert caught.value.timed_out


def test_parties_find_each_other_among_strangers(silent: ExitStack) -> None:
    listeners = {role: listen() for role in ROLES}
    addresses = {role: listener.getsockname() for role, listener in listeners.items()}
    for address in addresses.values():
        crowd(silent, address, 10)

    def mesh(role: Role) -> int:
        trusts = {peer: SECRET for peer in ROLES if peer != role}
        found = connect_all(Credentials(role), listeners[role], addresses, trusts, timeout_s=6)
        for connection in found.values():
            connection.sock.close()
        return len(found)

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(mesh, ROLES)) == [2, 2, 2]
    for listener in listeners.values():
        listener.close()


def test_of_two_that_prove_to_be_one_role_the_first_is_in() -> None:
    """Both are greeted at once; the second is told nothing but the end of its connection."""
    with listen() as listener, ThreadPoolExecutor(2) as pool:
        address = listener.getsockname()
        with socket.create_connection(address) as slow:
            slow.sendall(b"PBHS\x02P0P1")  # greeted before the other comes
            accepted = pool.submit(
                accept, listener, Credentials("P1"), {"P0": SECRET}, timeout_s=10
            )
            with closing(connect(address, Credentials("P0"), "P1", SECRET).sock):
                role, connection = accepted.result()
                assert role == "P0"
                connection.sock.close()


def test_a_connection_that_is_gone_before_it_is_taken_is_no_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """accept(2) fails too: with ECONNABORTED, or where there are no descriptors left."""
    failures = [errno.ECONNABORTED, errno.EMFILE]
    real = socket.socket.accept

    def failing(self: socket.socket) -> tuple[socket.socket, object]:
        if failures:
            raise OSError(failures.pop(), "not this time")
        return real(self)

    monkeypatch.setattr(socket.socket, "accept", failing)
    with listen() as listener, ThreadPoolExecutor(1) as pool:
        address = listener.getsockname()
        accepted = pool.submit(accept, listener, Credentials("P1"), {"P0": SECRET}, timeout_s=10)
        with closing(connect(address, Credentials("P0"), "P1", SECRET).sock):
            accepted.result()[1].sock.close()


def test_hosts_that_vanish_are_asked_after(silent: ExitStack) -> None:
    """A host that loses its power closes no connection."""
    with listen() as listener, ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(accept, listener, Credentials("P1"), {"P0": SECRET})
        near = connect(listener.getsockname(), Credentials("P0"), "P1", SECRET)
        ends = near, accepted.result()[1]
        for end in ends:
            assert end.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert end.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 60
            end.sock.close()


def test_nothing_of_a_crowd_is_left(silent: ExitStack) -> None:
    """No descriptor, no thread."""
    before = here()
    with listen() as listener:
        crowd(silent, listener.getsockname(), MANY)
        with pytest.raises(HandshakeError, match="strangers dropped"):
            accept(listener, Credentials("P1"), {"P0": SECRET}, timeout_s=0.5)
        silent.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and here() > before:
        time.sleep(0.05)
    assert here() <= before


def here() -> tuple[int, int]:
    """Descriptors and threads of this process."""
    return len(list(Path("/proc/self/fd").iterdir())), len(list(Path("/proc/self/task").iterdir()))
