"""What a TCP proxy knows of one direction of its pair, and of one end of one connection."""

import socket
from array import array
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from netem.emulated_link import EmulatedLink
from netem.profile import LinkProfile
from netem.tcp import bdp_bytes

WINDOW_BYTES = 4 << 20  # of a connection, besides what its link holds: Linux's largest by default
SLICE_S, SLICE_BYTES = 0.25e-3, (1448, 256 << 10)  # at least a packet; at most what is read at once
CHUNK_S, CHUNK_BYTES = 1e-3, (16 << 10, 256 << 10)  # so that connections share a link evenly
FOREVER = 1 << 62
Mark = Literal["end", "reset"]
Piece = memoryview | Mark


class Way:
    """One direction of the pair: its link, what is on it, and what has entered it.

    bursts: how often it began to be used after the other direction had been.
    """

    def __init__(self) -> None:
        self.link = EmulatedLink(LinkProfile(), 0)
        self.under_way: deque[tuple[int, Leg, Piece]] = deque()  # when it arrives, and for whom
        self._dates, self._bytes, self._bursts = array("q"), array("q"), array("q")
        self._entered = (0, 0)
        self.shape(LinkProfile(), 0)

    def enter(self, at_ns: int, size: int, new_burst: bool) -> None:
        """Count what has entered, and when."""
        self._dates.append(max(at_ns, self._dates[-1]) if self._dates else at_ns)
        self._bytes.append((self._bytes[-1] if self._bytes else self._entered[0]) + size)
        self._bursts.append((self._bursts[-1] if self._bursts else self._entered[1]) + new_burst)

    def entered(self, until_ns: int) -> tuple[int, int]:
        """Bytes and bursts that had entered at `until_ns`, which is after it was last switched."""
        found = bisect_right(self._dates, until_ns)
        return (self._bytes[found - 1], self._bursts[found - 1]) if found else self._entered

    def shape(self, profile: LinkProfile, seed: int) -> None:
        """What it is to be like while it is switched on, which it is not yet."""
        self._profile = profile
        self.link.reseed(seed)
        self.switch(False)

    def switch(self, on: bool) -> None:
        """Delay and rate from now on, or full speed; what is under way keeps its time, and its place. What
        entered when is forgotten."""
        self._entered = self.entered(FOREVER)
        for dates in (self._dates, self._bytes, self._bursts):
            del dates[:]
        profile = self._profile if on else LinkProfile()
        self.link.become(profile)
        self.slice_bytes = _bytes_in(SLICE_S, profile, *SLICE_BYTES)
        self.chunk_bytes = _bytes_in(CHUNK_S, profile, *CHUNK_BYTES)
        self.window_bytes = WINDOW_BYTES + bdp_bytes(profile)


@dataclass(eq=False)
class Leg:
    """One of the two sockets of a connection; what comes in here enters `way`.

    held: bytes that came in here and that `other` has not taken. arrived: what is to be written here.
    """

    way: Way
    sock: socket.socket | None = None  # None: not connected to yet
    connected: bool = False
    resumed_ns: int = 0  # nothing enters before
    held: int = 0
    full: bool = False  # it is not read while so much is held
    over: bool = False  # nothing more comes in
    arrived: deque[Piece] = field(default_factory=deque)
    blocked: bool = False  # the socket takes no more for now
    finished: bool = False  # its stream has been ended
    gone: bool = False  # whoever had the socket's other end has left: what arrives is for nobody
    other: "Leg" = field(init=False, repr=False)


def _bytes_in(seconds: float, profile: LinkProfile, least: int, most: int) -> int:
    rate = profile.rate_bit_s
    return most if rate is None else min(max(round(rate / 8 * seconds), least), most)
