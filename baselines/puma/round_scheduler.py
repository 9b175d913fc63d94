"""Protocols as coroutines that pause once a round, so that independent ones share their messages.

A protocol is an `async def` that awaits a `Round`: what this role sends and from whom it waits. All
roles run the same protocols with the same number of rounds, also in rounds where one of them has
nothing to say. `drive` runs a protocol over a `Party`; `together` runs several in lockstep, and what
they send to one role in one round travels as one message, in one hop.
"""

from collections.abc import Coroutine, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, overload

from torch import Tensor

from protocols.party import Party, Role

A = TypeVar("A")
B = TypeVar("B")
T = TypeVar("T")
Tensors = tuple[Tensor, ...]
Inbox = Mapping[Role, Tensors]
Running = Coroutine[Any, Any, T]


@dataclass(frozen=True)
class Round:
    """One round of one role. `await` it to get what came: the tensors of each expected role.

    sent: tensors for each role. expected: how many tensors will come from each role.
    """

    sent: Mapping[Role, Tensors] = field(default_factory=dict)
    expected: Mapping[Role, int] = field(default_factory=dict)

    def __await__(self) -> Generator["Round", Inbox, Inbox]:
        return (yield self)


def drive(party: Party, protocol: Running[T]) -> T:
    """Run `protocol` to its end, inside the party's current phase."""
    inbox: Inbox | None = None
    while True:
        try:
            round_ = protocol.send(inbox)
        except StopIteration as end:
            result: T = end.value
            return result
        for to, tensors in round_.sent.items():
            party.send(to, *tensors)
        inbox = {source: party.recv(source) for source in round_.expected}


def rehearse(protocols: Mapping[Role, Running[T]]) -> dict[Role, T]:
    """Run all roles' sides of a protocol in this thread, without a transport."""
    inboxes: dict[Role, Inbox | None] = dict.fromkeys(protocols)
    results: dict[Role, T] = {}
    while len(results) < len(protocols):
        rounds: dict[Role, Round] = {}
        for role, protocol in protocols.items():
            try:
                rounds[role] = protocol.send(inboxes[role])
            except StopIteration as end:
                results[role] = end.value
        for role, round_ in rounds.items():
            sent = {source: rounds[source].sent[role] for source in round_.expected}
            inboxes[role] = {s: tuple(t.clone() for t in tensors) for s, tensors in sent.items()}
    return results


@overload
async def together(a: Running[A], b: Running[B], /) -> tuple[A, B]: ...
@overload
async def together(*protocols: Running[T]) -> tuple[T, ...]: ...
async def together(*protocols: Running[Any]) -> tuple[Any, ...]:
    """Run protocols in lockstep and return what they return, in order."""
    results: list[Any] = [None] * len(protocols)
    inboxes: dict[int, Inbox | None] = dict.fromkeys(range(len(protocols)))
    while inboxes:
        rounds = {}
        for i, inbox in inboxes.items():
            try:
                rounds[i] = protocols[i].send(inbox)
            except StopIteration as end:
                results[i] = end.value
        if not rounds:
            break
        received = await _merge(list(rounds.values()))
        inboxes = dict(zip(rounds, _split(received, list(rounds.values())), strict=True))
    return tuple(results)


def _merge(rounds: Sequence[Round]) -> Round:
    """All messages to one role become one, in the order of the protocols."""
    sent: dict[Role, Tensors] = {}
    expected: dict[Role, int] = {}
    for round_ in rounds:
        for to, tensors in round_.sent.items():
            sent[to] = sent.get(to, ()) + tensors
        for source, count in round_.expected.items():
            expected[source] = expected.get(source, 0) + count
    return Round(sent, expected)


def _split(received: Inbox, rounds: Sequence[Round]) -> list[Inbox]:
    """Hand each protocol its tensors of a merged message."""
    taken = dict.fromkeys(received, 0)
    inboxes: list[Inbox] = []
    for round_ in rounds:
        inbox = {}
        for source, count in round_.expected.items():
            inbox[source] = received[source][taken[source] : taken[source] + count]
            taken[source] += count
        inboxes.append(inbox)
    return inboxes
