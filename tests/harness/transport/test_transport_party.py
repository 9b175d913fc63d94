"""SocketParty within one process: rules, counts, failures."""

import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from harness.errors import FrameError
from harness.transport import (
    Connection,
    Counters,
    Event,
    Listener,
    PeerError,
    PeerGone,
    PeerTimeout,
    SocketParty,
    Traffic,
)
from harness.transport.frame import HEADER, encode
from protocols.events import Stamp
from protocols.in_process_party import run_parties
from protocols.metered_party import MeteredParty
from protocols.party import ROLES, Role
from tests.tcp import connection_pair, tcp_pair

X = torch.arange(6)
Functions = Mapping[Role, Callable[[Any], Any]]
Listeners = Mapping[Role, Sequence[Listener]]

both = pytest.mark.parametrize("tls", [False, True], ids=["in the clear", "TLS"])


@contextmanager
def connected(
    *roles: Role, timeout_s: float = 30.0, listeners: Listeners | None = None, tls: bool = False
) -> Iterator[list[SocketParty]]:
    """Parties in one process with a connection between each two; no thread survives them."""
    before = set(threading.enumerate())
    connections: dict[Role, dict[Role, Connection]] = {role: {} for role in roles}
    for i, a in enumerate(roles):
        for b in roles[i + 1 :]:
            connections[a][b], connections[b][a] = connection_pair(tls, a, b)
    observed_by = listeners or {}
    parties = [
        SocketParty(role, connections[role], timeout_s, observed_by.get(role, ())) for role in roles
    ]
    try:
        yield parties
    finally:
        for party in parties:
            party.close()
    assert set(threading.enumerate()) == before


def run_sockets(
    functions: Functions, listeners: Listeners | None = None, tls: bool = False
) -> dict[Role, Any]:
    with (
        connected(*functions, listeners=listeners, tls=tls) as parties,
        ThreadPoolExecutor(len(parties)) as pool,
    ):
        futures = {party.role: pool.submit(functions[party.role], party) for party in parties}
        return {role: future.result() for role, future in futures.items()}


def depths(run: Any, bodies: Mapping[Any, Callable[[MeteredParty], None]]) -> list[int]:
    """Run each role's body in one phase and return the depth that each reports at its end."""

    def in_phase(party: MeteredParty) -> None:
        with party.phase("online"):
            bodies[party.role](party)

    counters: dict[Role, Counters] = {role: Counters() for role in bodies}
    run(dict.fromkeys(bodies, in_phase), listeners={role: [counters[role]] for role in bodies})
    return [counters[role].phases[0].depth for role in bodies]


@pytest.mark.parametrize("run", [run_parties, run_sockets])
def test_depth_counts_hops_on_the_critical_path(run: Any) -> None:
    def does(*steps: str) -> Callable[[MeteredParty], None]:
        """Steps like ">P1" (send to P1), "<P1" (receive) and "=P1" (exchange)."""

        def body(party: MeteredParty) -> None:
            for step in steps:
                peer = next(role for role in ROLES if role == step[1:])
                if step[0] != "<":
                    party.send(peer, X)
                if step[0] != ">":
                    party.recv(peer)

        return body

    parallel = {"P0": does(">P1", ">P1", ">P1"), "P1": does("<P0", "<P0", "<P0")}
    assert depths(run, parallel) == [0, 1]
    exchanges = {"P0": does("=P1", "=P1"), "P1": does("=P0", "=P0")}
    assert depths(run, exchanges) == [2, 2]
    diamond = {
        "P0": does(">P1", ">P2", "<P2"),
        "P1": does("<P0", ">P2"),
        "P2": does("<P0", "<P1", ">P0"),
    }
    assert depths(run, diamond) == [3, 1, 2]
    crossing = {"P0": does(">P1", "<P1", ">P1"), "P1": does(">P0", "<P0", "<P0")}
    assert depths(run, crossing) == [1, 2]


