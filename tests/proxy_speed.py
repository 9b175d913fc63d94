"""How near the TCP proxy is to its link: `python -m tests.proxy_speed`.

Two processes, a sender and a receiver, with the proxy between them: pings after idle, 100 MB one way, both
ways at once and over 64 connections; and what the proxy adds where there is no link.
"""

import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from statistics import median
from subprocess import PIPE, Popen

from netem.profile import LinkProfile
from netem.proxied_pair import ProxiedPair

HOST = "127.0.0.1"
WAN = LinkProfile.rtt(10e-3, 1e9)
REQUEST = struct.Struct("<QQ")  # bytes that follow, bytes to answer
BULK, MANY, PINGS = 100_000_000, 64, 60


def receive(sock: socket.socket, size: int) -> None:
    """So many bytes."""
    buffer = memoryview(bytearray(min(size, 1 << 20)))
    while size:
        got = sock.recv_into(buffer[: min(size, len(buffer))])
        if not got:
            raise EOFError
        size -= got


def answer(sock: socket.socket) -> None:
    """One connection of the receiver's."""
    while True:
        try:
            there, back = REQUEST.unpack(sock.recv(REQUEST.size, socket.MSG_WAITALL))
            writer = threading.Thread(target=sock.sendall, args=(bytes(back),))
            if there > 1 and back > 1:  # both ways at once
                writer.start()
                receive(sock, there)
                writer.join()
            else:
                receive(sock, there)
                sock.sendall(bytes(back))
        except (struct.error, OSError, EOFError):
            return


def serve(host: str = HOST) -> None:
    """The receiver, until it is killed."""
    with socket.create_server((host, 0), backlog=128) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            sock, _ = listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=answer, args=(sock,), daemon=True).start()


def trip_s(sock: socket.socket, there: int, back: int) -> float:
    """Seconds until `there` bytes have got to the receiver, and its `back` bytes here."""
    data = bytes(there)
    begin = time.monotonic()
    sock.sendall(REQUEST.pack(there, back))
    writer = threading.Thread(target=sock.sendall, args=(data,))
    writer.start()
    receive(sock, back)
    writer.join()
    return time.monotonic() - begin


def pings_s(sock: socket.socket) -> float:
    """The median round trip of small messages, each after 20 ms of nothing."""
    times = []
    for _ in range(PINGS):
        time.sleep(0.02)
        begin = time.monotonic()
        sock.sendall(REQUEST.pack(1, 1) + b"x")
        receive(sock, 1)
        times.append(time.monotonic() - begin)
    return median(times)


def connected(port: int, host: str = HOST) -> socket.socket:
    """A connection to the receiver, or to what leads to it."""
    sock = socket.create_connection((host, port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


@contextmanager
def started() -> Iterator[int]:
    """The receiver's port."""
    with Popen([sys.executable, "-m", "tests.proxy_speed", "serve"], stdout=PIPE) as server:
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline())
        finally:
            server.kill()


def rate_line(name: str, size: int, took_s: float, rtt_s: float) -> str:
    """What a bulk took, as a rate."""
    rate = size * 8 / (took_s - rtt_s) / 1e6
    return f"{name}: {took_s * 1e3:.0f} ms, {rate:.1f} Mbit/s ({(rate / 1000 - 1) * 100:+.1f} %)"


def main() -> None:
    """Measure and print."""
    pair = ProxiedPair("P0", "P1")
    with closing(pair), started() as port:
        through = pair.listen("P0", HOST, port)
        with connected(port) as direct, connected(through) as proxied:
            plain, passed = pings_s(direct), pings_s(proxied)
            print(
                f"ping: direct {plain * 1e3:.3f} ms, through the open proxy {passed * 1e3:.3f} ms"
            )
            fast = [BULK * 8 / trip_s(sock, BULK, 1) / 1e9 for sock in (direct, proxied)]
            print(
                f"100 MB: direct {fast[0]:.1f} Gbit/s, through the open proxy {fast[1]:.1f} Gbit/s"
            )
        pair.shape(dict.fromkeys(pair.directions, WAN))
        pair.switch(True)
        with connected(through) as sock:
            rtt_s = pings_s(sock)
            print(f"ping: {rtt_s * 1e3:.3f} ms of 10 ms")
            print(rate_line("100 MB there", BULK, trip_s(sock, BULK, 1), rtt_s))
            print(rate_line("100 MB back", BULK, trip_s(sock, 1, BULK), rtt_s))
            print(rate_line("100 MB both ways", BULK, trip_s(sock, BULK, BULK), rtt_s))
        print(rate_line("64 connections, 100 MB in all", *many(through), rtt_s))
        entered = {way: each.bytes for way, each in pair.counts().items()}
        print(f"bytes in all: {entered}")


def many(port: int) -> tuple[int, float]:
    """100 MB over 64 connections at once: bytes and seconds."""
    socks = [connected(port) for _ in range(MANY)]
    for sock in socks:
        trip_s(sock, 1, 1)
    each = BULK // MANY
    threads = [threading.Thread(target=trip_s, args=(sock, each, 1)) for sock in socks]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took_s = time.monotonic() - begin
    for sock in socks:
        sock.close()
    return each * MANY, took_s


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["serve"] else main()
