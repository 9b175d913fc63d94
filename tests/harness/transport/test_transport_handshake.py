"""Who gets a connection: by a secret, and with TLS by a certificate. Who does not, and what is said."""

import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest

from harness.errors import HandshakeError, Refused
from harness.transport import (
    Connection,
    Credentials,
    Identity,
    Trust,
    accept,
    connect,
    connect_all,
    listen,
    tls,
)
from harness.transport.stream import Reader
from harness.transport.tls import fingerprint
from protocols.party import Role
from tests.tcp import MESH, PLAIN, SAFE, SECRET

TRUST, OTHER = Trust(SECRET), Trust(b"o" * 32)
PINNED = {role: Trust(SECRET, fingerprint(SAFE[role].certificate)) for role in MESH}


def write(connection: Connection, data: bytes) -> None:
    for part in connection.sealed([memoryview(data)]):
        connection.sock.sendall(b"".join(part))


def read(connection: Connection, size: int) -> bytes:
    data = bytearray(size)
    Reader(connection).read_into(memoryview(data))
    return bytes(data)


def meet(
    connector: Credentials, acceptor: Credentials, expects: Trust, is_expected: Trust
) -> list[Any]:
    """What each end of a handshake gets: a connection, or an error."""

    def caught(act: Callable[[], Any]) -> Any:
        try:
            return act()
        except HandshakeError as error:
            return error

    with listen() as listener, ThreadPoolExecutor(1) as pool:
        trusts = {connector.role: is_expected}
        there = pool.submit(caught, lambda: accept(listener, acceptor, trusts, timeout_s=1.5))
        address = listener.getsockname()
        here = caught(lambda: connect(address, connector, acceptor.role, expects, timeout_s=3))
        ends = [here, there.result()]
    for end in ends:
        assert "\n" not in str(end)
    return ends


@pytest.mark.parametrize("own", [PLAIN, SAFE], ids=["in the clear", "TLS"])
def test_full_mesh(own: dict[Role, Credentials]) -> None:
    listeners = {role: listen() for role in MESH}
    addresses = {role: listener.getsockname() for role, listener in listeners.items()}

    def mesh_of(role: Role) -> dict[Role, Connection]:
        known = PINNED if own is SAFE else dict.fromkeys(MESH, TRUST)
        trusts = {peer: known[peer] for peer in MESH if peer != role}
        return connect_all(own[role], listeners[role], addresses, trusts)

    with ThreadPoolExecutor(len(MESH)) as pool:
        meshes = dict(zip(MESH, pool.map(mesh_of, MESH), strict=True))
    for role, mesh in meshes.items():
        assert set(mesh) == set(MESH) - {role}
        for peer, connection in mesh.items():
            write(connection, f"{role}>{peer}".encode())
    for role, mesh in meshes.items():
        for peer, connection in mesh.items():
            said = f"{peer}>{role}"
            assert read(connection, len(said)).decode() == said
            connection.sock.close()
    for listener in listeners.values():
        listener.close()


def test_strangers_are_dropped_and_a_good_one_still_connects() -> None:
    with listen() as listener, ThreadPoolExecutor(1) as pool:
        address = listener.getsockname()
        accepted = pool.submit(accept, listener, PLAIN["P1"], {"P0": TRUST}, timeout_s=20)
        with pytest.raises(HandshakeError, match="does not know the secret"):
            connect(address, PLAIN["P0"], "P1", OTHER)
        with pytest.raises(HandshakeError, match="P1 does not wait for P2"):
            connect(address, PLAIN["P2"], "P1", TRUST)
        with pytest.raises(HandshakeError, match="P2 does not wait for P0"):
            connect(address, PLAIN["P0"], "P2", TRUST)  # meant somebody else
        with socket.create_connection(address) as browser:
            browser.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10)
        with socket.create_connection(address):
            good = connect(address, PLAIN["P0"], "P1", TRUST)
        peer, connection = accepted.result()
        assert peer == "P0"
        write(connection, b"hello")
        assert read(good, 5) == b"hello"
        for end in (good, connection):
            end.sock.close()


