"""What a trace says the parties' own work takes."""

from dataclasses import replace

import numpy as np

from harness.parties.trace_recorder import END, NOBODY, RECV, SEND
from harness.replay.compute_times import costs_of
from harness.replay.trace import RoleTrace, Step, Trace, check
from protocols.party import P0, P1, Role
from tests.traces import US, echo_trace, program


def test_wall_and_cpu_read_a_trace_differently() -> None:
    trace = echo_trace("x")
    (wall,), (cpu,) = costs_of(trace, "wall", 1.0), costs_of(trace, "cpu", 1.0)
    assert (wall[P1].before[1, 0], cpu[P1].before[1, 0]) == (700 * US, 420 * US)
    assert (wall[P0].entry[0], cpu[P0].entry[0]) == (20 * US, 0)
    # Received while its receiver was waiting for it: 100 µs from the send's begin to the end.
    assert (wall[P0].transport[0, 0], cpu[P0].transport[0, 0]) == (100 * US, 16 * US)
    assert wall[P0].during[1, 0] == 6 * US  # a receive waits, and waiting is not work
    (shaped,) = costs_of(replace(trace, shaped=True), "wall", 1.0)
    assert shaped[P0].transport[0, 0] == 16 * US  # the wait was the link's
    (half,) = costs_of(trace, "wall", 0.5)
    assert half[P1].before[1, 0] == 350 * US


def test_a_message_that_was_there_in_time_took_no_longer_than_its_handling() -> None:
    """P1 receives 5 ms after P0 sent, at once: the link was not what it waited for."""
    late = (RECV, 0, 8, [5_000, 5_000], [12, 6])
    programs: dict[Role, RoleTrace] = {
        P0: program([0], (SEND, 1, 8, [0, 0], [10, 10]), (END, NOBODY, 0, [0, 0], [0, 0])),
        P1: program([0], late, (END, NOBODY, 0, [0, 0], [0, 0])),
    }
    step = Step(np.zeros(1, np.int64), programs)
    (costs,) = costs_of(check(Trace("x", (P0, P1), False, (step,))), "wall", 1.0)
    assert costs[P0].transport[0, 0] == 16 * US


def test_a_large_message_is_copied_while_it_is_under_way() -> None:
    """P1 has P0's after 3 ms, P0 has the small answer after 100 µs: only that much is a wait's own."""
    finish = (END, NOBODY, 0, [0, 0], [0, 0])
    large, small = 50_000_000, 8
    programs: dict[Role, RoleTrace] = {
        P0: program(
            [0], (SEND, 1, large, [0, 0], [10, 10]), (RECV, 1, small, [0, 0], [3_090, 6]), finish
        ),
        P1: program(
            [0], (RECV, 0, large, [0, 0], [3_000, 6]), (SEND, 0, small, [0, 0], [10, 10]), finish
        ),
    }
    step = Step(np.zeros(1, np.int64), programs)
    (costs,) = costs_of(check(Trace("x", (P0, P1), False, (step,))), "wall", 1.0)
    assert (costs[P0].transport[0, 0], costs[P0].handling[0, 0]) == (3_000 * US, 100 * US)


def test_threads_beside_the_compute_do_not_lengthen_it() -> None:
    """CPU time of several threads exceeds wall time, which is then the segment's."""
    trace = echo_trace("x")
    times = trace.steps[0].roles[P1].times
    busy = replace(times, before_cpu=times.before_wall * 2)
    programs = dict(trace.steps[0].roles)
    programs[P1] = replace(programs[P1], times=busy)
    (costs,) = costs_of(replace(trace, steps=(Step(np.zeros(3, np.int64), programs),)), "cpu", 1.0)
    assert costs[P1].before[1, 0] == 700 * US