@both
def test_counters_hold_what_was_sent_in_each_phase(tls: bool) -> None:
    counters, record = Counters(), 22 * tls
    with connected("P0", "P1", "P2", listeners={"P0": [counters]}, tls=tls) as (p0, p1, p2):
        for arguments in (1, 2):
            with p0.phase("offline"), p1.phase("offline"), p2.phase("offline"):
                p0.send("P1", X, X[:arguments])
                p0.send("P1")
                p0.send("P2", X.reshape(2, 3))
                p1.recv("P0")
                p1.recv("P0")
                p1.send("P0", X)
                p0.recv("P1")
        with p0.phase("online"):
            pass
    empty = HEADER.size
    for arguments, counts in zip((1, 2), counters.of("offline"), strict=True):
        payload = 48 + 8 * arguments
        assert counts.sent == {
            "P1": Traffic(2, payload, payload + 2 * empty + 2 * 10 + 2 * record),
            "P2": Traffic(1, 48, 48 + empty + 18 + record),
        }
        assert counts.depth == 2
        assert 0 < counts.cpu_ns < counts.wall_ns * 4
    assert [counts.phase for counts in counters.phases] == ["offline", "offline", "online"]
    assert (counters.phases[2].depth, counters.phases[2].sent) == (0, {})
    counters.clear()
    assert counters.phases == ()


def test_what_a_failed_phase_sent_is_not_counted() -> None:
    def fail(party: SocketParty) -> None:
        with party.phase("online"):
            party.send("P1", X)
            raise ZeroDivisionError

    counters = Counters()
    with connected("P0", "P1", listeners={"P0": [counters]}) as (p0, _):
        with pytest.raises(ZeroDivisionError):
            fail(p0)
        with p0.phase("online"):
            p0.send("P1", X[:1])
    (counts,) = counters.phases
    assert counts.sent["P1"].payload_bytes == 8


@both
def test_both_ends_report_a_message_alike(tls: bool) -> None:
    at_p0: list[Event] = []
    at_p1: list[Event] = []
    listeners: Listeners = {"P0": [at_p0.append], "P1": [at_p1.append]}
    with (
        connected("P0", "P1", listeners=listeners, tls=tls) as (p0, p1),
        p0.phase("online"),
        p1.phase("online"),
    ):
        for size in (1, 6, 40_000):
            p0.send("P1", torch.arange(size))
            p1.recv("P0")
    sent = [event for event in at_p0 if event.kind == "send"]
    received = [event for event in at_p1 if event.kind == "recv"]
    assert [event.message_id for event in sent] == [0, 1, 2]
    for a, b in zip(sent, received, strict=True):
        assert (a.peer, b.peer) == ("P1", "P0")
        assert a.message_id == b.message_id
        assert (a.payload_bytes, a.wire_bytes) == (b.payload_bytes, b.wire_bytes)


def test_parties_that_disagree_on_the_phase_are_told_so() -> None:
    with connected("P0", "P1") as (p0, p1):
        with p0.phase("offline"):
            p0.send("P1", X)
        with p1.phase("online"), pytest.raises(PeerError, match=r"P1 is in phase online #1, but"):
            p1.recv("P0")


def test_an_early_message_of_the_next_phase_waits() -> None:
    with connected("P0", "P1") as (p0, p1):
        for _ in range(2):
            with p0.phase("online"):
                p0.send("P1", X)
        for _ in range(2):
            with p1.phase("online"):
                p1.recv("P0")


