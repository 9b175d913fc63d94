"""What a trace says the parties' own work takes, under one of two readings.

cpu   parties on machines of their own: a segment takes its CPU time, or its wall time where that is
      less (several threads, or a transport thread beside the compute).
wall  this machine with all that ran on it: a segment takes its wall time, a party enters a step as
      late as it did, and a message takes no less than it took over this machine's own sockets.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from harness.replay import readings
from harness.replay.readings import Compute
from harness.replay.trace import RECV, SEND, Floats, Rested, Step, Trace, operations
from protocols.party import Role


@dataclass(frozen=True)
class Costs:
    """One role's own time in one step, in ns.

    entry: (evaluations,), from the common start to its begin. before, during: (operations,
    evaluations), of the compute ahead of each operation and of the operation itself without waiting.
    transport: alike, for a send: the least time from its begin to the message being received. late:
    alike, for a receive: how long after the message's arrival it ended.
    """

    entry: Floats
    before: Floats
    during: Floats
    transport: Floats
    late: Floats


def costs_of(trace: Trace, compute: Compute, scale: float) -> list[dict[Role, Costs]]:
    """For each step, each role's costs, all times `scale` times as long as traced."""
    measured = compute == "wall" and not trace.shaped
    return [
        {
            role: _costs(step, role, compute, scale, _transport(step, role, compute, measured))
            for role in step.programs
        }
        for step in trace.steps
    ]


def rested_costs(walk: Rested, plain: Step, compute: Compute, scale: float) -> dict[Role, Costs]:
    """Each role's costs in a step walked over links of a delay, alike. The `transport` of a message that
    the delay hides is that in the `plain` step; any other message took what it took."""
    step, measured = walk.step, compute == "wall"
    anyway = {
        role: np.median(_transport(plain, role, compute, measured), axis=0)
        for role in step.programs
    }
    costs = {}
    for role in step.programs:
        own = _transport(step, role, compute, measured)
        hidden = anyway[role] <= walk.delay_s * 1e9
        late = _late(walk, role, anyway) if measured else None
        costs[role] = _costs(step, role, compute, scale, np.where(hidden, anyway[role], own), late)
    return costs


def _costs(
    step: Step,
    role: Role,
    compute: Compute,
    scale: float,
    transport: Floats,
    late: Floats | None = None,
) -> Costs:
    program = step.programs[role]
    before, during = readings.before(program, compute), readings.during(program, compute)
    columns = before, during, transport, np.zeros_like(before) if late is None else late
    entry = (program.begin_ns - step.start_ns).astype(np.float64)
    entry *= scale if compute == "wall" else 0.0
    return Costs(entry, *(np.ascontiguousarray(column.T * scale) for column in columns))


def _transport(step: Step, role: Role, compute: Compute, measured: bool) -> Floats:
    """For each message that `role` sends, its sender's and its receiver's own time; where it was
    measured, and the receiver was waiting, all the time from the one's begin to the other's end."""
    program = step.programs[role]
    own = readings.during(program, compute)
    transport = np.zeros_like(own)
    for peer, other in step.programs.items():
        sends, receives = operations(program, peer, SEND), operations(other, role, RECV)
        least = own[:, sends] + readings.during(other, compute)[:, receives]
        took = readings.travelled(step, peer)[:, receives]
        waiting = readings.had_to_wait(other)[:, receives]
        transport[:, sends] = np.where(waiting & measured, took, least)
    return transport


def _late(walk: Rested, role: Role, transport: Mapping[Role, Floats]) -> Floats:
    """How much later than by the law of the link each receive ended whose message the delay hid: the law
    is its own time after its begin, or the delay after the begin of the send. transport: of each role's
    sends without a delay, (operations,)."""
    program, delay_ns = walk.step.programs[role], walk.delay_s * 1e9
    took = program.times.during_wall
    arrived = delay_ns - (readings.travelled(walk.step, role) - took)
    late = took - np.maximum(readings.during(program, "wall"), arrived)
    hidden = np.zeros(len(program.kind), bool)
    for peer, other in walk.step.programs.items():
        sends, receives = operations(other, role, SEND), operations(program, peer, RECV)
        hidden[receives] = transport[peer][sends] <= delay_ns
    return np.where(hidden, np.maximum(late, 0.0), 0.0)
