"""What a trace says, operation by operation: how long each took of its own, and how long it waited.

Every reading is (evaluations, operations), in ns.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.parties.trace_recorder import RECV, SEND
from harness.replay.trace import Floats, Ints, RoleTrace, Step, operations
from protocols.party import Role

Compute = Literal["cpu", "wall"]

Bools = NDArray[np.bool_]

# A receive that is idle for longer than this is waiting; one whose message is there is not.
AT_ONCE_NS = 30_000


def before(role_trace: RoleTrace, compute: Compute) -> Floats:
    """Compute ahead of each operation. cpu: CPU time, or wall time where that is less."""
    wall, cpu = role_trace.times.before_wall, role_trace.times.before_cpu
    return (wall if compute == "wall" else np.minimum(wall, cpu)).astype(float)


def during(role_trace: RoleTrace, compute: Compute) -> Floats:
    """Operations without waiting: only a receive waits."""
    wall, cpu = role_trace.times.during_wall, role_trace.times.during_cpu
    whole = (role_trace.kind == SEND) & (compute == "wall")
    return np.where(whole, wall, np.minimum(wall, cpu)).astype(float)


def waited(role_trace: RoleTrace) -> Floats:
    """How long each receive waited; nothing for other operations."""
    took = role_trace.times.during_wall - during(role_trace, "wall")
    return np.where(role_trace.kind == RECV, took, 0.0)


def had_to_wait(role_trace: RoleTrace) -> Bools:
    """Which receives were waiting for their message."""
    return waited(role_trace) > AT_ONCE_NS


def travelled(step: Step, role: Role) -> Floats:
    """For each receive of `role`, the time from the begin of the send to the end of the receive."""
    role_trace = step.roles[role]
    took = np.zeros(role_trace.times.before_wall.shape)
    ended = _ends(role_trace)
    for peer, other in step.roles.items():
        receives, sends = operations(role_trace, peer, RECV), operations(other, role, SEND)
        begun = _ends(other)[:, sends] - other.times.during_wall[:, sends]
        took[:, receives] = np.maximum(ended[:, receives] - begun, 0)
    return took


def _ends(role_trace: RoleTrace) -> Ints:
    """When each operation ended: a role's segments leave no gap."""
    took = role_trace.times.before_wall + role_trace.times.during_wall
    ends: Ints = role_trace.begin_ns[:, None] + np.cumsum(took, axis=1)
    return ends
