"""Mutual authentication of two parties on a fresh TCP connection, by a secret that all share.

    connector → acceptor   "PBHS", own role, peer's role, nonce a (32 bytes)
    acceptor → connector   nonce b, HMAC(secret, "accept", acceptor, connector, a, b)
    connector → acceptor   HMAC(secret, "connect", connector, acceptor, a, b)
    acceptor → connector   one byte: welcome

The MACs are HMAC-SHA256 and name the direction and both roles, so that none can be reflected. The
secret authenticates; it does not encrypt what follows.
"""

import hmac
import os
import socket
import time
from collections.abc import Collection, Mapping

from harness.errors import HandshakeError
from protocols.party import ROLES, Role

SECRET_BYTES = 32
SECRET_VARIABLE = "PERMBENCH_SECRET"  # in hex, for parties that somebody else starts
RETRY_S = 0.2
_MAGIC = b"PBHS"
_NONCE_BYTES = 32
_WELCOME = b"\x01"
_STRAY_S = 2.0  # a stranger that connects and says nothing is heard no longer


def listen(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A listening TCP socket on `port` of `host`; 0: any free port."""
    return socket.create_server((host, port), backlog=16)


def connect(
    host: str, port: int, secret: bytes, role: Role, peer: Role, *, timeout_s: float = 10.0
) -> socket.socket:
    """Connect as `role` to `peer`, which accepts at host:port, or soon will. Raises HandshakeError."""
    _check(secret)
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            sock = socket.create_connection((host, port), timeout=timeout_s)
            break
        except OSError as error:
            if time.monotonic() + RETRY_S > deadline:
                text = f"{role} cannot reach {peer} at {host}:{port}: {error}"
                raise HandshakeError(text) from None
            time.sleep(RETRY_S)
    try:
        _greet(sock, secret, role, peer, deadline)
    except (OSError, EOFError) as error:
        sock.close()
        raise HandshakeError(f"{role} got no handshake of {peer}: {error}") from None
    except HandshakeError:
        sock.close()
        raise
    return _ready(sock)


def accept(
    listener: socket.socket,
    secret: bytes,
    role: Role,
    expected: Collection[Role],
    *,
    timeout_s: float = 10.0,
) -> tuple[Role, socket.socket]:
    """Wait for one of the `expected` roles and return it with its connection.

    A connection that fails the handshake is dropped, and waiting goes on. Raises HandshakeError at
    the deadline.
    """
    _check(secret)
    deadline = time.monotonic() + timeout_s
    dropped = 0
    while (left := deadline - time.monotonic()) > 0:
        listener.settimeout(left)
        try:
            sock, _ = listener.accept()
        except TimeoutError:
            break
        try:
            until = min(deadline, time.monotonic() + _STRAY_S)
            return _answer(sock, secret, role, expected, until), _ready(sock)
        except (OSError, EOFError, HandshakeError):
            sock.close()
            dropped += 1
    names = " or ".join(sorted(expected))
    raise HandshakeError(
        f"{role} waited {timeout_s:g} s for {names} to connect ({dropped} strangers dropped)"
    )


def connect_all(
    role: Role,
    listener: socket.socket,
    addresses: Mapping[Role, tuple[str, int]],
    secret: bytes,
    *,
    timeout_s: float = 10.0,
) -> dict[Role, socket.socket]:
    """Connect `role` with every other role of `addresses`; all of them call this at once.

    The role earlier in ROLES connects, the later one accepts; `addresses` may contain `role`.
    Raises HandshakeError, then no socket is left open.
    """
    deadline = time.monotonic() + timeout_s
    sockets: dict[Role, socket.socket] = {}
    later = [peer for peer in ROLES if peer in addresses and peer > role]
    earlier = {peer for peer in ROLES if peer in addresses and peer < role}
    try:
        for peer in later:
            host, port = addresses[peer]
            left = max(0.01, deadline - time.monotonic())
            sockets[peer] = connect(host, port, secret, role, peer, timeout_s=left)
        while earlier:
            left = deadline - time.monotonic()
            peer, sock = accept(listener, secret, role, earlier, timeout_s=left)
            sockets[peer] = sock
            earlier.discard(peer)
    except HandshakeError:
        for sock in sockets.values():
            sock.close()
        raise
    return sockets


def _greet(sock: socket.socket, secret: bytes, role: Role, peer: Role, deadline: float) -> None:
    mine = os.urandom(_NONCE_BYTES)
    sock.sendall(_MAGIC + role.encode() + peer.encode() + mine)
    theirs = _read(sock, _NONCE_BYTES, deadline)
    mac = _read(sock, SECRET_BYTES, deadline)
    if not hmac.compare_digest(mac, _mac(secret, f"accept {peer} {role} ", mine + theirs)):
        raise HandshakeError(f"{peer} does not know the secret of {role}")
    sock.sendall(_mac(secret, f"connect {role} {peer} ", mine + theirs))
    if _read(sock, 1, deadline) != _WELCOME:
        raise HandshakeError(f"{peer} did not welcome {role}")


def _answer(
    sock: socket.socket, secret: bytes, role: Role, expected: Collection[Role], deadline: float
) -> Role:
    if _read(sock, len(_MAGIC), deadline) != _MAGIC:
        raise HandshakeError("not a handshake")
    names = {name.encode(): name for name in expected}
    peer = names.get(_read(sock, 2, deadline))
    if peer is None or _read(sock, 2, deadline) != role.encode():
        raise HandshakeError(f"not a handshake between {role} and one of {sorted(expected)}")
    theirs, mine = _read(sock, _NONCE_BYTES, deadline), os.urandom(_NONCE_BYTES)
    sock.sendall(mine + _mac(secret, f"accept {role} {peer} ", theirs + mine))
    mac = _read(sock, SECRET_BYTES, deadline)
    if not hmac.compare_digest(mac, _mac(secret, f"connect {peer} {role} ", theirs + mine)):
        raise HandshakeError(f"{peer} does not know the secret of {role}")
    sock.sendall(_WELCOME)
    return peer


def _mac(secret: bytes, direction: str, nonces: bytes) -> bytes:
    return hmac.digest(secret, direction.encode() + nonces, "sha256")


def _read(sock: socket.socket, size: int, deadline: float) -> bytes:
    data = b""
    while len(data) < size:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("handshake timed out")
        sock.settimeout(left)
        part = sock.recv(size - len(data))
        if not part:
            raise EOFError("connection closed during the handshake")
        data += part
    return data


def _ready(sock: socket.socket) -> socket.socket:
    sock.settimeout(None)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _check(secret: bytes) -> None:
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"the shared secret has {SECRET_BYTES} bytes, got {len(secret)}")
