"""What a trace says the parties' own work takes, under one of two readings of it.

cpu   parties on machines of their own: a segment takes its CPU time, or its wall time where that is
      less (several threads, or a transport thread beside the compute).
wall  this machine with all that ran on it: a segment takes its wall time, a party enters a step as
      late as it did, and a message takes no less than it took over this machine's own sockets.
"""

from dataclasses import dataclass
from itertools import permutations

import numpy as np

from harness.parties.trace_recorder import RECV, SEND
from harness.replay import operation_times
from harness.replay.operation_times import Bools, Compute
from harness.replay.trace import DelayedStep, Floats, Step, Trace, operations
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
            for role in step.roles
        }
        for step in trace.steps
    ]


def delayed_costs(
    delayed_step: DelayedStep, plain: Step, compute: Compute, scale: float
) -> dict[Role, Costs]:
    """Each role's costs in a step that ran over links of a delay, alike. A message that the delay hides has
    the `transport` that it has in the `plain` step, and as `handling` what it took beyond the delay, if it
    was waited for; any other message took what it took."""
    step, measured, delay_ns = delayed_step.step, compute == "wall", delayed_step.delay_s * 1e9
    costs = {}
    for role in step.roles:
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
    role_trace = step.roles[role]
    before, during = (
        operation_times.before(role_trace, compute),
        operation_times.during(role_trace, compute),
    )
    columns = before, during, transport, handling
    entry = (role_trace.begin_ns - step.start_ns).astype(np.float64)
    entry *= scale if compute == "wall" else 0.0
    return Costs(entry, *(np.ascontiguousarray(column.T * scale) for column in columns))


def _transport(step: Step, role: Role, compute: Compute, measured: bool) -> Floats:
    """Transport and handling of the messages that `role` sends, (2, evaluations, operations).

    transport: its sender's and its receiver's own time; where it was measured, and the receiver was
    waiting, all the time from the one's begin to the other's end. handling: no more than the quickest
    message of the step takes, for the rest of a large one comes in during the delay.
    """
    role_trace = step.roles[role]
    transport, handling = both = np.zeros((2, *role_trace.times.before_wall.shape))
    quickest = _quickest(step, compute, measured)
    for peer in step.roles:
        sends = operations(role_trace, peer, SEND)
        took, _ = _took(step, role, peer, compute, measured)
        transport[:, sends], handling[:, sends] = took, np.minimum(took, quickest)
    return both


def _took(
    step: Step, sender: Role, receiver: Role, compute: Compute, measured: bool
) -> tuple[Floats, Bools]:
    """What each message from the one to the other took, and whether it was waited for, (evaluations,
    messages)."""
    role_trace, other = step.roles[sender], step.roles[receiver]
    sends, receives = operations(role_trace, receiver, SEND), operations(other, sender, RECV)
    own = operation_times.during(role_trace, compute)[:, sends]
    least = own + operation_times.during(other, compute)[:, receives]
    waited = operation_times.had_to_wait(other)[:, receives] & measured
    travelled = operation_times.travelled(step, receiver)[:, receives]
    return np.where(waited, travelled, least), waited


def _quickest(step: Step, compute: Compute, measured: bool) -> float:
    """What the quickest message mostly took, of those mostly waited for if there are any."""
    pairs = permutations(step.roles, 2)
    messages = [_took(step, *pair, compute, measured) for pair in pairs]
    took, waited = (np.concatenate(parts, axis=1) for parts in zip(*messages, strict=True))
    typical, observed = np.median(took, axis=0), np.median(waited, axis=0) > 0
    return float(min(typical[observed] if observed.any() else typical, default=0.0))
