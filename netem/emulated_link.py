"""One direction of a link in user space: a FIFO with a rate and a delay.

It stands at the receiver: a message enters when its first bytes are there, and is not handed out
before it has arrived. Handing it out comes on top, as with a kernel's link, and the two ends need no
common clock.
"""

import ctypes
import random
import select
import socket
import struct
import time
from contextlib import suppress

from netem.profile import LinkProfile

# A sleep ends 50 to 200 µs late; the rest of a wait is spun. After a long sleep it may be later, so a
# long wait is slept through in two parts.
SPIN_NS = 250_000
DOZE_NS = 1_500_000
PR_SET_TIMERSLACK = 29  # of <linux/prctl.h>
SO_TIMESTAMPNS = 35  # of <asm/socket.h>
TIMESPEC = struct.Struct("@qq")  # of the kernel's note of when bytes came in, CLOCK_REALTIME
STAMP_SPACE = socket.CMSG_SPACE(TIMESPEC.size)


class EmulatedLink:
    """Receiver-side state of one direction. Raises ValueError where `profile` loses packets.

    seed: of the jitter; equal seeds give equal delays.
    """

    def __init__(self, profile: LinkProfile, seed: int) -> None:
        self._free_ns = 0
        self._last_ns = 0
        self.reseed(seed)
        self.become(profile)

    def become(self, profile: LinkProfile) -> None:
        """Be a link of `profile` from now on; what has entered keeps its time, and its place. Raises
        ValueError as for a new one."""
        if profile.loss > 0:
            raise ValueError(
                f"loss {profile.loss:g} needs a packet-level shaper (tc); "
                "an emulated link delivers whole messages"
            )
        self.profile = profile

    def reseed(self, seed: int) -> None:
        """From now on the jitter of `seed`."""
        self._jitter = random.Random(seed)

    def arrival_ns(self, now_ns: int, size_bytes: int) -> int:
        """When a message that enters at `now_ns` has arrived, in ns of the same clock.

        start = max(now, link free); free = start + bytes·8 / rate; arrival = free + delay ± jitter,
        and never before that of an earlier message.
        """
        profile = self.profile
        serial_s = size_bytes * 8 / profile.rate_bit_s if profile.rate_bit_s else 0.0
        self._free_ns = max(now_ns, self._free_ns) + round(serial_s * 1e9)
        delay_s = profile.delay_s
        if profile.jitter_s:
            delay_s += self._jitter.uniform(-profile.jitter_s, profile.jitter_s)
        self._last_ns = max(self._last_ns, self._free_ns + round(delay_s * 1e9))
        return self._last_ns


def date_arrivals(sock: socket.socket) -> bool:
    """Let the kernel date what comes in from now on; whether it can."""
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        return True
    return False


def recv_dated(sock: socket.socket, buffer: memoryview) -> tuple[int, int]:
    """How many bytes came into `buffer`, and when the last of them did, in ns of CLOCK_MONOTONIC; that
    is now where `date_arrivals` has not been called, or the kernel does not tell. Raises OSError."""
    size, notes, _, _ = sock.recvmsg_into([buffer], STAMP_SPACE)
    ago_ns = 0
    for level, kind, data in notes:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
            seconds, ns = TIMESPEC.unpack(data)
            ago_ns = time.time_ns() - (seconds * 1_000_000_000 + ns)
    # The two clocks are read one after the other: a pause between errs late.
    return size, time.monotonic_ns() - max(0, ago_ns)


def exact_sleeps() -> None:
    """From now on wake the calling thread on time; Linux otherwise does up to 50 µs later, to save power."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)


def wait_until(until_ns: int) -> None:
    """Return at `until_ns` of CLOCK_MONOTONIC, or at once if that has passed."""
    for early_ns in (DOZE_NS, SPIN_NS):
        left_ns = until_ns - time.monotonic_ns()
        if left_ns > early_ns:
            time.sleep((left_ns - early_ns) / 1e9)
    while time.monotonic_ns() < until_ns:
        # Lets this process's other threads run; time.sleep(0) would too, but takes 55 µs.
        select.select((), (), (), 0)
