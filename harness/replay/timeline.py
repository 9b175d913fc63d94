"""One evaluation of one step as a timeline: what each role did when, and which message was under way.

Measured, from a trace; or predicted, from a simulation of the same operations on another network. A
role's slices leave no gap from its entry to its end and never overlap. Times are in ns from the step's
common start.
"""

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from harness.config.network import NetworkConfig
from harness.parties.trace_recorder import RECV, SEND
from harness.replay import operation_times
from harness.replay.compute_times import Costs, costs_of, delayed_costs
from harness.replay.operation_times import Compute
from harness.replay.simulate import TIME, Instants, Profiles, links_of, simulate
from harness.replay.trace import Floats, RoleTrace, Step, Trace, working_roles
from protocols.party import ALL_ROLES, Role

SliceKind = Literal["compute", "send", "wait", "receive"]


@dataclass(frozen=True)
class Slice:
    """What a role did from start_ns to end_ns. label: the step it was of. message: the one that was
    sent, waited for or received, a place in `Timeline.messages`; None for compute."""

    role: Role
    kind: SliceKind
    start_ns: int
    end_ns: int
    label: str
    message: int | None = None


@dataclass(frozen=True)
class Message:
    """One message. sent_ns: its send began. arrived_ns: it was there; of a measured message that nobody
    waited for it is known only that it was there when its receive began."""

    source: Role
    to: Role
    label: str
    wire_bytes: int
    sent_ns: int
    arrived_ns: int


@dataclass(frozen=True)
class Timeline:
    """Slices by role in order, and messages by the time they were sent."""

    slices: tuple[Slice, ...]
    messages: tuple[Message, ...]


@dataclass(frozen=True)
class _Times:
    """When one role's operations began and ended, and when the message of each receive was there,
    (operations,); the segment before an operation lies between the end of the last one and its begin."""

    entry: float
    begin: Floats
    arrived: Floats
    end: Floats


def measured(trace: Trace, number: int) -> Timeline:
    """Step `number` in the evaluation whose time is in the middle."""
    step = _with_working_roles(trace, trace.steps[number])
    ends = [_ends(own)[:, -1] for own in step.roles.values()]
    evaluation = _middle(np.max(ends, axis=0) - step.start_ns)
    times = {
        role: _measured_times(own, evaluation, int(step.start_ns[evaluation]))
        for role, own in step.roles.items()
    }
    return _timeline(step, times)


def _with_working_roles(trace: Trace, step: Step) -> Step:
    return replace(step, roles={role: step.roles[role] for role in working_roles(trace, step)})


def _ends(own: RoleTrace) -> Floats:
    took = own.times.before_wall + own.times.during_wall
    return (own.begin_ns[:, None] + np.cumsum(took, axis=1)).astype(float)


