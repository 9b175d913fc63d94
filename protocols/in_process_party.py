"""Parties as threads of one process, for testing protocols without processes or a network.

Hop depth, phases and counts follow the same rules as between real processes; a message has no
framing here, so its wire bytes are its payload bytes.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import TypeVar

import torch
from torch import Tensor

from protocols.counters import Counters
from protocols.errors import PeerError, PeerGone, PeerTimeout
from protocols.events import Listener, Stamp
from protocols.metered_party import MESSAGE_DTYPES, Message, MeteredParty
from protocols.party import Role

T = TypeVar("T")
Queues = Mapping[tuple[Role, Role], "SimpleQueue[Message | None]"]  # None: the sender has left


class MemoryParty(MeteredParty):
    """One role, connected by queues. `counters` counts what it does."""

    def __init__(
        self, role: Role, queues: Queues, timeout_s: float, listeners: Iterable[Listener] = ()
    ) -> None:
        self.counters = Counters()
        super().__init__(role, (self.counters, *listeners), time.thread_time_ns)
        self._queues = queues
        self._timeout_s = timeout_s

    def _transmit(self, to: Role, stamp: Stamp, tensors: tuple[Tensor, ...]) -> tuple[int, int]:
        for tensor in tensors:
            if tensor.dtype not in MESSAGE_DTYPES or tensor.device.type != "cpu":
                raise ValueError(f"cannot send a {tensor.dtype} tensor on {tensor.device}")
        payload = sum(tensor.nbytes for tensor in tensors)
        copies = tuple(
            tensor.detach().clone(memory_format=torch.contiguous_format) for tensor in tensors
        )
        self._queue(self.role, to).put(Message(stamp, copies, payload, payload))
        return payload, payload

    def _receive(self, source: Role) -> Message:
        queue = self._queue(source, self.role)
        try:
            message = queue.get(timeout=self._timeout_s)
        except Empty:
            where = f"in phase {self._phase}"
            raise PeerTimeout(
                f"{self.role} received nothing from {source} for {self._timeout_s:g} s {where}"
            ) from None
        if message is None:
            queue.put(None)
            raise PeerGone(f"{source} has left, {self.role} is in phase {self._phase}")
        return message

    def _unread(self) -> dict[Role, int]:
        queues = {pair[0]: queue for pair, queue in self._queues.items() if pair[1] == self.role}
        return {source: queue.qsize() for source, queue in queues.items()}

    def _queue(self, source: Role, to: Role) -> "SimpleQueue[Message | None]":
        if (source, to) not in self._queues:
            raise ValueError(f"there is no link {source}>{to}")
        return self._queues[source, to]

    def leave(self) -> None:
        """Let every peer that waits for this role know that nothing more will come."""
        for (source, _), queue in self._queues.items():
            if source == self.role:
                queue.put(None)


def run_parties(
    functions: Mapping[Role, Callable[[MemoryParty], T]],
    timeout_s: float = 60.0,
    listeners: Mapping[Role, Iterable[Listener]] | None = None,
) -> dict[Role, T]:
    """Run one function per role, each in a thread, and return what they returned.

    A function that raises releases the others, which get PeerGone; the exception that came first in
    that sense is raised again here. Raises PeerTimeout if a party waits longer than `timeout_s`,
    PeerError if a message was never received.
    """
    queues: Queues = {(a, b): SimpleQueue() for a in functions for b in functions if a != b}
    parties = {
        role: MemoryParty(role, queues, timeout_s, (listeners or {}).get(role, ()))
        for role in functions
    }
    with ThreadPoolExecutor(len(functions)) as pool:
        futures = {role: pool.submit(_live, parties[role], fn) for role, fn in functions.items()}
    _raise_cause(futures)
    for (source, to), queue in queues.items():
        if queue.qsize() > 1:  # one is the note that the sender has left
            raise PeerError(f"{to} left {queue.qsize() - 1} messages of {source} unread")
    return {role: future.result() for role, future in futures.items()}


def _live(party: MemoryParty, function: Callable[[MemoryParty], T]) -> T:
    try:
        return function(party)
    finally:
        party.leave()


def _raise_cause(futures: Mapping[Role, "Future[T]"]) -> None:
    errors = [error for future in futures.values() if (error := future.exception()) is not None]
    causes = [error for error in errors if not isinstance(error, PeerGone)]
    for error in causes or errors:
        raise error