def test_one_who_cannot_prove_the_secret_is_not_accepted() -> None:
    """The acceptor's own proof, sent back, is no proof of the connector."""
    with listen() as listener, ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(accept, listener, PLAIN["P1"], {"P0": TRUST}, timeout_s=1)
        with socket.create_connection(listener.getsockname()) as sock:
            sock.sendall(b"PBHS\x02P0P1" + bytes(34))
            proof = sock.recv(72, socket.MSG_WAITALL)[40:]
            sock.sendall(proof)
            assert sock.recv(1) == b""
        with pytest.raises(HandshakeError, match="1 strangers dropped, the last: P0 does not know"):
            accepted.result()


@pytest.mark.parametrize("reply", [b"", b"x" * 64, b"x" * 1000])
def test_an_impostor_acceptor_is_refused(reply: bytes) -> None:
    with listen() as listener:
        address = listener.getsockname()

        def impostor() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(43, socket.MSG_WAITALL)
                sock.sendall(reply)

        thread = threading.Thread(target=impostor)
        thread.start()
        with pytest.raises(HandshakeError):
            connect(address, PLAIN["P0"], "P1", TRUST, timeout_s=5)
        thread.join()


def test_deadlines_and_unreachable_peers() -> None:
    silent = listen()
    address = silent.getsockname()
    with pytest.raises(HandshakeError, match="no handshake of P1"):
        connect(address, PLAIN["P0"], "P1", TRUST, timeout_s=0.2)
    with pytest.raises(HandshakeError, match=r"waited 0\.2 s for P0"):
        accept(listen(), PLAIN["P1"], {"P0": TRUST}, timeout_s=0.2)
    silent.close()
    with pytest.raises(HandshakeError, match="P0 cannot reach P1"):
        connect(address, PLAIN["P0"], "P1", TRUST)
    with pytest.raises(ValueError, match="32 bytes"):
        Trust(b"short")


def test_another_version_is_named_at_both_ends() -> None:
    """Of the handshake; one from before it had a version begins with a role there."""
    with listen() as listener, ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(accept, listener, SAFE["P1"], {"P0": TRUST}, timeout_s=0.5)
        with socket.create_connection(listener.getsockname()) as old:
            old.sendall(b"PBHSP0P1" + bytes(32))
            assert old.recv(5, socket.MSG_WAITALL) == b"PBHS\x02"
        with pytest.raises(HandshakeError, match="a stranger is of another version of permbench"):
            accepted.result()

        def answer() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.sendall(b"PBHS\x07" + bytes(35))
                sock.recv(1000)

        pool.submit(answer)
        listener.settimeout(5)
        with pytest.raises(HandshakeError, match=r"P1 is of another version .* P0 .*7, not 2"):
            connect(listener.getsockname(), SAFE["P0"], "P1", TRUST)


@dataclass(frozen=True)
class Naming(Credentials):
    """Names one certificate in the handshake, and shows its own in TLS."""

    named: bytes = b""

    @property
    def certificate(self) -> bytes:
        return self.named


def naming(real: Role, false: Role) -> Credentials:
    """`false`, which knows all that is not secret of `real`, in its place."""
    return Naming(real, SAFE[false].identity, SAFE[real].certificate)


