"""A run's trace: what every role did online, message by message, in every measured evaluation.

A role's online phase is a fixed sequence of operations (send, receive, end), each after a segment of
compute. All evaluations of a run have the same operations, so these are kept once, and their times
for each evaluation. Times are in ns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from protocols.party import ROLES, Role

SEND, RECV, END = 0, 1, 2
NOBODY = -1  # the peer of an END

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class TraceError(ValueError):
    """No trace of this run, a file that is none, or one that contradicts itself."""


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
class Program:
    """One role in one step. The last operation, and no other, is END.

    kind: SEND, RECV or END. peer: the other role's place in ROLES. wire_bytes: with framing.
    begin_ns: (evaluations,), when this role entered, on the harness's clock.
    """

    kind: Ints
    peer: Ints
    wire_bytes: Ints
    times: Times
    begin_ns: Ints


@dataclass(frozen=True)
class Step:
    """The online phase of one step. start_ns: (evaluations,), the instant agreed on for all roles."""

    start_ns: Ints
    programs: Mapping[Role, Program]


@dataclass(frozen=True)
class Rested:
    """A step in evaluations over links of this delay each way, in s, and of any rate."""

    delay_s: float
    step: Step


@dataclass(frozen=True)
class Trace:
    """All measured evaluations of the run with this record id.

    online_roles: between whom the network's main link lies. shaped: whether links were shaped while
    this was recorded, or lay between hosts, so that its waits are not those of one machine alone.
    rested: the only step again, each over links of a longer delay: how its parties work after waits.
    Nothing where there are several steps, or links were shaped.
    """

    record_id: str
    online_roles: tuple[Role, ...]
    shaped: bool
    steps: tuple[Step, ...]
    rested: tuple[Rested, ...] = ()

    @property
    def evaluations(self) -> int:
        """How many evaluations were recorded."""
        return len(self.steps[0].start_ns)


def check(trace: Trace) -> Trace:
    """Return `trace`, or raise TraceError for one that no run can have left."""
    if not trace.steps or not trace.evaluations:
        raise TraceError("it has no evaluation")
    for step in trace.steps:
        _check_step(step, trace.evaluations)
    for walk in trace.rested:
        _check_step(walk.step, len(walk.step.start_ns))
        if not (len(trace.steps) == 1 and _same_operations(walk.step, trace.steps[0])):
            raise TraceError("its messages after waits are not those without")
    if any(a >= b for a, b in pairwise([0.0, *(walk.delay_s for walk in trace.rested)])):
        raise TraceError("its waits do not become longer")
    return trace


def _check_step(step: Step, evaluations: int) -> None:
    for role, program in step.programs.items():
        _check_program(role, program, [ROLES.index(r) for r in step.programs if r != role])
        _check_times(role, program, evaluations)
    _check_messages(step.programs)


def _same_operations(step: Step, other: Step) -> bool:
    return step.programs.keys() == other.programs.keys() and all(
        np.array_equal(getattr(program, name), getattr(other.programs[role], name))
        for role, program in step.programs.items()
        for name in ("kind", "peer", "wire_bytes")
    )


def _check_program(role: Role, program: Program, peers: Sequence[int]) -> None:
    kind, size = program.kind, len(program.kind)
    if size == 0 or (kind == END).nonzero()[0].tolist() != [size - 1]:
        raise TraceError(f"{role}'s operations do not end once")
    if not len(kind) == len(program.peer) == len(program.wire_bytes):
        raise TraceError(f"{role}'s operations are of different numbers")
    if not np.isin(kind, (SEND, RECV, END)).all() or program.wire_bytes.min() < 0:
        raise TraceError(f"{role} has operations of an unknown kind or size")
    if not np.isin(program.peer[:-1], peers).all():
        raise TraceError(f"{role} has messages with nobody in this trace")


def _check_times(role: Role, program: Program, evaluations: int) -> None:
    size = len(program.kind)
    if evaluations == 0 or program.begin_ns.shape != (evaluations,):
        raise TraceError(f"{role} did not begin {evaluations} times")
    for name, values in vars(program.times).items():
        if values.shape != (evaluations, size) or values.min() < 0:
            raise TraceError(f"{role}'s times ({name}) are not those of {evaluations} evaluations")


def _check_messages(programs: Mapping[Role, Program]) -> None:
    """Every message that was sent was received, once and whole."""
    for a in programs:
        for b in programs:
            sent, received = sizes(programs, a, b, SEND), sizes(programs, b, a, RECV)
            if sent.tolist() != received.tolist():
                raise TraceError(f"what {a} sent is not what {b} received")


def sizes(programs: Mapping[Role, Program], role: Role, peer: Role, kind: int) -> Ints:
    """Wire bytes of the messages that `role` sent to `peer`, or received from it, in order."""
    program = programs[role]
    found: Ints = program.wire_bytes[operations(program, peer, kind)]
    return found


def pairs_of(steps: Sequence[Step]) -> set[tuple[Role, Role]]:
    """Who sends to whom."""
    return {
        (role, ROLES[peer])
        for step in steps
        for role, program in step.programs.items()
        for peer in np.unique(program.peer[program.kind == SEND])
    }


def operations(program: Program, peer: Role, kind: int) -> Ints:
    """Where in the program its messages of one kind with `peer` are."""
    found: Ints = ((program.kind == kind) & (program.peer == ROLES.index(peer))).nonzero()[0]
    return found
