"""What each operator of a traced run takes: its compute, its waits, its messages, its hops.

An operator is what the label of an operation says, without the layer's number and without what comes
below: "layer 3/softmax/reveal" and "layer 4/softmax/return" are both of layer/softmax, and
"select/query" is of select. What lies between the steps of a layer is of layer, and what lies outside
all steps of other. A role's compute and waits, over all operators, are its whole online time.
"""

import re
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence

import numpy as np

from harness.parties.trace_recorder import RECV, SEND
from harness.records.record import OperatorRecord
from harness.replay.operation_times import waited
from harness.replay.trace import Floats, RoleTrace, Step, Trace, working_roles
from protocols.party import ALL_ROLES, Role

OTHER = "other"
LAYER = re.compile(r"layer( \d+)?")
_Key = tuple[Role, str]  # a role and an operator


def operator_of(label: str) -> str:
    """The operator that a label is of; see the module."""
    first, *below = label.split("/")
    if LAYER.fullmatch(first):
        return "/".join(["layer", *below[:1]])
    return first or OTHER


def operator_records(trace: Trace, kinds: Sequence[str]) -> list[OperatorRecord]:
    """Medians of one evaluation; of a generation with decode steps, of one of these.

    kinds: of each step of `trace`, as in its record.
    """
    decodes = [step for step, kind in zip(trace.steps, kinds, strict=False) if kind == "decode"]
    tables = [_of_step(step, working_roles(trace, step)) for step in decodes or trace.steps]
    keys = dict.fromkeys(key for table in tables for key in table)
    none = np.zeros((6, trace.evaluations))
    samples = {key: np.hstack([table.get(key, none) for table in tables]) for key in keys}
    return [
        OperatorRecord(*key, *(round(float(value)) for value in np.median(rows, axis=1)))
        for key, rows in sorted(samples.items(), key=lambda item: item[0][0])
    ]


def _of_step(step: Step, roles: Sequence[Role]) -> dict[_Key, Floats]:
    """For each of `roles` and each operator the six numbers of a record, (6, evaluations), in one step."""
    hops = _critical_sends(step)
    found: dict[_Key, Floats] = {}
    for role in roles:
        role_trace = step.roles[role]
        numbers = _of_operations(role_trace, hops[role])
        operators = np.array([operator_of(label) for label in role_trace.labels])
        for operator in dict.fromkeys(operators.tolist()):
            found[role, operator] = numbers[:, :, operators == operator].sum(axis=2)
    return found


def _of_operations(role_trace: RoleTrace, critical: Sequence[int]) -> Floats:
    """The six numbers of each operation, (6, evaluations, operations)."""
    times, waits = role_trace.times, waited(role_trace)
    sent = role_trace.kind == SEND
    hops = np.zeros(len(sent))
    hops[list(critical)] = 1
    parts = (
        times.before_wall + times.during_wall - waits,
        times.before_cpu + times.during_cpu,
        waits,
        sent,
        np.where(sent, role_trace.payload_bytes, 0),
        hops,
    )
    return np.stack([np.broadcast_to(part, waits.shape) for part in parts]).astype(float)


def _critical_sends(step: Step) -> Mapping[Role, list[int]]:
    """For each role, which of its operations send a message of the longest chain of messages that wait
    for one another; of chains of equal length the one whose messages came first."""
    depths, causes = _depths(step)
    role = max(depths, key=lambda each: depths[each])
    found: dict[Role, list[int]] = {each: [] for each in step.roles}
    for depth in range(depths[role], 0, -1):
        role, operation = causes[role, depth]
        found[role].append(operation)
    return found


def _depths(step: Step) -> tuple[dict[Role, int], dict[tuple[Role, int], tuple[Role, int]]]:
    """Each role's hop depth at the end; for a role and a depth, whose send had brought it there."""
    depths, at = dict.fromkeys(step.roles, 0), dict.fromkeys(step.roles, 0)
    causes: dict[tuple[Role, int], tuple[Role, int]] = {}
    under_way: defaultdict[tuple[Role, Role], deque[tuple[int, int]]] = defaultdict(deque)
    moved = True
    while moved:
        moved = False
        for role, role_trace in step.roles.items():
            for place in range(at[role], len(role_trace.kind)):
                peer = ALL_ROLES[role_trace.peer[place]]
                if role_trace.kind[place] == SEND:
                    under_way[role, peer].append((depths[role], place))
                if role_trace.kind[place] == RECV:
                    if not under_way[peer, role]:
                        break
                    depth, sent = under_way[peer, role].popleft()
                    if depth >= depths[role]:
                        depths[role] = depth + 1
                        causes[role, depth + 1] = peer, sent
                at[role], moved = place + 1, True
    return depths, causes
