"""The `Party` of a real run: one socket per peer, and an emulated link from each where asked for."""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from types import TracebackType
from typing import Self

from torch import Tensor

from harness.transport.channel import Channel
from harness.transport.frame import MAX_MESSAGE_BYTES, encode
from harness.transport.stream import Connection
from netem.emulated_link import EmulatedLink
from protocols.events import Listener, Stamp
from protocols.metered_party import Message, MeteredParty
from protocols.party import Phase, Role


class SocketParty(MeteredParty):
    """One role's process, connected to its peers. `close` it at the end. One thread at a time
    sends (`MeteredParty` sees to that), and one receives from each peer.

    connections: one per peer; the party owns them from here on.
    timeout_s: how long a peer may stay silent while this role waits for it.
    listeners: called with every `Event` of this role.
    """

    def __init__(
        self,
        role: Role,
        connections: Mapping[Role, Connection],
        timeout_s: float,
        listeners: Iterable[Listener] = (),
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        super().__init__(role, listeners)
        self._timeout_s = timeout_s
        self._max_bytes = max_message_bytes
        self._channels = {
            peer: Channel(role, peer, connection, max_message_bytes)
            for peer, connection in connections.items()
        }

    def shape(
        self, links: Mapping[Role, EmulatedLink] | None, phases: AbstractSet[Phase] = frozenset()
    ) -> None:
        """Receive through `links` (by sending role) in `phases`; None receives at full speed always.

        From a role that has no link messages come at full speed. Peers must not be sending now.
        """
        for peer, channel in self._channels.items():
            channel.shape((links or {}).get(peer), frozenset(phases))

    def close(self, drain_s: float = 5.0) -> bool:
        """Send what is still queued, then close every connection; no thread is left.

        Returns whether everything was handed to the kernel within `drain_s` per peer.
        """
        channels = list(self._channels.values())
        self._channels = {}
        drained = [channel.close(drain_s) for channel in channels]
        return all(drained)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(drain_s=5.0 if error is None else 0.0)

    def _transmit(self, to: Role, stamp: Stamp, tensors: tuple[Tensor, ...]) -> tuple[int, int]:
        channel = self._channel(to)
        frame = encode(stamp, tensors, self._max_bytes)
        return frame.payload_bytes, channel.send(frame, stamp.phase)

    def _receive(self, source: Role) -> Message:
        return self._channel(source).receive(self._timeout_s, self._phase)

    def _unread(self) -> dict[Role, int]:
        return {peer: channel.unread for peer, channel in self._channels.items()}

    def _channel(self, peer: Role) -> Channel:
        if peer not in self._channels:
            raise ValueError(f"{self.role} has no connection to {peer}")
        return self._channels[peer]
