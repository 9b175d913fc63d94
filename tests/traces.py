"""Small traces made by hand, for tests of replay."""

from collections.abc import Sequence

import numpy as np

from harness.parties.trace_recorder import END, NOBODY, RECV, SEND
from harness.replay.trace import RoleTrace, Step, Times, Trace, check
from protocols.party import P0, P1, Role

US, MS = 1_000, 1_000_000


def program(
    begin_ns: Sequence[int], *rows: tuple[int, int, int, list[int], list[int]]
) -> RoleTrace:
    """Rows of kind, peer, bytes, then wall and CPU µs: [before, before CPU], [during, during CPU]."""
    kind, peer, size = (np.array(column, np.int64) for column in list(zip(*rows, strict=True))[:3])
    table = np.array([[*before, *during] for *_, before, during in rows], np.int64) * US
    times = Times(*(np.repeat(column[None], len(begin_ns), 0) for column in table.T))
    return RoleTrace(kind, peer, size, times, np.array(begin_ns, np.int64))


def echo_trace(record_id: str, compute_us: int = 700, rounds: int = 1) -> Trace:
    """P0 sends 1 MB and waits for 8 bytes, `rounds` times; P1 computes in between, 40 % of it idle.

    P0 enters 20 µs late, P1 30. Over this machine a message takes 90 µs beyond the send's own 10.
    """
    cpu = compute_us * 6 // 10
    at_p0, at_p1 = [], []
    for i in range(rounds):
        wait = 100 - 10 + compute_us + 100
        at_p0 += [
            (SEND, 1, 1_000_000, [5, 5], [10, 10]),
            (RECV, 1, 8, [0, 0], [wait, 6]),
        ]
        first = 20 + 5 + 100 - 30
        between = 100 - 10 + 5 + 100
        at_p1 += [
            (RECV, 0, 1_000_000, [0, 0], [between if i else first, 6]),
            (SEND, 0, 8, [compute_us, cpu], [10, 10]),
        ]
    finish = (END, NOBODY, 0, [0, 0], [0, 0])
    programs: dict[Role, RoleTrace] = {
        P0: program([20 * US] * 3, *at_p0, finish),
        P1: program([30 * US] * 3, *at_p1, finish),
    }
    return check(Trace(record_id, (P0, P1), False, (Step(np.zeros(3, np.int64), programs),)))
