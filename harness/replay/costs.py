"""What a trace says the parties' own work takes, under one of two readings.

cpu   parties on machines of their own: a segment takes its CPU time, or its wall time where that is
      less (several threads, or a transport thread beside the compute).
wall  this machine with all that ran on it: a segment takes its wall time, a party enters a step as
      late as it did, and a message takes no less than it took over this machine's own sockets.
"""

from dataclasses import dataclass

import numpy as np

from harness.replay import readings
from harness.replay.readings import Bools, Compute
from harness.replay.trace import RECV, SEND, Floats, Rested, Step, Trace, operations
from protocols.party import Role


@dataclass(frozen=True)
class Costs:
    """One role's own time in one step, in ns.

    entry: (evaluations,), from the common start to its begin. before, during: (operations,
    evaluations), of the compute ahead of each operation and of the operation itself without waiting.
    transport: alike, for a send: the least time from its begin to the message being received. handling:
    alike, what comes on top of a link's serialization and delay.
    """

    entry: Floats
    before: Floats
    during: Floats
    transport: Floats
    handling: Floats


def costs_of(trace: Trace, compute: Compute, scale: float) -> list[dict[Role, Costs]]:
    """For each step, each role's costs, all times `scale` times as long as traced."""
    measured = compute == "wall" and not trace.shaped
    return [
        {
            role: _costs(step, role, compute, scale, *_transport(step, role, compute, measured))
            for role in step.programs
        }
        for step in trace.steps
    ]


def rested_costs(walk: Rested, plain: Step, compute: Compute, scale: float) -> dict[Role, Costs]:
    """Each role's costs in a step walked over links of a delay, alike. A message that the delay hides has
    the `transport` that it has in the `plain` step, and as `handling` what it took beyond the delay, if it
    was waited for; any other message took what it took."""
    step, measured, delay_ns = walk.step, compute == "wall", walk.delay_s * 1e9
    costs = {}
    for role in step.programs:
        anyway, handling = np.median(_transport(plain, role, compute, measured), axis=1)
        took, _ = _transport(step, role, compute, measured)
        hidden = anyway <= delay_ns + handling
        waited = hidden & measured & (took > delay_ns)
        transport = np.where(hidden, anyway, took)
        handling = np.where(waited, took - delay_ns, handling)
        costs[role] = _costs(step, role, compute, scale, transport, handling)
    return costs


def _costs(
    step: Step,
    role: Role,
    compute: Compute,
    scale: float,
    transport: Floats,
    handling: Floats,
) -> Costs:
    program = step.programs[role]
    before, during = readings.before(program, compute), readings.during(program, compute)
    columns = before, during, transport, handling
    entry = (program.begin_ns - step.start_ns).astype(np.float64)
    entry *= scale if compute == "wall" else 0.0
    return Costs(entry, *(np.ascontiguousarray(column.T * scale) for column in columns))


def _transport(step: Step, role: Role, compute: Compute, measured: bool) -> Floats:
    """Transport and handling of the messages that `role` sends, (2, evaluations, operations).

    transport: its sender's and its receiver's own time; where it was measured, and the receiver was
    waiting, all the time from the one's begin to the other's end. handling: no more than the quickest
    message from the one to the other takes, for of a large one the rest comes in during the delay.
    """
    program = step.programs[role]
    own = readings.during(program, compute)
    transport, handling = both = np.zeros((2, *own.shape))
    for peer, other in step.programs.items():
        sends, receives = operations(program, peer, SEND), operations(other, role, RECV)
        least = own[:, sends] + readings.during(other, compute)[:, receives]
        took = readings.travelled(step, peer)[:, receives]
        waiting = readings.had_to_wait(other)[:, receives] & measured
        took = np.where(waiting, took, least)
        transport[:, sends], handling[:, sends] = took, np.minimum(took, _quickest(took, waiting))
    return both


def _quickest(took: Floats, waiting: Bools) -> float:
    """What the quickest of some messages mostly took, (evaluations, messages), of those mostly waited
    for if there are any."""
    typical, heard = np.median(took, axis=0), np.median(waiting, axis=0) > 0
    return float(min(typical[heard] if heard.any() else typical, default=0.0))
