"""SocketParty over an emulated link: when messages enter it, and when they are handed over."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from harness.transport import Connection, PeerGone, SocketParty
from harness.transport.frame import encode
from harness.transport.stream import Reader
from netem.emulated_link import EmulatedLink
from netem.profile import LinkProfile
from protocols.events import Stamp
from protocols.party import Phase
from tests.tcp import connection_pair, tcp_pair

both = pytest.mark.parametrize("tls", [False, True], ids=["in the clear", "TLS"])


@contextmanager
def between(
    tls: bool, delay_s: float, rate_bit_s: float | None = None, timeout_s: float = 0.1
) -> Iterator[tuple[SocketParty, Connection]]:
    """P0, which receives over a link in the online phase, and the other end of its connection."""
    ours, theirs = connection_pair(tls)
    with SocketParty("P0", {"P1": ours}, timeout_s) as party:
        link = EmulatedLink(LinkProfile(delay_s, rate_bit_s), 0)
        party.shape({"P1": link}, {"online"})
        yield party, theirs
    theirs.sock.close()


@contextmanager
def over_a_link(
    delay_s: float, rate_bit_s: float | None = None, timeout_s: float = 0.1
) -> Iterator[tuple[SocketParty, socket.socket]]:
    """The same in the clear, with the socket that P1's bytes go into."""
    with between(False, delay_s, rate_bit_s, timeout_s) as (party, theirs):
        yield party, theirs.sock


def framed(phase: Phase, number: int, size: int = 0) -> bytes:
    tensor = torch.full((size,), number, dtype=torch.uint8)
    return b"".join(encode(Stamp(phase, 1, 0, number), [tensor]).views)


def sealed(connection: Connection, data: bytes) -> bytes:
    return b"".join(view for views in connection.sealed([memoryview(data)]) for view in views)


@both
def test_a_message_enters_the_link_with_its_first_bytes(tls: bool) -> None:
    """With TLS, with its first record. Its rest comes in during the delay, and what follows queues
    behind it. A message under way is no silence (0.1 s)."""
    with between(tls, 0.2, 1e6) as (party, theirs), party.phase("online"):
        first, second = (
            sealed(theirs, framed("online", n, size)) for n, size in ((1, 50_000), (2, 25_000))
        )
        cut = (1 << 14) + 22 if tls else 100
        begin = time.monotonic()
        theirs.sock.sendall(first[:cut])
        time.sleep(0.3)
        theirs.sock.sendall(first[cut:] + second)
        ends = [(party.recv("P1")[0][0].item(), time.monotonic() - begin) for _ in range(2)]
    (n, first_s), (m, second_s) = ends
    assert (n, m) == (1, 2)
    assert 0.6 <= first_s < 0.85  # 0.9 if it entered with its last byte
    assert 0.8 <= second_s < 1.05  # 0.7 if it did not queue


def test_nothing_overtakes_a_message_on_the_link() -> None:
    with over_a_link(0.2) as (party, sock):
        begin = time.monotonic()
        sock.sendall(framed("online", 1) + framed("offline", 2))
        sock.shutdown(socket.SHUT_WR)
        with party.phase("online"):
            party.recv("P1")
        assert time.monotonic() - begin >= 0.2
        with party.phase("offline"):
            party.recv("P1")
            with pytest.raises(PeerGone):
                party.recv("P1")
        assert time.monotonic() - begin < 1


def test_closing_does_not_wait_for_a_link() -> None:
    with over_a_link(60.0) as (party, sock), party.phase("online"):
        sock.sendall(framed("online", 1))
        deadline = time.monotonic() + 5
        while not party._unread()["P1"] and time.monotonic() < deadline:
            time.sleep(0.01)
        assert party._unread() == {"P1": 1}
        begin = time.monotonic()
    assert time.monotonic() - begin < 1


@both
def test_a_late_reader_does_not_delay_a_message(tls: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it finds when it has time entered the link when it came in."""
    read = Reader._recv_stamped

    def busy(reader: Reader, buffer: memoryview) -> int:
        time.sleep(0.3)
        return read(reader, buffer)

    with between(tls, 0.4, timeout_s=5.0) as (party, theirs):
        monkeypatch.setattr(Reader, "_recv_stamped", busy)
        with party.phase("offline"):
            theirs.sock.sendall(sealed(theirs, framed("offline", 0)))
            party.recv("P1")
        message = sealed(theirs, framed("online", 1))
        begin = time.monotonic()
        theirs.sock.sendall(message)
        with party.phase("online"):
            party.recv("P1")
        assert 0.4 <= time.monotonic() - begin < 0.65  # 0.7 if it entered with its reader


def test_a_message_that_breaks_off_is_reported_at_once() -> None:
    with over_a_link(60.0) as (party, sock), party.phase("online"):
        sock.sendall(framed("online", 1, 1000)[:500])
        sock.close()
        begin = time.monotonic()
        with pytest.raises(PeerGone):
            party.recv("P1")
        assert time.monotonic() - begin < 1


def test_bytes_are_dated_by_the_kernel_not_by_their_reader() -> None:
    """Twice: the kernel begins to date bytes a moment after a socket asks for it."""
    ours, theirs = tcp_pair()
    with ours, theirs:
        reader = Reader(Connection(ours))
        for _ in range(2):
            sent_ns = time.monotonic_ns()
            theirs.sendall(b"12345678")
            time.sleep(0.1)
            for _ in range(2):
                reader.read_into(memoryview(bytearray(4)))
    assert 0 <= reader.came_ns - sent_ns < 50e6
