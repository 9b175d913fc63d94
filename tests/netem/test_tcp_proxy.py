"""What goes through the TCP proxy arrives: whole, in order, once, however a connection ends."""

import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest

from netem.profile import LinkProfile
from netem.proxied_pair import ProxiedPair

HOST = "127.0.0.1"
WAN = LinkProfile.rtt(4e-3, 1e9)
PATIENCE_S = 60.0  # on a busy machine
MB = 1_000_000


@pytest.fixture
def pair() -> Iterator[ProxiedPair]:
    """A link between P0 and P1, at full speed."""
    made = ProxiedPair("P0", "P1")
    with closing(made):
        yield made


def shape(pair: ProxiedPair, profile: LinkProfile) -> None:
    pair.shape(dict.fromkeys(pair.directions, profile))
    pair.switch(True)


def listener() -> socket.socket:
    """P1, which P0 wants to reach."""
    made = socket.create_server((HOST, 0), backlog=128)
    made.settimeout(PATIENCE_S)
    return made


def connect(pair: ProxiedPair, server: socket.socket) -> tuple[socket.socket, socket.socket]:
    """P0's end and P1's of a connection through the proxy."""
    port = pair.listen("P0", *server.getsockname())
    near = socket.create_connection((HOST, port), timeout=PATIENCE_S)
    far, _ = server.accept()
    far.settimeout(PATIENCE_S)
    return near, far


