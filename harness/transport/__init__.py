"""Messages between the processes of a run: framing, authenticated sockets, counters.

`SocketParty` is the `Party` of a real run; every event it has can be observed by its listeners, of
which `Counters` is one.
"""

from harness.errors import FrameError, HandshakeError, Refused
from harness.transport.handshake import Credentials, Trust, connect, listen
from harness.transport.reception import accept, connect_all
from harness.transport.socket_party import SocketParty
from harness.transport.stream import Connection
from harness.transport.tls import Identity
from protocols.counters import Counters, PhaseCounts, Traffic
from protocols.errors import PeerError, PeerGone, PeerTimeout
from protocols.events import Event, Listener

__all__ = [
    "Connection",
    "Counters",
    "Credentials",
    "Event",
    "FrameError",
    "HandshakeError",
    "Identity",
    "Listener",
    "PeerError",
    "PeerGone",
    "PeerTimeout",
    "PhaseCounts",
    "Refused",
    "SocketParty",
    "Traffic",
    "Trust",
    "accept",
    "connect",
    "connect_all",
    "listen",
]