NO_TLS = "wants TLS, and P{} has no certificate"
ANOTHER = "P{} shows P{} another certificate than it showed the harness"
REFUSALS = {
    # P0, which connects, P1, which accepts, and what each says.
    "P0 has none": (PLAIN["P0"], SAFE["P1"], "P1 " + NO_TLS.format(0), "P1 " + NO_TLS.format(0)),
    "P1 has none": (SAFE["P0"], PLAIN["P1"], "P0 " + NO_TLS.format(1), "P0 " + NO_TLS.format(1)),
    "P2 as P0": (replace(SAFE["P2"], role="P0"), SAFE["P1"], "closed", ANOTHER.format(0, 1)),
    "P2 as P1": (SAFE["P0"], replace(SAFE["P2"], role="P1"), ANOTHER.format(1, 0), "closed"),
    "P2 names P0's": (
        naming("P0", "P2"),
        SAFE["P1"],
        "P1 refuses the TLS of P0: tlsv1 alert",
        "P1 and P0 have no TLS 1.3 connection: self-signed certificate",
    ),
    "P2 names P1's": (
        SAFE["P0"],
        naming("P1", "P2"),
        "P0 and P1 have no TLS 1.3 connection: self-signed certificate",
        "P1 and P0 have no TLS 1.3 connection: tlsv1 alert",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_missing_or_swapped_certificate_is_refused(case: str) -> None:
    """By those who know the secret, and all that is not secret of who they pose as."""
    connector, acceptor, here, there = REFUSALS[case]
    ends = meet(connector, acceptor, PINNED["P1"], PINNED["P0"])
    for end, said in zip(ends, (here, there), strict=True):
        assert isinstance(end, HandshakeError)
        assert isinstance(end, Refused) == (said != "closed")
        assert said in str(end)


def test_an_old_version_of_tls_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    make = tls._context

    def old(identity: Identity, trusted: bytes, server: bool) -> ssl.SSLContext:
        context = make(identity, trusted, server)
        if not server:
            context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        return context

    monkeypatch.setattr(tls, "_context", old)
    here, there = meet(SAFE["P0"], SAFE["P1"], TRUST, TRUST)
    assert "P0 and P1 have no TLS 1.3 connection: tlsv1 alert protocol version" in str(here)
    assert "P1 and P0 have no TLS 1.3 connection: unsupported protocol" in str(there)


class Wire:
    """Stands between a connector and an acceptor at `address`, and notes what each sends."""

    def __init__(self, address: Any, change: Callable[[bytes], bytes] = bytes) -> None:
        self.sent: dict[str, bytes] = {"connector": b"", "acceptor": b""}
        self._change, self._threads = change, []
        self._listener = listen()
        self.address = self._listener.getsockname()
        thread = threading.Thread(target=self._run, args=(address,))
        thread.start()
        self._threads.append(thread)

    def close(self) -> None:
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _run(self, address: Any) -> None:
        near, _ = self._listener.accept()
        with near, socket.create_connection(address) as far:
            back = threading.Thread(target=self._pass, args=("acceptor", far, near))
            back.start()
            self._pass("connector", near, far)
            back.join()

    def _pass(self, who: str, source: socket.socket, to: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                self.sent[who] += data
                to.sendall(self._change(data))
        for sock in (source, to):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


def test_a_replayed_handshake_is_refused() -> None:
    """At either end: all that was sent, once more, by somebody who has no secret and no key."""
    with listen() as listener, ThreadPoolExecutor(1) as pool:
        address = listener.getsockname()
        wire = Wire(address)
        accepted = pool.submit(accept, listener, SAFE["P1"], {"P0": TRUST}, timeout_s=5)
        ends = connect(wire.address, SAFE["P0"], "P1", TRUST), accepted.result()[1]
        for end in ends:
            end.sock.close()
        wire.close()
        accepted = pool.submit(accept, listener, SAFE["P1"], {"P0": TRUST}, timeout_s=1)
        with socket.create_connection(address) as again:
            again.sendall(wire.sent["connector"])
            with pytest.raises(HandshakeError, match="the last: P0 does not know the secret of P1"):
                accepted.result()

        def answer() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.sendall(wire.sent["acceptor"])
                sock.recv(1000)

        pool.submit(answer)
        with pytest.raises(HandshakeError, match="P1 does not know the secret of P0"):
            connect(address, SAFE["P0"], "P1", TRUST)


def test_a_certificate_put_in_on_the_way_is_refused() -> None:
    """By somebody who does not know the secret, where nothing is pinned yet."""
    own, theirs = SAFE["P0"].certificate, Identity.fresh("P0").certificate

    def change(data: bytes) -> bytes:
        size = struct.pack("<H", len(own))
        return data.replace(size + own, struct.pack("<H", len(theirs)) + theirs)

    with listen() as listener, ThreadPoolExecutor(1) as pool:
        wire = Wire(listener.getsockname(), change)
        accepted = pool.submit(accept, listener, SAFE["P1"], {"P0": TRUST}, timeout_s=1)
        with pytest.raises(HandshakeError, match="P1 does not know the secret of P0"):
            connect(wire.address, SAFE["P0"], "P1", TRUST)
        with pytest.raises(HandshakeError, match="1 strangers dropped"):
            accepted.result()
        wire.close()


def test_no_byte_of_a_message_is_readable_on_the_way() -> None:
    secret = os.urandom(64)
    with listen() as listener, ThreadPoolExecutor(1) as pool:
        wire = Wire(listener.getsockname())
        accepted = pool.submit(accept, listener, SAFE["P1"], {"P0": TRUST}, timeout_s=5)
        here, there = connect(wire.address, SAFE["P0"], "P1", TRUST), accepted.result()[1]
        write(here, secret)
        assert read(there, len(secret)) == secret
        for end in (here, there):
            end.sock.close()
        wire.close()
    assert secret[:8] not in wire.sent["connector"]
