"""Messages between the processes of a run: framing, authenticated sockets, counters.

`SocketParty` is the `Party` of a real run; every event it has can be observed by its listeners, of
which `Counters` is one.
"""

from harness.errors import FrameError, HandshakeError
from harness.transport.handshake import accept, connect, connect_all, listen
from harness.transport.socket_party import SocketParty
from protocols.counters import Counters, PhaseCounts, Traffic
from protocols.errors import PeerError, PeerGone, PeerTimeout
from protocols.events import Event, Listener

__all__ = [
    "Counters",
    "Event",
    "FrameError",
    "HandshakeError",
    "Listener",
    "PeerError",
    "PeerGone",
    "PeerTimeout",
    "PhaseCounts",
    "SocketParty",
    "Traffic",
    "accept",
    "connect",
    "connect_all",
    "listen",
]
