"""A link between two ends in user space, for programs that open their own TCP connections.

The first end is 0, the second 1. Where an end would connect to the other, it connects to the proxy on
loopback, which connects on to the other's own address:

    end 0 ──▶ listener 0 ══ way 0: rate, delay ══▶ end 1's address
          ◀──            ══ way 1: rate, delay ══

    a chunk enters     when the kernel dates it, and is cut into slices of at most SLICE_S of the rate
    a slice arrives    as `EmulatedLink` says: first in, first out, over all connections of the pair
    a connection       begins as TCP's handshake would: the other end is connected to three delays later
                       (SYN, SYN-ACK, ACK), and nothing that this end sends enters before two
    end of stream      travels as data does, and so does a reset; each way of a connection ends by itself

Each connection holds at most a window of bytes a way, as a kernel's socket does. Then it is read no further,
until half of that has been taken: a receiver that does not read holds up its sender, and nobody else.

`python -m netem.tcp_proxy` is one pair's proxy; `netem.proxied_pair` starts it and tells it, line by line on
its standard input, what to do. It ends with that input.
"""

import errno
import heapq
import json
import os
import resource
import select
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any

from netem.emulated_link import date_arrivals, exact_sleeps, recv_dated
from netem.profile import LinkProfile
from netem.proxy_ways import CHUNK_BYTES, FOREVER, Leg, Mark, Way

HOST = "127.0.0.1"
RETRY_NS = 10_000_000  # to connect to an end that does not listen yet
PAUSE_NS = 50_000_000  # to accept, where this process has no descriptor left
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close at once, with a reset
Address = tuple[str, int]
Handler = Callable[[int], None]  # of what epoll says of a file


