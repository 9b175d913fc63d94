"""What a wait costs a party: how much longer its work takes when it has waited before.

While a party waits for a far peer its caches, and the processor's clock, cool down. In an unshaped run
nobody waits long, so a traced party finds out on its own, after the run: it waits, as it does for an
emulated link, then does what comes after a message (a little arithmetic, framing, writing the next
one to a socket), and compares with the same without a wait. The cost grows with the wait up to some
tens of ms.
"""

import socket
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from harness.transport.channel import send_some
from harness.transport.frame import encode
from netem.link import wait_until
from protocols.events import Stamp

WAITS_NS = (250_000, 500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000, 20_000_000, 40_000_000)
REPEATS = 15
VALUES = 2000
_WARM = 30


def wait_costs() -> Tensor:
    """int64 (waits, 2): after a wait of so many ns, work takes so many ns longer. Begins with no
    wait, and never falls. Takes about 1.3 s."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        work = _work(ours)
        took_ns: dict[int, list[int]] = {wait_ns: [] for wait_ns in (0, *WAITS_NS)}
        for _ in range(_WARM):
            _once(work, theirs, 0)
        for _ in range(REPEATS):
            for wait_ns, times in took_ns.items():
                _once(work, theirs, 0)
                times.append(_once(work, theirs, wait_ns))
    warm_ns = statistics.median(took_ns[0])
    costs = torch.tensor([statistics.median(times) - warm_ns for times in took_ns.values()])
    table = torch.stack([torch.tensor(list(took_ns)), torch.cummax(costs.clamp(min=0), 0).values])
    return table.to(torch.int64).T.contiguous()


def _once(work: Callable[[], None], other_end: socket.socket, wait_ns: int) -> int:
    """Wait, work; how long the work took, in ns."""
    begin_ns = time.monotonic_ns() + wait_ns
    wait_until(begin_ns)
    if not wait_ns:
        begin_ns = time.monotonic_ns()
    work()
    end_ns = time.monotonic_ns()
    other_end.recv(1 << 16)
    return end_ns - begin_ns


def _work(sock: socket.socket) -> Callable[[], None]:
    """A product, a sum, a shift, a mask, a concatenation and a count, and one message."""
    a = torch.arange(VALUES) * 0x5E3779B97F4A7C15
    b = a.flip(0).contiguous()

    def work() -> None:
        x = a * b
        y = torch.cat([(x + a) >> 16, x & 0xFFFF])
        int((y != 0).sum())
        send_some(sock, encode(Stamp("online", 1, 0, 0), [y[:64]]).views, socket.MSG_DONTWAIT)

    return work