def data(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def read_all(sock: socket.socket) -> bytes:
    """Until the stream ends."""
    parts = []
    while part := sock.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def read_exactly(sock: socket.socket, size: int) -> bytes:
    parts = b""
    while len(parts) < size and (part := sock.recv(size - len(parts))):
        parts += part
    return parts


def wait_for(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def descriptors(pair: ProxiedPair) -> int:
    return len(os.listdir(f"/proc/{pair.pid}/fd"))


def rss_bytes(pair: ProxiedPair) -> int:
    text = Path(f"/proc/{pair.pid}/status").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def test_64_connections_at_once_get_all_bytes_in_order_both_ways(pair: ProxiedPair) -> None:
    shape(pair, WAN)
    size, number = 150_001, 64
    before = descriptors(pair)

    def talk(sock: socket.socket, sent: int) -> str:
        """Send a stream and end it, while the other one is read."""
        writer = threading.Thread(target=lambda: _send_whole(sock, data(sent, size)))
        writer.start()
        with sock:
            got = read_all(sock)
            writer.join()
        return hashlib.sha256(got).hexdigest()

    with listener() as server, ThreadPoolExecutor(2 * number) as pool:
        ends = [connect(pair, server) for _ in range(number)]
        pending = [
            (pool.submit(talk, near, i), pool.submit(talk, far, number + i))
            for i, (near, far) in enumerate(ends)
        ]
        got = [(back.result(PATIENCE_S), there.result(PATIENCE_S)) for back, there in pending]
    digests = [hashlib.sha256(data(i, size)).hexdigest() for i in range(2 * number)]
    assert got == [(digests[number + i], digests[i]) for i in range(number)]
    assert {way: each.bytes for way, each in pair.counts().items()} == {
        "P0>P1": number * size,
        "P1>P0": number * size,
    }
    assert wait_for(lambda: descriptors(pair) <= before + 1)  # the listener


def _send_whole(sock: socket.socket, what: bytes) -> None:
    sock.sendall(what)
    sock.shutdown(socket.SHUT_WR)


def test_nothing_is_earlier_than_its_link(pair: ProxiedPair) -> None:
    """A ping takes the delay both ways, a message its rate too; also on a connection that is new."""
    shape(pair, LinkProfile(delay_s=20e-3, rate_bit_s=80e6))
    with listener() as server:
        begin = time.monotonic()
        port = pair.listen("P0", *server.getsockname())
        with socket.create_connection((HOST, port), timeout=PATIENCE_S) as near:
            near.sendall(b"x")
            far, _ = server.accept()
            with far:
                assert far.recv(1) == b"x"
                assert time.monotonic() - begin >= 60e-3  # SYN, SYN-ACK, and ACK with the byte
                begin = time.monotonic()
                near.sendall(bytes(MB))
                assert read_exactly(far, MB) == bytes(MB)
                assert time.monotonic() - begin >= 120e-3
                begin = time.monotonic()
                far.sendall(b"y")
                assert near.recv(1) == b"y"
                assert time.monotonic() - begin >= 20e-3


def test_connections_share_one_rate(pair: ProxiedPair) -> None:
    shape(pair, LinkProfile(rate_bit_s=80e6))
    with listener() as server, ThreadPoolExecutor(4) as pool:
        ends = [connect(pair, server) for _ in range(4)]
        begin = time.monotonic()
        for near, _ in ends:
            near.sendall(bytes(MB // 2))
        for got in pool.map(lambda each: read_exactly(each[1], MB // 2), ends):
            assert got == bytes(MB // 2)
        assert time.monotonic() - begin >= 200e-3
        for near, far in ends:
            near.close()
            far.close()


def test_a_half_closed_stream_still_answers(pair: ProxiedPair) -> None:
    shape(pair, WAN)
    with listener() as server:
        near, far = connect(pair, server)
        with near, far:
            _send_whole(near, b"a question")
            assert read_all(far) == b"a question"
            _send_whole(far, data(7, MB))
            assert read_all(near) == data(7, MB)


def test_a_reset_comes_after_the_last_words(pair: ProxiedPair) -> None:
    shape(pair, WAN)
    with listener() as server:
        near, far = connect(pair, server)
        with near:
            far.sendall(b"last words")
            assert read_exactly(near, 10) == b"last words"
            far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            far.close()
            with pytest.raises(ConnectionResetError):
                near.recv(1)


@pytest.mark.parametrize("victim", ["connects", "listens"])
def test_kill_9_of_either_side_ends_the_other_and_leaves_nothing(
    pair: ProxiedPair, victim: str
) -> None:
    shape(pair, WAN)
    before = descriptors(pair)
    with listener() as server:
        near, far = connect(pair, server)
        dying, left = (near, far) if victim == "connects" else (far, near)
        child = subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(1000)"], pass_fds=[dying.fileno()]
        )
        dying.sendall(b"still there")
        dying.close()  # the child alone has it now
        assert read_exactly(left, 11) == b"still there"
        child.send_signal(signal.SIGKILL)
        child.wait()
        with left, suppress(ConnectionResetError):
            assert left.recv(1) == b""
    assert wait_for(lambda: descriptors(pair) <= before + 1)


def test_a_receiver_that_does_not_read_holds_up_its_sender_alone(pair: ProxiedPair) -> None:
    shape(pair, WAN)
    with listener() as server:
        near, far = connect(pair, server)
        other_near, other_far = connect(pair, server)
        with near, far, other_near, other_far:
            near.settimeout(1.0)
            taken, piece = 0, bytes(MB)
            with suppress(TimeoutError):
                while taken < 400 * MB:
                    taken += near.send(piece)
            assert 4 * MB < taken < 64 * MB
            assert rss_bytes(pair) < 100 * MB
            other_near.sendall(b"a word")
            assert read_exactly(other_far, 6) == b"a word"
            near.shutdown(socket.SHUT_WR)
            assert len(read_all(far)) == taken


def test_an_end_that_listens_later_gets_what_was_sent_before(pair: ProxiedPair) -> None:
    with socket.socket() as server:
        server.bind((HOST, 0))
        port = pair.listen("P0", *server.getsockname())
        with socket.create_connection((HOST, port), timeout=PATIENCE_S) as near:
            near.sendall(b"early")
            assert wait_for(lambda: pair.counts()["P0>P1"].bytes == 5)
            server.listen()
            server.settimeout(PATIENCE_S)
            far, _ = server.accept()
            with far:
                assert read_exactly(far, 5) == b"early"


def test_who_waits_for_an_earlier_place_never_gets_to_a_later_one(pair: ProxiedPair) -> None:
    with socket.socket() as nobody, listener() as server:
        nobody.bind((HOST, 0))
        port = pair.listen("P0", *nobody.getsockname())
        with socket.create_connection((HOST, port), timeout=PATIENCE_S) as stale:
            stale.sendall(b"stale")
            assert wait_for(lambda: pair.counts()["P0>P1"].bytes == 5)
            near, far = connect(pair, server)
            with near, far, suppress(ConnectionResetError):
                assert stale.recv(1) == b""
                server.settimeout(0.1)
                with pytest.raises(TimeoutError):
                    server.accept()


def test_both_ends_can_connect(pair: ProxiedPair) -> None:
    with listener() as first, listener() as second:
        ports = {"P0": pair.listen("P0", *second.getsockname())}
        ports["P1"] = pair.listen("P1", *first.getsockname())
        for role, server, way in (("P0", second, "P0>P1"), ("P1", first, "P1>P0")):
            before = pair.counts()[way].bytes
            with socket.create_connection((HOST, ports[role]), timeout=PATIENCE_S) as near:
                near.sendall(role.encode())
                far, _ = server.accept()
                with far:
                    assert read_exactly(far, 2) == role.encode()
            assert pair.counts()[way].bytes == before + 2


def test_bursts_follow_the_pattern_of_directions(pair: ProxiedPair) -> None:
    with listener() as server:
        near, far = connect(pair, server)
        with near, far:
            for _ in range(5):
                near.sendall(bytes(300_000))
                read_exactly(far, 300_000)
                far.sendall(b"ok")
                read_exactly(near, 2)
    found = pair.counts()
    assert {way: (each.bytes, each.bursts) for way, each in found.items()} == {
        "P0>P1": (1_500_000, 5),
        "P1>P0": (10, 5),
    }


def test_counts_of_a_moment_before(pair: ProxiedPair) -> None:
    with listener() as server:
        near, far = connect(pair, server)
        with near, far:
            moments = [time.monotonic_ns()]
            for _ in range(3):
                near.sendall(bytes(100))
                read_exactly(far, 100)
                moments.append(time.monotonic_ns())
    assert [pair.counts(at_ns)["P0>P1"].bytes for at_ns in moments] == [0, 100, 200, 300]
    pair.switch(True)
    assert pair.counts(moments[0])["P0>P1"].bytes == pair.counts()["P0>P1"].bytes == 300


def test_loss_needs_a_shaper_of_packets(pair: ProxiedPair) -> None:
    with pytest.raises(ValueError, match="packet-level shaper"):
        shape(pair, LinkProfile(loss=0.01))


def test_a_proxy_ends_with_whoever_started_it() -> None:
    text = "from netem.proxied_pair import *; import time; "
    text += "p = ProxiedPair('P0', 'P1'); p.counts(); print(p.pid, flush=True); time.sleep(1000)"
    starter = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE)
    assert starter.stdout is not None
    pid = int(starter.stdout.readline())
    starter.kill()
    starter.wait()
    starter.stdout.close()
    assert wait_for(lambda: not _runs(pid))


def _runs(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"
