"""Whole runs with TLS, over loopback and between namespaces, with honest parties and with others."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from harness.config.compose import compose_run
from harness.measure.session import Session
from harness.parties.group import PartyGroup
from harness.progress import PlainProgress
from harness.records.record import Record
from harness.runners import local, netns
from harness.transport.tls import wire_bytes
from netem.command import run
from netem.process_labels import run_label
from netem.tc_probe import namespaces_missing
from protocols.party import ROLES

pytestmark = pytest.mark.slow

WORDS = (
    *("experiment=argmax", "experiment.n=500", "shaper=none", "repeat=1", "warmup=0"),
    *("calibration.strict=false", "calibration.patience_s=0"),
)
TLS = "transport.tls=true"


@pytest.fixture(params=["local", "netns"])
def runner(request: pytest.FixtureRequest) -> Iterator[str]:
    """A runner, of which nothing is left at the end."""
    if request.param == "netns" and (why := namespaces_missing()):
        pytest.skip(f"network namespaces: {why}")
    before = set(psutil.Process().children(recursive=True))
    yield request.param
    assert set(psutil.Process().children(recursive=True)) <= before
    if request.param == "netns":
        assert run_label() not in run(("ip", "netns", "list"))


def measure(runner: str, *words: str) -> Record:
    with Session() as session:
        config = compose_run([*WORDS, f"runner={runner}", *words])
        return session.run(config, PlainProgress())


def test_tls_changes_no_answer_and_adds_its_records(runner: str) -> None:
    plain, safe = measure(runner), measure(runner, TLS)
    assert (plain.status, safe.status) == ("ok", "ok")
    assert plain.correctness == safe.correctness
    for name, phase in plain.phases.items():
        assert safe.phases[name].hops == phase.hops
        for role, part in phase.roles.items():
            for peer, sent in part.sent.items():
                got = safe.phases[name].roles[role].sent[peer]
                assert (got.messages, got.payload_bytes) == (sent.messages, sent.payload_bytes)
                added = got.wire_bytes - sent.wire_bytes
                assert added >= 22 * sent.messages
                assert added <= wire_bytes(sent.wire_bytes) - sent.wire_bytes + 22 * sent.messages


# What P1 runs in place of its worker: it knows the code, its secret, and what the harness tells it.
FAULTY = """
import contextlib, socket, sys, time
from harness.parties import worker
from harness.transport import handshake
from harness.transport.handshake import Credentials, connect
from harness.transport.tls import Identity

connect_peers, greeting = worker._connect_peers, handshake.Greeting.__init__
role, host, port = sys.argv[1:4]

class Tap:
    def __init__(self, sock): self.sock = sock
    def __getattr__(self, name): return getattr(self.sock, name)
    def sendall(self, data):
        with open({notes!r}, "ab") as file: file.write(data)
        self.sock.sendall(data)

def without_tls(): sys.argv.remove("--tls")

def with_another():
    me = Credentials(role, Identity.fresh(role))
    worker._connect_peers = lambda _, *rest: connect_peers(me, *rest)

def as_p0():
    def pose(me, control, listener, secret, peers):
        to_p2 = tuple(peers["addresses"]["P2"]), Credentials("P0", me.identity), "P2"
        try: connect(*to_p2, worker._trusts(role, secret, peers)["P2"])
        finally: time.sleep(60)
    worker._connect_peers = pose

def noting():
    handshake.Greeting.__init__ = lambda self, sock, *rest: greeting(self, Tap(sock), *rest)

def again():
    with socket.create_connection((host, int(port))) as sock, open({notes!r}, "rb") as file:
        sock.sendall(file.read())
        with contextlib.suppress(ConnectionResetError):
            while sock.recv(1000): pass
    sys.exit(0)

if role == "P1": {fault}()
sys.exit(worker.main())
"""


class Faulty:
    """Runs with such a P1."""

    def __init__(self, runner: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._runner, self._notes, self._patch = runner, str(folder / "notes"), monkeypatch
        secrets = {role: os.urandom(32) for role in ROLES}  # the same in each run
        monkeypatch.setattr(PartyGroup, "_secrets", lambda _: secrets)

    def measure(self, fault: str) -> Record:
        program = "-c", FAULTY.format(fault=fault, notes=self._notes)
        for module in (local, netns):
            self._patch.setattr(module, "WORKER", program)
        return measure(self._runner, TLS)


@pytest.fixture
def faulty(runner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Faulty:
    return Faulty(runner, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("without_tls", "H0 wants TLS, and P1 has no certificate"),
        (
            "with_another",
            r"P\d: Refused: P1 shows P[02] another certificate than it showed the har.*",
        ),
        ("as_p0", "P2: Refused: P0 shows P2 another certificate than it showed the harness"),
    ],
)
def test_a_missing_or_a_swapped_certificate_ends_the_run(
    fault: str, error: str, faulty: Faulty
) -> None:
    record = faulty.measure(fault)
    assert record.status == "failed"
    assert re.fullmatch(error, str(record.error))


def test_a_replayed_handshake_is_no_party(faulty: Faulty) -> None:
    """All that P1 once said to the harness, by somebody who has heard it."""
    assert faulty.measure("noting").status == "ok"
    record = faulty.measure("again")
    assert record.status == "failed"
    assert record.error == "P1 exited with code 0 (P1 does not know the secret of H0)"
