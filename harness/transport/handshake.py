"""Mutual authentication of two parties on a fresh TCP connection, by a secret that both know.

    connector → acceptor   "PBHS", version, own role, peer's role, nonce a (32 bytes), certificate
    acceptor → connector   "PBHS", version, whether it waits for that role, nonce b, certificate,
                           HMAC(secret, "accept", acceptor, connector, a, b, fingerprints)
    connector → acceptor   HMAC(secret, "connect", connector, acceptor, a, b, fingerprints)
    both                   TLS 1.3, where each shows the certificate it has named
    acceptor → connector   one byte: welcome (a record, with TLS)

The MACs are HMAC-SHA256. They name the direction and both roles, so that none can be reflected; the
nonces, so that none can be replayed; and the certificates' fingerprints (SHA-256, connector's first),
so that nobody in between can put in its own. Without TLS both certificates are empty, and what follows
is neither encrypted nor authenticated.
"""

import hmac
import os
import socket
import ssl
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from harness.errors import HandshakeError, NotAwaited, Refused
from harness.transport.stream import Connection
from harness.transport.tls import Identity, Tls, fingerprint, reason
from protocols.party import Role

SECRET_BYTES = 32
SECRET_VARIABLE = "PERMBENCH_SECRET"  # in hex, for parties that somebody else starts
RETRY_S = 0.2
BACKLOG = 128  # connections that wait to be taken
VERSION = 2
MAX_CERTIFICATE_BYTES = 4096
_MAGIC = b"PBHS"
_NONCE_BYTES = 32
_HELLO = struct.Struct(
    f"<4sB2s2s{_NONCE_BYTES}sH"
)  # roles as `_short` has them; certificate's length
_REPLY = struct.Struct(f"<4sB?{_NONCE_BYTES}sH")
_WELCOME = b"\x01"
# Of a host that is gone without a word: first asked after so long, then so often, so many times.
_KEEPALIVE = {socket.TCP_KEEPIDLE: 30, socket.TCP_KEEPINTVL: 10, socket.TCP_KEEPCNT: 6}


@dataclass(frozen=True)
class Trust:
    """What a peer must prove: to know `secret`, and to own the certificate with the fingerprint
    `pinned`; None: that which it names."""

    secret: bytes
    pinned: bytes | None = None

    def __post_init__(self) -> None:
        if len(self.secret) != SECRET_BYTES:
            raise ValueError(f"a secret has {SECRET_BYTES} bytes, got {len(self.secret)}")


@dataclass(frozen=True)
class Credentials:
    """Who this process is to its peers; without `identity` there is no TLS."""

    role: Role
    identity: Identity | None = None

    @property
    def certificate(self) -> bytes:
        """In DER; empty without TLS."""
        return self.identity.certificate if self.identity else b""