def _middle(times: Floats) -> int:
    """Which evaluation has the median time; of an even number the one just below."""
    return int(np.argsort(times, kind="stable")[(len(times) - 1) // 2])


def _measured_times(own: RoleTrace, evaluation: int, start_ns: int) -> _Times:
    end = _ends(own)[evaluation] - start_ns
    begin = end - own.times.during_wall[evaluation]
    arrived = begin + operation_times.waited(own)[evaluation]
    return _Times(float(own.begin_ns[evaluation] - start_ns), begin, arrived, end)


def predicted(
    trace: Trace, number: int, network: NetworkConfig, compute: Compute, scale: float
) -> Timeline:
    """Step `number` on `network`, by replay's law, from the evaluations that were traced over the delay
    nearest to its own (`predict` puts its time between those of two delays)."""
    profiles = network.profiles(trace.online_roles, trace.roles)
    step, costs = _nearest(trace, number, profiles, compute, scale)
    step = _with_working_roles(trace, step)
    instants: defaultdict[Role, list[Instants]] = defaultdict(list)
    total = simulate(step, costs, links_of([profiles]), lambda role, at: instants[role].append(at))
    evaluation = _middle(total[TIME, :, 0])
    times = {}
    for role, own in instants.items():
        columns = ([getattr(at, name) for at in own] for name in ("begin", "arrived", "end"))
        begin, arrived, end = (np.array(column)[:, evaluation, 0] for column in columns)
        times[role] = _Times(float(costs[role].entry[evaluation]), begin, arrived, end)
    return _timeline(step, times)


def _nearest(
    trace: Trace, number: int, profiles: Profiles, compute: Compute, scale: float
) -> tuple[Step, dict[Role, Costs]]:
    """The step as it was over the delay nearest to the longest of `profiles`, with its costs."""
    asked_s = max(profile.delay_s for profile in profiles.values())
    nearest = min(trace.delayed, key=lambda each: abs(each.delay_s - asked_s), default=None)
    if nearest is None or asked_s < abs(nearest.delay_s - asked_s):
        return trace.steps[number], costs_of(trace, compute, scale)[number]
    return nearest.step, delayed_costs(nearest, trace.steps[number], compute, scale)


def _timeline(step: Step, times: dict[Role, _Times]) -> Timeline:
    messages, places = _messages(step, times)
    slices = [
        made
        for role, own in step.roles.items()
        for made in _slices(role, own, times[role], places[role], messages)
    ]
    return Timeline(tuple(slices), messages)


def _messages(
    step: Step, times: dict[Role, _Times]
) -> tuple[tuple[Message, ...], dict[Role, dict[int, int]]]:
    """All messages in the order sent; for each role, which message an operation is of. The k-th that one
    role receives from another is the k-th that this one sent to it."""
    sent: defaultdict[tuple[Role, Role], deque[int]] = defaultdict(deque)
    for role, own in step.roles.items():
        for at in (own.kind == SEND).nonzero()[0].tolist():
            sent[role, ALL_ROLES[own.peer[at]]].append(at)
    found: list[tuple[Message, int, int]] = []
    for role, own in step.roles.items():
        for at in (own.kind == RECV).nonzero()[0].tolist():
            source = ALL_ROLES[own.peer[at]]
            send = sent[source, role].popleft()
            label, size = step.roles[source].labels[send], int(own.wire_bytes[at])
            begin, arrived = round(times[source].begin[send]), round(times[role].arrived[at])
            arrived = min(
                max(begin, arrived), round(times[role].end[at])
            )  # two clocks, of two hosts
            message = Message(source, role, label, size, begin, arrived)
            found.append((message, send, at))
    found.sort(key=lambda each: each[0].sent_ns)
    places: dict[Role, dict[int, int]] = {role: {} for role in step.roles}
    for place, (message, send, receive) in enumerate(found):
        places[message.source][send] = places[message.to][receive] = place
    return tuple(message for message, *_ in found), places


def _slices(
    role: Role,
    own: RoleTrace,
    times: _Times,
    places: dict[int, int],
    messages: Sequence[Message],
) -> list[Slice]:
    """What one role did, without gaps; nothing is left out but what took no time."""
    made: list[Slice] = []

    def add(kind: SliceKind, until: float, label: str, message: int | None = None) -> None:
        start, end = (made[-1].end_ns if made else round(times.entry)), round(until)
        if end > start or kind in ("send", "receive"):
            made.append(Slice(role, kind, start, max(start, end), label, message))

    for at, kind in enumerate(own.kind.tolist()):
        label, message = own.labels[at], places.get(at)
        add("compute", times.begin[at], label)
        if kind == SEND:
            add("send", times.end[at], label, message)
        if kind == RECV and message is not None:
            add("wait", messages[message].arrived_ns, label, message)
            add("receive", times.end[at], label, message)
    return made


def end_ns(timeline: Timeline) -> int:
    """When the last role ended."""
    return max((made.end_ns for made in timeline.slices), default=0)


def roles_of(timeline: Timeline) -> Sequence[Role]:
    """Who is in it."""
    return [role for role in ALL_ROLES if any(made.role == role for made in timeline.slices)]
