"""A timeline as Chrome trace events, the JSON that Perfetto and chrome://tracing open.

One process a role, one for the network. Slices are complete events ("X"); a message is a flow from the
slice of its send to that of its receive (`bind_id`, `flow_out`, `flow_in`), an asynchronous event
("b", "e") of the network as long as it was under way, and a part of the counter ("C") of bytes in
flight. Times are in µs. Form: the Trace Event Format document of the Chromium project.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from harness.replay.timeline import Message, Slice, Timeline, roles_of
from protocols.party import ALL_ROLES, Role

NETWORK = len(ALL_ROLES)  # its process
IN_FLIGHT = "bytes in flight"
Event = dict[str, Any]


def chrome_trace(timeline: Timeline, about: Mapping[str, Any]) -> dict[str, Any]:
    """The whole file, as plain data. about: what else there is to say of it."""
    timed = [*_slice_events(timeline), *_message_events(timeline), *_counter_events(timeline)]
    events = [*_names(timeline), *sorted(timed, key=lambda event: float(event["ts"]))]
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": dict(about)}


def _names(timeline: Timeline) -> Iterator[Event]:
    places = [(ALL_ROLES.index(role), str(role)) for role in roles_of(timeline)]
    for place, name in (*places, (NETWORK, "network")):
        at = {"ph": "M", "pid": place, "tid": place}
        yield {**at, "name": "process_name", "args": {"name": name}}
        yield {**at, "name": "process_sort_index", "args": {"sort_index": place}}
        yield {**at, "name": "thread_name", "args": {"name": "online"}}


def _slice_events(timeline: Timeline) -> Iterator[Event]:
    for made in timeline.slices:
        message = None if made.message is None else timeline.messages[made.message]
        yield {
            **_at(made.role, made.start_ns),
            "ph": "X",
            "dur": _us(made.end_ns - made.start_ns),
            "cat": made.kind,
            "name": _name(made),
            "args": {"step": made.label, **_about(message)},
            **_flow(made),
        }


def _name(made: Slice) -> str:
    """Waits are alike; all else is called after its step."""
    if made.kind == "wait":
        return "wait"
    step = made.label or "outside steps"
    return step if made.kind == "compute" else f"{made.kind} {step}"


def _flow(made: Slice) -> Event:
    """The ends of a message's arrow."""
    if made.kind not in ("send", "receive") or made.message is None:
        return {}
    return {
        "bind_id": hex(made.message + 1),
        f"flow_{'out' if made.kind == 'send' else 'in'}": True,
    }


def _message_events(timeline: Timeline) -> Iterator[Event]:
    """They overlap, so each has an id of its own."""
    for place, message in enumerate(timeline.messages):
        same = {"cat": "message", "id": hex(place + 1), "pid": NETWORK, "tid": NETWORK}
        same["name"] = f"{_pair(message)} {message.label}".rstrip()
        yield {**same, "ph": "b", "ts": _us(message.sent_ns), "args": _about(message)}
        yield {**same, "ph": "e", "ts": _us(message.arrived_ns)}


def _counter_events(timeline: Timeline) -> Iterator[Event]:
    """The sum for each direction, whenever one of them changes."""
    changes = [
        change
        for message in timeline.messages
        for change in (
            (message.sent_ns, message.wire_bytes, message),
            (message.arrived_ns, -message.wire_bytes, message),
        )
    ]
    sums = {_pair(message): 0 for message in timeline.messages}
    for instant_ns, size, message in sorted(changes, key=lambda change: change[0]):
        sums[_pair(message)] += size
        at = {"pid": NETWORK, "tid": NETWORK, "ts": _us(instant_ns)}
        yield {**at, "ph": "C", "name": IN_FLIGHT, "args": dict(sums)}


def _about(message: Message | None) -> Event:
    if message is None:
        return {}
    return {"from": message.source, "to": message.to, "wire_bytes": message.wire_bytes}


def _pair(message: Message) -> str:
    return f"{message.source}→{message.to}"


def _at(role: Role, start_ns: int) -> Event:
    return {"pid": ALL_ROLES.index(role), "tid": ALL_ROLES.index(role), "ts": _us(start_ns)}


def _us(ns: int) -> float:
    return ns / 1e3