@both
def test_large_messages_both_ways_at_once_do_not_deadlock(tls: bool) -> None:
    def exchange(party: SocketParty, peer: Role) -> bool:
        message = torch.arange(300_000_000 // 8)
        with party.phase("online"):
            begin = time.monotonic()
            party.send(peer, message)
            at_once = time.monotonic() - begin < 2
            return torch.equal(party.recv(peer)[0], message) and at_once

    done = run_sockets(
        {"P0": lambda p: exchange(p, "P1"), "P1": lambda p: exchange(p, "P0")}, tls=tls
    )
    assert done == {"P0": True, "P1": True}


@both
def test_what_was_queued_is_sent_before_closing(tls: bool) -> None:
    with connected("P0", "P1", tls=tls) as (p0, p1):
        with p0.phase("online"):
            for n in range(5):
                p0.send("P1", torch.full((5_000_000,), n))
        assert p0.close()
        with p1.phase("online"):
            assert [int(p1.recv("P0")[0][-1]) for _ in range(5)] == list(range(5))
            with pytest.raises(PeerGone):
                p1.recv("P0")


def test_closing_does_not_wait_for_a_peer_that_reads_nothing() -> None:
    ours, theirs = tcp_pair()
    party = SocketParty("P0", {"P1": Connection(ours)}, 1.0)
    with party.phase("online"):
        party.send("P1", torch.zeros(20_000_000))
    begin = time.monotonic()
    assert not party.close(drain_s=0.2)
    assert time.monotonic() - begin < 2
    theirs.close()


def test_a_silent_peer_times_out() -> None:
    with connected("P0", "P1", timeout_s=0.2) as (p0, _), p0.phase("online"):
        begin = time.monotonic()
        with pytest.raises(
            PeerTimeout, match=r"P0 in phase online received nothing from P1 for 0.2 s"
        ):
            p0.recv("P1")
        assert 0.2 <= time.monotonic() - begin < 1


def test_a_slow_peer_is_not_silent() -> None:
    ours, theirs = tcp_pair()
    frame = encode(Stamp("online", 1, 0, 0), [torch.arange(10)])
    data = b"".join(frame.views)

    def dribble() -> None:
        for at in range(0, len(data), 10):
            theirs.sendall(data[at : at + 10])
            time.sleep(0.1)

    thread = threading.Thread(target=dribble)
    with SocketParty("P0", {"P1": Connection(ours)}, timeout_s=0.5) as party, party.phase("online"):
        thread.start()
        assert torch.equal(party.recv("P1")[0], torch.arange(10))
    thread.join()
    theirs.close()


@pytest.mark.parametrize("partial", [0, 10, 60])
def test_a_closed_connection_is_reported_by_recv_and_send(partial: int) -> None:
    ours, theirs = tcp_pair()
    frame = encode(Stamp("online", 1, 0, 0), [X])
    theirs.sendall(b"".join(frame.views)[:partial])
    theirs.close()
    with SocketParty("P0", {"P1": Connection(ours)}, 5.0) as party, party.phase("online"):
        for _ in range(2):
            with pytest.raises(PeerGone, match="P1 has closed its connection; P0 is in phase onl"):
                party.recv("P1")
        with pytest.raises(PeerGone, match="P1 has closed"):
            party.send("P1", X)


def test_garbage_is_a_frame_error_that_names_the_peer() -> None:
    ours, theirs = tcp_pair()
    with SocketParty("P0", {"P1": Connection(ours)}, 5.0) as party, party.phase("online"):
        theirs.sendall(b"GET / HTTP/1.1\r\nHost: somewhere-else.example\r\n\r\n")
        with pytest.raises(FrameError, match="P0 cannot read what P1 sent in phase online: not a"):
            party.recv("P1")
    theirs.close()


def test_a_frame_over_the_limit_is_refused_at_both_ends() -> None:
    ours, theirs = tcp_pair()
    small = SocketParty("P0", {"P1": Connection(ours)}, 5.0, max_message_bytes=1000)
    large = SocketParty("P1", {"P0": Connection(theirs)}, 5.0)
    with small, large, small.phase("online"), large.phase("online"):
        with pytest.raises(FrameError, match="at most 1000 bytes"):
            small.send("P1", torch.zeros(1000))
        large.send("P0", torch.zeros(1000))
        with pytest.raises(FrameError, match="descriptor bytes"):
            small.recv("P1")


def test_unknown_peers_are_refused() -> None:
    with connected("P0", "P1") as (p0, _), p0.phase("online"):
        with pytest.raises(ValueError, match="P0 has no connection to P2"):
            p0.send("P2", X)
        with pytest.raises(ValueError, match="P0 has no connection to P2"):
            p0.recv("P2")


@both
def test_many_tensors_and_many_small_messages(tls: bool) -> None:
    with connected("P0", "P1", tls=tls) as (p0, p1), p0.phase("online"), p1.phase("online"):
        p0.send("P1", *[torch.tensor(n) for n in range(1024)])
        assert [int(tensor) for tensor in p1.recv("P0")] == list(range(1024))
        for n in range(2000):
            p0.send("P1", torch.tensor(n))
        assert [int(p1.recv("P0")[0]) for _ in range(2000)] == list(range(2000))


def test_a_run_starts_with_nothing_unread() -> None:
    with connected("P0", "P1") as (p0, p1):
        with p0.phase("online"), p1.phase("online"):
            p0.send("P1", X)
            p0.send("P1", X)
            p1.recv("P0")
            deadline = time.monotonic() + 5
            while not p1._unread()["P0"] and time.monotonic() < deadline:
                time.sleep(0.01)
        p0.start_run()
        with pytest.raises(PeerError, match="P1 left messages unread: 1 of P0"):
            p1.start_run()


def test_header_is_as_documented() -> None:
    head = bytes(encode(Stamp("offline", 2, 5, 9), [X]).views[0])[: HEADER.size]
    expected = struct.pack("<4sBBHIIIQQ", b"PBFR", 2, 1, 1, 2, 5, 10, 9, HEADER.size + 58)
    assert head == expected
