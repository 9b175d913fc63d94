"""A run's trace: what every role did online, message by message, in every measured evaluation.

A role's online phase is a fixed sequence of operations (send, receive, end), each after a segment of
compute; a local operation is nothing but the end of a segment, where another step begins. All
evaluations of a run have the same operations, so these are kept once, and their times for each
evaluation. Times are in ns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from harness.errors import TraceError
from harness.parties.trace_recorder import END, LOCAL, RECV, SEND
from protocols.party import ALL_ROLES, Role

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Times:
    """Durations of operations, each array (evaluations, operations), in ns.

    before: the compute segment that ends where the operation begins. during: the operation itself; a
    receive's wall time includes the wait, its CPU time does not.
    """

    before_wall: Ints
    before_cpu: Ints
    during_wall: Ints
    during_cpu: Ints


@dataclass(frozen=True)
class RoleTrace:
    """One role in one step. The last operation, and no other, is END.

    kind: SEND, RECV, END or LOCAL. peer: the other role's place in ALL_ROLES. wire_bytes: with framing;
    payload_bytes: without. labels: the step that each operation, and the segment before it, is of, as
    "layer 3/softmax/reveal"; "" outside all steps. begin_ns: (evaluations,), when this role entered, on
    the harness's clock.
    """

    kind: Ints
    peer: Ints
    wire_bytes: Ints
    payload_bytes: Ints
    labels: tuple[str, ...]
    times: Times
    begin_ns: Ints


@dataclass(frozen=True)
class Step:
    """The online phase of one step. start_ns: (evaluations,), the instant agreed on for all roles."""

    start_ns: Ints
    roles: Mapping[Role, RoleTrace]


@dataclass(frozen=True)
class DelayedStep:
    """A step in evaluations over links of this delay each way, in s, and of any rate."""

    delay_s: float
    step: Step


@dataclass(frozen=True)
class Trace:
    """All measured evaluations of the run with this record id.

    online_roles: between whom the network's main link lies. shaped: whether links were shaped while
    this was recorded, or lay between hosts, so that its waits are not those of one machine alone.
    delayed: the only step again, each time over links of a longer delay: how its parties work after waits.
    Nothing where there are several steps, or links were shaped.
    """

    record_id: str
    online_roles: tuple[Role, ...]
    shaped: bool
    steps: tuple[Step, ...]
    delayed: tuple[DelayedStep, ...] = ()

    @property
    def roles(self) -> tuple[Role, ...]:
        """Those of the run."""
        return tuple(role for role in ALL_ROLES if role in self.steps[0].roles)

    @property
    def evaluations(self) -> int:
        """How many evaluations were recorded."""
        return len(self.steps[0].start_ns)


def working_roles(trace: Trace, step: Step) -> list[Role]:
    """The roles that take part in `step`: the online ones, and who else has messages. A dealer has the
    phase alone."""
    return [
        role
        for role, own in step.roles.items()
        if role in trace.online_roles or np.isin(own.kind, (SEND, RECV)).any()
    ]


def check(trace: Trace) -> Trace:
    """Return `trace`, or raise TraceError for one that no run can have left."""
    if not trace.steps or not trace.evaluations:
        raise TraceError("it has no evaluation")
    for step in trace.steps:
        _check_step(step, trace.evaluations)
    for delayed_step in trace.delayed:
        _check_step(delayed_step.step, len(delayed_step.step.start_ns))
        if not (len(trace.steps) == 1 and _same_operations(delayed_step.step, trace.steps[0])):
            raise TraceError("its messages after waits are not those without")
    if any(
        a >= b
        for a, b in pairwise([0.0, *(delayed_step.delay_s for delayed_step in trace.delayed)])
    ):
        raise TraceError("its waits do not become longer")
    return trace


def _check_step(step: Step, evaluations: int) -> None:
    for role, role_trace in step.roles.items():
        _check_role(role, role_trace, [ALL_ROLES.index(r) for r in step.roles if r != role])
        _check_times(role, role_trace, evaluations)
    _check_messages(step.roles)


def _same_operations(step: Step, other: Step) -> bool:
    return step.roles.keys() == other.roles.keys() and all(
        np.array_equal(getattr(role_trace, name), getattr(other.roles[role], name))
        for role, role_trace in step.roles.items()
        for name in ("kind", "peer", "wire_bytes")
    )


def _check_role(role: Role, role_trace: RoleTrace, peers: Sequence[int]) -> None:
    kind, size = role_trace.kind, len(role_trace.kind)
    if size == 0 or (kind == END).nonzero()[0].tolist() != [size - 1]:
        raise TraceError(f"{role}'s operations do not end once")
    columns = (role_trace.peer, role_trace.wire_bytes, role_trace.payload_bytes, role_trace.labels)
    if any(len(column) != size for column in columns):
        raise TraceError(f"{role}'s operations are of different numbers")
    sizes_known = min(role_trace.wire_bytes.min(), role_trace.payload_bytes.min()) >= 0
    if not np.isin(kind, (SEND, RECV, END, LOCAL)).all() or not sizes_known:
        raise TraceError(f"{role} has operations of an unknown kind or size")
    if not np.isin(role_trace.peer[np.isin(kind, (SEND, RECV))], peers).all():
        raise TraceError(f"{role} has messages with nobody in this trace")


def _check_times(role: Role, role_trace: RoleTrace, evaluations: int) -> None:
    size = len(role_trace.kind)
    if evaluations == 0 or role_trace.begin_ns.shape != (evaluations,):
        raise TraceError(f"{role} did not begin {evaluations} times")
    for name, values in vars(role_trace.times).items():
        if values.shape != (evaluations, size) or values.min() < 0:
            raise TraceError(f"{role}'s times ({name}) are not those of {evaluations} evaluations")


def _check_messages(traces: Mapping[Role, RoleTrace]) -> None:
    """Every message that was sent was received, once and whole."""
    for a in traces:
        for b in traces:
            sent, received = sizes(traces, a, b, SEND), sizes(traces, b, a, RECV)
            if sent.tolist() != received.tolist():
                raise TraceError(f"what {a} sent is not what {b} received")


def sizes(traces: Mapping[Role, RoleTrace], role: Role, peer: Role, kind: int) -> Ints:
    """Wire bytes of the messages that `role` sent to `peer`, or received from it, in order."""
    role_trace = traces[role]
    found: Ints = role_trace.wire_bytes[operations(role_trace, peer, kind)]
    return found


def pairs_of(steps: Sequence[Step]) -> set[tuple[Role, Role]]:
    """Who sends to whom."""
    return {
        (role, ALL_ROLES[peer])
        for step in steps
        for role, role_trace in step.roles.items()
        for peer in np.unique(role_trace.peer[role_trace.kind == SEND])
    }


def operations(role_trace: RoleTrace, peer: Role, kind: int) -> Ints:
    """Where in the role_trace its messages of one kind with `peer` are."""
    found: Ints = (
        (role_trace.kind == kind) & (role_trace.peer == ALL_ROLES.index(peer))
    ).nonzero()[0]
    return found
