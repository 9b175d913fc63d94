"""What a trace says the parties' own work takes, under one of two readings.

cpu   parties on machines of their own: a segment takes its CPU time, or its wall time where that is
      less (several threads, or a transport thread beside the compute).
wall  this machine with all that ran on it: a segment takes its wall time, a party enters a step as
      late as it did, and a message takes no less than it took over this machine's own sockets.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.replay.trace import RECV, SEND, Ints, Program, Step, Trace, operations
from protocols.party import Role

Compute = Literal["cpu", "wall"]
Floats = NDArray[np.float64]

# A receive that took longer than this was waiting; one whose message is there takes less.
AT_ONCE_NS = 30_000


@dataclass(frozen=True)
class Costs:
    """One role's own time in one step, in ns.

    entry: (evaluations,), from the common start to its begin. before, during: (operations,
    evaluations), of the compute ahead of each operation and of the operation itself without waiting.
    transport: alike, for a send: the least time from its begin to the message being received.
    """

    entry: Floats
    before: Floats
    during: Floats
    transport: Floats


def costs_of(trace: Trace, compute: Compute, scale: float) -> list[dict[Role, Costs]]:
    """For each step, each role's costs, all times `scale` times as long as traced."""
    return [_step_costs(step, compute, trace.shaped, scale) for step in trace.steps]


def _step_costs(step: Step, compute: Compute, shaped: bool, scale: float) -> dict[Role, Costs]:
    during = {role: _during(program, compute) for role, program in step.programs.items()}
    measured = compute == "wall" and not shaped
    costs = {}
    for role, program in step.programs.items():
        columns = _before(program, compute), during[role], _transport(step, role, during, measured)
        scaled = [np.ascontiguousarray(column.T * scale) for column in columns]
        late = (program.begin_ns - step.start_ns).astype(np.float64)
        costs[role] = Costs(late * (scale if compute == "wall" else 0.0), *scaled)
    return costs


def _before(program: Program, compute: Compute) -> Floats:
    """Compute ahead of each operation, (evaluations, operations)."""
    wall, cpu = program.times.before_wall, program.times.before_cpu
    return (wall if compute == "wall" else np.minimum(wall, cpu)).astype(float)


def _during(program: Program, compute: Compute) -> Floats:
    """Operations without waiting, (evaluations, operations): only a receive waits."""
    wall, cpu = program.times.during_wall, program.times.during_cpu
    whole = (program.kind == SEND) & (compute == "wall")
    return np.where(whole, wall, np.minimum(wall, cpu)).astype(float)


def _transport(step: Step, role: Role, during: Mapping[Role, Floats], measured: bool) -> Floats:
    """For each message that `role` sends, its sender's and its receiver's own time; where it was
    measured, and the receiver was waiting, all the time from the one's begin to the other's end."""
    program, ends = step.programs[role], _ends(step.programs[role])
    transport = np.zeros_like(during[role])
    for peer, other in step.programs.items():
        sends, receives = operations(program, peer, SEND), operations(other, role, RECV)
        least = during[role][:, sends] + during[peer][:, receives]
        begun = ends[:, sends] - program.times.during_wall[:, sends]
        waited = other.times.during_wall[:, receives] > AT_ONCE_NS
        took = np.maximum(least, _ends(other)[:, receives] - begun)
        transport[:, sends] = np.where(waited & measured, took, least)
    return transport


def _ends(program: Program) -> Ints:
    """When each operation ended, (evaluations, operations): a role's segments leave no gap."""
    took = program.times.before_wall + program.times.during_wall
    ends: Ints = program.begin_ns[:, None] + np.cumsum(took, axis=1)
    return ends
