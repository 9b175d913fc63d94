"""What a trace says, operation by operation: how long each took of its own, and how long it waited.

Every reading is (evaluations, operations), in ns.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.replay.trace import RECV, SEND, Floats, Ints, Program, Step, operations
from protocols.party import Role

Compute = Literal["cpu", "wall"]

Bools = NDArray[np.bool_]

# A receive that is idle for longer than this is waiting; one whose message is there is not.
AT_ONCE_NS = 30_000


def before(program: Program, compute: Compute) -> Floats:
    """Compute ahead of each operation. cpu: CPU time, or wall time where that is less."""
    wall, cpu = program.times.before_wall, program.times.before_cpu
    return (wall if compute == "wall" else np.minimum(wall, cpu)).astype(float)


def during(program: Program, compute: Compute) -> Floats:
    """Operations without waiting: only a receive waits."""
    wall, cpu = program.times.during_wall, program.times.during_cpu
    whole = (program.kind == SEND) & (compute == "wall")
    return np.where(whole, wall, np.minimum(wall, cpu)).astype(float)


def waited(program: Program) -> Floats:
    """How long each receive waited; nothing for other operations."""
    took = program.times.during_wall - during(program, "wall")
    return np.where(program.kind == RECV, took, 0.0)


def had_to_wait(program: Program) -> Bools:
    """Which receives were waiting for their message."""
    return waited(program) > AT_ONCE_NS


def travelled(step: Step, role: Role) -> Floats:
    """For each receive of `role`, the time from the begin of the send to the end of the receive."""
    program = step.programs[role]
    took = np.zeros(program.times.before_wall.shape)
    ended = _ends(program)
    for peer, other in step.programs.items():
        receives, sends = operations(program, peer, RECV), operations(other, role, SEND)
        begun = _ends(other)[:, sends] - other.times.during_wall[:, sends]
        took[:, receives] = np.maximum(ended[:, receives] - begun, 0)
    return took


def _ends(program: Program) -> Ints:
    """When each operation ended: a role's segments leave no gap."""
    took = program.times.before_wall + program.times.during_wall
    ends: Ints = program.begin_ns[:, None] + np.cumsum(took, axis=1)
    return ends
