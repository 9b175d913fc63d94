"""Connections for tests."""

import socket
from concurrent.futures import ThreadPoolExecutor

from harness.transport import Connection, Credentials, Identity, Trust, accept, connect, listen
from protocols.party import Role

SECRET = b"s" * 32
MESH: tuple[Role, ...] = ("P0", "P1", "P2", "P10")
PLAIN = {role: Credentials(role) for role in MESH}
# Made once: a key takes a while on a busy machine.
SAFE = {role: Credentials(role, Identity.fresh(role)) for role in MESH}


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of one connection over loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        first = socket.create_connection(server.getsockname())
        return first, server.accept()[0]


def connection_pair(
    tls: bool = False, a: Role = "P0", b: Role = "P1"
) -> tuple[Connection, Connection]:
    """The same of two roles that have shaken hands."""
    known, trust = SAFE if tls else PLAIN, Trust(SECRET)
    with listen() as listener, ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(accept, listener, known[b], {a: trust})
        first = connect(listener.getsockname(), known[a], b, trust)
        return first, accepted.result()[1]