class Proxy:
    """The event loop of one pair."""

    def __init__(self) -> None:
        self._epoll = select.epoll()  # first, so that its number is one that `select` can take
        self._ways = [Way(), Way()]
        self._last: Way | None = None  # that something entered
        self._handlers: dict[int, Handler] = {}
        self._listeners: dict[int, socket.socket] = {}
        self._targets: dict[int, Address] = {}
        self._timers: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()
        self._scratch = memoryview(bytearray(max(CHUNK_BYTES)))
        self._commands = b""
        self.open = True

    def listen(self, end: int, host: str, port: int) -> int:
        """The port of loopback where `end` reaches the other, which is at (host, port) from now on."""
        self._targets[end] = (host, port)
        if end not in self._listeners:
            listener = socket.create_server((HOST, 0), backlog=128)
            listener.setblocking(False)
            self._listeners[end] = listener
            self._watch_listener(end)
        return int(self._listeners[end].getsockname()[1])

    def shape(self, profiles: list[LinkProfile], seeds: list[int]) -> None:
        """What both ways are to be like, and the seeds of their jitter."""
        for way, profile, seed in zip(self._ways, profiles, seeds, strict=True):
            way.shape(profile, seed)

    def switch(self, on: bool) -> None:
        """Both ways as they were shaped, or at full speed."""
        for way in self._ways:
            way.switch(on)

    def counts(self, until_ns: int | None) -> list[tuple[int, int]]:
        """Bytes and bursts that had entered each way at `until_ns`; None: now."""
        at_ns = FOREVER if until_ns is None else until_ns
        return [way.entered(at_ns) for way in self._ways]

    def run(self) -> None:
        """Serve until the standard input ends."""
        exact_sleeps()
        os.set_blocking(sys.stdin.fileno(), False)
        self._watch(sys.stdin, select.EPOLLIN, lambda _: self._obey())
        while self.open:
            now_ns = time.monotonic_ns()
            while self._timers and self._timers[0][0] <= now_ns:
                heapq.heappop(self._timers)[2]()
            for way in self._ways:
                self._hand_out(way, now_ns)
            for number, events in self._events():
                if number in self._handlers:  # another's event may have closed it
                    self._handlers[number](events)

    def _events(self) -> list[tuple[int, int]]:
        """What is ready, at once or by the time something is due: epoll itself counts milliseconds."""
        dues = [way.under_way[0][0] for way in self._ways if way.under_way]
        dues += [self._timers[0][0]] if self._timers else []
        left_s = max(0.0, (min(dues) - time.monotonic_ns()) / 1e9) if dues else None
        if left_s != 0.0:
            select.select([self._epoll.fileno()], [], [], left_s)
        return self._epoll.poll(0)

    def _at(self, due_ns: int, act: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (due_ns, next(self._order), act))

    def _watch(self, file: Any, mask: int, handler: Handler | None = None) -> None:
        """Have `handler` called for `mask`; without one not even for an end, which no mask leaves out."""
        number = file.fileno()
        if self._handlers.pop(number, None):
            self._epoll.unregister(number)
        if mask and handler:
            self._handlers[number] = handler
            self._epoll.register(number, mask)

    def _watch_listener(self, end: int) -> None:
        self._watch(self._listeners[end], select.EPOLLIN, lambda _: self._accept(end))

    def _watch_leg(self, leg: Leg) -> None:
        if not leg.connected:
            return
        reads = not leg.over and not leg.full
        mask = reads * select.EPOLLIN | leg.blocked * select.EPOLLOUT
        self._watch(leg.sock, mask, lambda events: self._serve(leg, events))

    def _accept(self, end: int) -> None:
        listener = self._listeners[end]
        try:
            sock, _ = listener.accept()
        except BlockingIOError:
            return  # it has gone again
        except OSError:
            self._watch(listener, 0)
            self._at(time.monotonic_ns() + PAUSE_NS, lambda: self._watch_listener(end))
            return
        there, back = self._ways[end], self._ways[1 - end]
        now_ns = time.monotonic_ns()
        rtt_ns = round((there.link.profile.delay_s + back.link.profile.delay_s) * 1e9)
        near, far = Leg(there, sock, connected=True, full=True), Leg(back)
        near.other, far.other = far, near
        _prepare(sock)
        self._at(now_ns + rtt_ns, lambda: self._resume(near))
        third_ns = rtt_ns + round(there.link.profile.delay_s * 1e9)
        target = self._targets[end]
        self._at(now_ns + third_ns, lambda: self._connect(far, end, target))

    def _connect(self, far: Leg, end: int, target: Address) -> None:
        """To the other end, or later where it does not listen yet: programs that wait for one another
        by trying to connect have connected already."""
        near = far.other
        if self._targets[end] != target or (near.over and not near.held):
            self._close(near)  # it has given up, or is of another time
            return
        far.sock = socket.socket()
        _prepare(far.sock)
        if far.sock.connect_ex(target) in (0, errno.EINPROGRESS):
            connected = partial(self._connected, far, end, target)
            self._watch(far.sock, select.EPOLLOUT, connected)
        else:
            self._connect_later(far, end, target)

    def _connected(self, far: Leg, end: int, target: Address, _: int) -> None:
        assert far.sock is not None
        if far.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._connect_later(far, end, target)
            return
        far.connected = True
        self._write(far)
        self._watch_leg(far)

    def _connect_later(self, far: Leg, end: int, target: Address) -> None:
        assert far.sock is not None
        self._watch(far.sock, 0)
        far.sock.close()
        again_ns = time.monotonic_ns() + RETRY_NS
        self._at(again_ns, lambda: self._connect(far, end, target))

    def _serve(self, leg: Leg, events: int) -> None:
        if leg.blocked and events & ~select.EPOLLIN:
            leg.blocked = False
            self._write(leg)
        if not leg.over and not leg.full and events & ~select.EPOLLOUT:
            self._read(leg)
        self._watch_leg(leg)

    def _read(self, leg: Leg) -> None:
        """One chunk, onto the link."""
        assert leg.sock is not None
        try:
            size, came_ns = recv_dated(leg.sock, self._scratch[: leg.way.chunk_bytes])
        except BlockingIOError:
            return
        except OSError:
            self._enter_mark(leg, "reset")
            return
        if not size:
            self._enter_mark(leg, "reset" if leg.gone else "end")
            return
        way, entered_ns = leg.way, max(came_ns, leg.resumed_ns)
        way.enter(came_ns, size, way is not self._last)
        self._last = way
        chunk = memoryview(bytes(self._scratch[:size]))
        for begin in range(0, size, way.slice_bytes):
            piece = chunk[begin : begin + way.slice_bytes]
            due_ns = way.link.arrival_ns(entered_ns, len(piece))
            way.under_way.append((due_ns, leg.other, piece))
        leg.held += size
        leg.full = leg.held >= way.window_bytes

    def _enter_mark(self, leg: Leg, mark: Mark) -> None:
        leg.over = True
        due_ns = leg.way.link.arrival_ns(time.monotonic_ns(), 0)
        leg.way.under_way.append((due_ns, leg.other, mark))

    def _hand_out(self, way: Way, now_ns: int) -> None:
        """What has arrived."""
        legs: dict[Leg, None] = {}
        while way.under_way and way.under_way[0][0] <= now_ns:
            _, leg, piece = way.under_way.popleft()
            leg.arrived.append(piece)
            legs[leg] = None
        for leg in legs:
            self._write(leg)

    def _write(self, leg: Leg) -> None:
        """As much of what has arrived as the socket takes."""
        was_full = leg.other.full
        while leg.arrived and leg.connected and not leg.blocked:
            piece = leg.arrived[0]
            if isinstance(piece, str):
                self._end(leg, piece)
                return
            taken = len(piece) if leg.gone else self._send(leg, piece)
            leg.other.held -= taken
            if taken == len(piece):
                leg.arrived.popleft()
            else:
                leg.arrived[0] = piece[taken:]
        if leg.blocked:
            self._watch_leg(leg)
        if was_full and leg.other.held <= leg.other.way.window_bytes // 2:
            self._resume(leg.other)

    def _resume(self, leg: Leg) -> None:
        """Read on. What waited in the kernel meanwhile could not have entered a real link either."""
        leg.full, leg.resumed_ns = False, time.monotonic_ns()
        self._watch_leg(leg)

    def _send(self, leg: Leg, piece: memoryview) -> int:
        """How much the socket has taken; of one that is gone, all: it is for nobody."""
        assert leg.sock is not None
        try:
            return leg.sock.send(piece)
        except BlockingIOError:
            leg.blocked = True
            return 0
        except OSError:
            leg.gone = True
            return len(piece)

    def _end(self, leg: Leg, mark: Mark) -> None:
        """Nothing more will arrive for this leg."""
        assert leg.sock is not None
        leg.arrived.clear()
        if mark == "reset":
            leg.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self._close(leg)
            return
        leg.finished = True
        with suppress(OSError):
            leg.sock.shutdown(socket.SHUT_WR)
        if leg.over and leg.other.finished:
            self._close(leg)

    def _close(self, leg: Leg) -> None:
        """Both sockets of a connection, with all that was for them."""
        for each in (leg, leg.other):
            each.connected, each.over = False, True
            each.arrived.clear()
            if each.sock is not None and each.sock.fileno() >= 0:
                self._watch(each.sock, 0)
                each.sock.close()

    def _obey(self) -> None:
        """Commands, one a line, each answered by a line."""
        text = os.read(sys.stdin.fileno(), 1 << 16)
        self.open = bool(text)
        *lines, self._commands = (self._commands + text).split(b"\n")
        for line in lines:
            print(json.dumps(self._answer(**json.loads(line))), flush=True)

    def _answer(self, do: str, **given: Any) -> Any:
        if do == "listen":
            return self.listen(**given)
        if do == "shape":
            profiles = [LinkProfile(**each) for each in given["profiles"]]
            return self.shape(profiles, given["seeds"])
        if do == "switch":
            return self.switch(**given)
        return self.counts(**given)


def _prepare(sock: socket.socket) -> None:
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    date_arrivals(sock)


def main() -> None:
    """Serve one pair."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    Proxy().run()


if __name__ == "__main__":
    main()
