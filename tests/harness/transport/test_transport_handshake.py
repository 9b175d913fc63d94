import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.errors import HandshakeError
from harness.transport.handshake import accept, connect, connect_all, listen
from protocols.party import ROLES, Role

SECRET, OTHER = b"s" * 32, b"o" * 32


def test_full_mesh() -> None:
    listeners = {role: listen() for role in ROLES}
    addresses = {role: listener.getsockname() for role, listener in listeners.items()}
    with ThreadPoolExecutor(3) as pool:
        meshes = dict(
            zip(
                ROLES,
                pool.map(lambda r: connect_all(r, listeners[r], addresses, SECRET), ROLES),
                strict=True,
            )
        )
    for role, mesh in meshes.items():
        assert set(mesh) == set(ROLES) - {role}
        for peer, sock in mesh.items():
            sock.sendall(f"{role}>{peer}".encode())
    for role, mesh in meshes.items():
        for peer, sock in mesh.items():
            assert sock.recv(100).decode() == f"{peer}>{role}"
            sock.close()
    for listener in listeners.values():
        listener.close()


def test_strangers_are_dropped_and_a_good_one_still_connects() -> None:
    with listen() as listener, ThreadPoolExecutor(1) as pool:
        host, port = listener.getsockname()
        accepted = pool.submit(accept, listener, SECRET, "P1", {"P0"}, timeout_s=20)
        with pytest.raises(HandshakeError, match="does not know the secret"):
            connect(host, port, OTHER, "P0", "P1")
        with pytest.raises(HandshakeError, match="no handshake"):
            connect(host, port, SECRET, "P2", "P1")  # not expected
        with pytest.raises(HandshakeError, match="no handshake"):
            connect(host, port, SECRET, "P0", "P2")  # meant somebody else
        with socket.create_connection((host, port)) as browser:
            browser.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10)
        with (
            socket.create_connection((host, port)),
            connect(host, port, SECRET, "P0", "P1") as good,
        ):
            peer, sock = accepted.result()
            assert peer == "P0"
            with sock:
                sock.sendall(b"hello")
                assert good.recv(5) == b"hello"


def test_one_who_cannot_prove_the_secret_is_not_accepted() -> None:
    """The acceptor's own proof, sent back, is no proof of the connector."""
    with listen() as listener, ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(accept, listener, SECRET, "P1", {"P0"}, timeout_s=1)
        with socket.create_connection(listener.getsockname()) as sock:
            sock.sendall(b"PBHSP0P1" + bytes(32))
            proof = sock.recv(64, socket.MSG_WAITALL)[32:]
            sock.sendall(proof)
            assert sock.recv(1) == b""
        with pytest.raises(HandshakeError, match="1 strangers dropped"):
            accepted.result()


@pytest.mark.parametrize("reply", [b"", b"x" * 64, b"x" * 1000])
def test_an_impostor_acceptor_is_refused(reply: bytes) -> None:
    with listen() as listener:
        host, port = listener.getsockname()

        def impostor() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(40, socket.MSG_WAITALL)
                sock.sendall(reply)

        thread = threading.Thread(target=impostor)
        thread.start()
        with pytest.raises(HandshakeError):
            connect(host, port, SECRET, "P0", "P1", timeout_s=5)
        thread.join()


def test_deadlines_and_unreachable_peers() -> None:
    silent = listen()
    host, port = silent.getsockname()
    with pytest.raises(HandshakeError, match="no handshake of P1"):
        connect(host, port, SECRET, "P0", "P1", timeout_s=0.2)
    with pytest.raises(HandshakeError, match=r"waited 0\.2 s for P0"):
        accept(listen(), SECRET, "P1", {"P0"}, timeout_s=0.2)
    silent.close()
    with pytest.raises(HandshakeError, match="P0 cannot reach P1"):
        connect(host, port, SECRET, "P0", "P1")
    role: Role = "P0"
    with pytest.raises(ValueError, match="32 bytes"):
        connect(host, port, b"short", role, "P1")
