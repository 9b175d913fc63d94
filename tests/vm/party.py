"""A role of the network tests, in its namespace: answers on UDP and TCP, and does what it is told.

Commands come on standard input, one JSON list [name, arguments…] a line; answers go out the same way.
"""

import json
import socket
import statistics
import sys
import threading
import time
from dataclasses import asdict
from typing import Any

from netem.command import TcError
from netem.profile import LinkProfile
from netem.shaped_interface import ShapedInterface

UDP, TCP = 7000, 7001
DATAGRAM = 64
BUFFER_BYTES = 1 << 18  # memory that is touched for the first time is slow in this kernel
FILLING = bytes(BUFFER_BYTES)


class Party:
    """One role at `addresses[role]`. Connections are kept, as a protocol keeps them."""

    def __init__(self, role: str, addresses: dict[str, str]) -> None:
        self.role, self.addresses = role, addresses
        self.line: ShapedInterface | None = None
        self._peers: dict[str, socket.socket] = {}
        self._buffer = bytearray(BUFFER_BYTES)
        here = addresses[role]
        echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        echo.bind((here, UDP))
        threading.Thread(target=self._echo, args=(echo,), daemon=True).start()
        listener = socket.create_server((here, TCP))
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def set_up(self, profiles: dict[str, dict[str, Any]], seed: int = 0) -> dict[str, Any]:
        arrow = f"{self.role}>"
        links = {
            pair.removeprefix(arrow): LinkProfile(**fields)
            for pair, fields in profiles.items()
            if pair.startswith(arrow)
        }
        self.line = ShapedInterface.set_up(self.role, self.addresses, links, seed)
        return self.line.settings()

    def refused(self, profiles: dict[str, dict[str, Any]]) -> str:
        try:
            self.set_up(profiles)
        except TcError as error:
            return str(error)
        return ""

    def switch(self, on: bool) -> None:
        assert self.line is not None
        self.line.switch(on)

    def counters(self) -> dict[str, Any]:
        assert self.line is not None
        return {role: asdict(count) for role, count in self.line.counters().items()}

    def take_down(self) -> None:
        assert self.line is not None
        self.line.take_down()

    def ping(self, peer: str, number: int, gap_s: float) -> list[float | None]:
        """Round-trip times in seconds of datagrams `gap_s` apart; None: lost. One more is thrown
        away, before them."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect((self.addresses[peer], UDP))
        times: dict[int, float] = {}
        sent = [0.0] * (number + 1)

        def hear() -> None:
            sock.settimeout(1.0)
            while len(times) <= number:
                try:
                    i = int.from_bytes(sock.recv(DATAGRAM)[:8], "big")
                except TimeoutError:
                    return
                times[i] = time.monotonic() - sent[i]

        thread = threading.Thread(target=hear)
        thread.start()
        for i in range(number + 1):
            sent[i] = time.monotonic()
            sock.send(i.to_bytes(8, "big") + bytes(DATAGRAM - 8))
            time.sleep(gap_s)
        thread.join()
        return [times.get(i) for i in range(1, number + 1)]

    def order(self, peer: str, number: int) -> list[int]:
        """The order in which datagrams come back that were sent in one go."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect((self.addresses[peer], UDP))
        for i in range(number):
            sock.send(i.to_bytes(8, "big") + bytes(DATAGRAM - 8))
        sock.settimeout(1.0)
        return [int.from_bytes(sock.recv(DATAGRAM)[:8], "big") for _ in range(number)]

    def trip(self, peer: str, there: int, back: int = 1) -> float:
        """Seconds from sending `there` bytes to having received `back` bytes in answer, on TCP."""
        sock = self._connection(peer)
        began = time.monotonic()
        sock.sendall(there.to_bytes(8, "big") + back.to_bytes(8, "big"), socket.MSG_MORE)
        _send(sock, there)
        _read(sock, back, self._buffer)
        return time.monotonic() - began

    def trips(self, peer: str, number: int, there: int, back: int = 1) -> float:
        return statistics.median(self.trip(peer, there, back) for _ in range(number))

    def _connection(self, peer: str) -> socket.socket:
        if peer not in self._peers:
            sock = self._peers[peer] = socket.create_connection((self.addresses[peer], TCP))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._peers[peer]

    def _echo(self, sock: socket.socket) -> None:
        while True:
            data, source = sock.recvfrom(DATAGRAM)
            sock.sendto(data, source)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=self._answer, args=(sock,), daemon=True).start()

    def _answer(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head, buffer = bytearray(16), bytearray(BUFFER_BYTES)
        while sock.recv_into(head, 16, socket.MSG_WAITALL) == 16:
            _read(sock, int.from_bytes(head[:8], "big"), buffer)
            _send(sock, int.from_bytes(head[8:], "big"))


def _send(sock: socket.socket, size: int) -> None:
    while size:
        size -= sock.send(memoryview(FILLING)[: min(size, BUFFER_BYTES)])


def _read(sock: socket.socket, size: int, into: bytearray) -> bool:
    """Receive `size` bytes, of which the last ones stay at the front of `into`; False at the end."""
    while size:
        got = sock.recv_into(into, min(size, len(into)))
        if not got:
            return False
        size -= got
    return True


def main() -> None:
    party = Party(sys.argv[1], json.loads(sys.argv[2]))
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(getattr(party, name)(*arguments)), flush=True)


if __name__ == "__main__":
    main()