def listen(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A listening TCP socket on `port` of `host`; 0: any free port."""
    return socket.create_server((host, port), backlog=BACKLOG)


def connect(
    address: tuple[str, int], me: Credentials, peer: Role, trust: Trust, *, timeout_s: float = 10.0
) -> Connection:
    """Connect to `peer`, which accepts at `address`, or soon will. Raises HandshakeError; NotAwaited where
    the peer waits for others, or hangs up."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            left = max(RETRY_S, deadline - time.monotonic())
            sock = socket.create_connection(address, timeout=left)
            break
        except OSError as error:
            if time.monotonic() + RETRY_S > deadline:
                where = ":".join(map(str, address))
                text = f"{me.role} cannot reach {peer} at {where}: {error}"
                raise HandshakeError(text) from None
            time.sleep(RETRY_S)
    try:
        return ready(Greeting(sock, me, deadline).connect(peer, trust))
    except (OSError, EOFError) as error:
        sock.close()
        kind = NotAwaited if isinstance(error, EOFError | ConnectionError) else HandshakeError
        raise kind(f"{me.role} got no handshake of {peer}: {error}") from None
    except HandshakeError:
        sock.close()
        raise


class Greeting:
    """One handshake under way. Raises OSError, EOFError, HandshakeError; Refused once the peer has
    proved the secret."""

    def __init__(self, sock: socket.socket, me: Credentials, deadline: float) -> None:
        self._sock, self._me, self._deadline = sock, me, deadline

    def connect(self, peer: Role, trust: Trust) -> Connection:
        """This end's part, where it has connected to `peer`."""
        mine, a = self._me.certificate, os.urandom(_NONCE_BYTES)
        names = _short(self._me.role), _short(peer)
        self._sock.sendall(_HELLO.pack(_MAGIC, VERSION, *names, a, len(mine)) + mine)
        magic, version, waits, b, size = _REPLY.unpack(self._read(_REPLY.size))
        self._check_version(magic, version, peer)
        if not waits:
            raise NotAwaited(f"{peer} does not wait for {self._me.role}, or no longer")
        theirs = self._certificate(size)
        proven = a + b + fingerprint(mine) + fingerprint(theirs)
        self._check_proof(trust, peer, f"accept {peer} {self._me.role} ", proven)
        self._sock.sendall(_mac(trust, f"connect {self._me.role} {peer} ", proven))
        connection = self._secure(peer, trust, theirs, server=False)
        if self._read_through(connection, 1, peer) != _WELCOME:
            raise HandshakeError(f"{peer} did not welcome {self._me.role}")
        return connection

    def accept(self, trusts: Mapping[Role, Trust], deadline: float) -> tuple[Role, Connection]:
        """The same where a peer has connected, up to the welcome. deadline: of one that has proved the
        secret."""
        hello = self._read(len(_MAGIC) + 1)
        try:
            self._check_version(hello[:-1], hello[-1], "a stranger")
        except HandshakeError:
            self._reply(False, b"")
            raise
        hello += self._read(_HELLO.size - len(hello))
        _, _, source, target, a, size = _HELLO.unpack(hello)
        peer = {_short(name): name for name in trusts}.get(source)
        if peer is None or target != _short(self._me.role):
            self._reply(False, b"")
            names = f"{source.decode(errors='replace')!r} to {target.decode(errors='replace')!r}"
            raise HandshakeError(f"a handshake from {names}, which nobody waits for")
        theirs, mine = self._certificate(size), self._me.certificate
        b = self._reply(True, mine)
        proven = a + b + fingerprint(theirs) + fingerprint(mine)
        trust = trusts[peer]
        self._sock.sendall(_mac(trust, f"accept {self._me.role} {peer} ", proven))
        self._check_proof(trust, peer, f"connect {peer} {self._me.role} ", proven)
        self._deadline = deadline
        return peer, self._secure(peer, trust, theirs, server=True)

    def welcome(self, connection: Connection) -> None:
        """The end of the handshake where a peer has connected."""
        for part in connection.sealed([memoryview(_WELCOME)]):
            self._sock.sendall(b"".join(part))

    def _reply(self, waits: bool, certificate: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        head = _REPLY.pack(_MAGIC, VERSION, waits, nonce, len(certificate))
        self._sock.sendall(head + certificate)
        return nonce

    def _check_version(self, magic: bytes, version: int, peer: str) -> None:
        if magic != _MAGIC:
            raise HandshakeError(f"not a handshake of {peer}")
        if version != VERSION:
            raise HandshakeError(
                f"{peer} is of another version of permbench than {self._me.role} "
                f"(handshake {version}, not {VERSION})"
            )

    def _check_proof(self, trust: Trust, peer: Role, direction: str, proven: bytes) -> None:
        if not hmac.compare_digest(self._read(SECRET_BYTES), _mac(trust, direction, proven)):
            raise HandshakeError(f"{peer} does not know the secret of {self._me.role}")

    def _secure(self, peer: Role, trust: Trust, theirs: bytes, server: bool) -> Connection:
        """TLS, where both ends are for it, with the peer whose certificate is `theirs`."""
        plain, identity = Connection(self._sock), self._me.identity
        if not theirs and (identity or trust.pinned):
            raise Refused(f"{self._me.role} wants TLS, and {peer} has no certificate")
        if theirs and not identity:
            raise Refused(f"{peer} wants TLS, and {self._me.role} has no certificate")
        if not identity:
            return plain
        if trust.pinned not in (None, fingerprint(theirs)):
            raise Refused(
                f"{peer} shows {self._me.role} another certificate than it showed the harness"
            )
        try:
            tls = Tls(identity, theirs, server)
            self._shake_hands(tls)
        except ssl.SSLError as error:
            text = f"{self._me.role} and {peer} have no TLS 1.3 connection: {reason(error)}"
            raise Refused(text) from None
        return replace(plain, tls=tls, fingerprint=fingerprint(theirs))

    def _shake_hands(self, tls: Tls) -> None:
        done = False
        while not done:
            try:
                done = tls.shake_hands()
            finally:  # an alert is for the peer to read
                with suppress(BrokenPipeError, ConnectionResetError):
                    self._sock.sendall(tls.outgoing())
            if not done:
                tls.feed(self._some(1 << 14))

    def _read_through(self, connection: Connection, size: int, peer: Role) -> bytes:
        """Plaintext. A peer that refuses this end's certificate says so here first."""
        tls = connection.tls
        if tls is None:
            return self._read(size)
        data = bytearray(size)
        try:
            while not tls.decrypt(memoryview(data)):
                tls.feed(self._some(1 << 14))
        except ssl.SSLError as error:
            raise Refused(f"{peer} refuses the TLS of {self._me.role}: {reason(error)}") from None
        return bytes(data)

    def _certificate(self, size: int) -> bytes:
        if size > MAX_CERTIFICATE_BYTES:
            raise HandshakeError(f"a certificate of {size} bytes")
        return self._read(size)

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self._some(size - len(data))
        return data

    def _some(self, most: int) -> bytes:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("handshake timed out")
        self._sock.settimeout(left)
        part = self._sock.recv(most)
        if not part:
            raise EOFError("connection closed during the handshake")
        return part


def _short(role: str) -> bytes:
    """A role in two bytes, its number in hexadecimal: P2 is P2, P10 is PA."""
    return f"{role[0]}{int(role[1:]):X}".encode()


def _mac(trust: Trust, direction: str, proven: bytes) -> bytes:
    return hmac.digest(trust.secret, direction.encode() + proven, "sha256")


def ready(connection: Connection) -> Connection:
    """A connection as it is used once both ends know each other."""
    sock = connection.sock
    sock.settimeout(None)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE.items():
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
    return connection
