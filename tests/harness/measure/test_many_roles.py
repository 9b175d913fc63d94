"""Many parties: started, measured, traced, killed, and nothing left; beside systems of three."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from harness.config.compose import compose_run
from harness.errors import ConfigError
from harness.machine.capabilities import require
from harness.measure.session import Session
from harness.progress import PlainProgress
from harness.records import store
from harness.records.record import Record
from harness.replay import trace_file
from netem.command import run
from netem.process_labels import run_label
from netem.tc_probe import namespaces_missing
from protocols.party import ALL_ROLES, ROLES, Role
from protocols.workload import Argmax
from tests.installed import importable, install
from tests.king import King, KingOptions
from tests.play import declared, play

TEN = ALL_ROLES[:10]
AT_ONCE = ("calibration.strict=false", "calibration.patience_s=0")  # over any link
KING = ("system=king", "experiment.n=5", "repeat=2", "warmup=1", *AT_ONCE)
SHAMIR = ("system=shamir", "system.parties=7", "experiment.n=8", "warmup=1", *AT_ONCE)


@pytest.fixture(autouse=True)
def king(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The system, for this process and for parties."""
    install(tmp_path / "site", "king-system", {"king": "tests.king:King"})
    with importable(tmp_path / "site", (), monkeypatch):
        yield


@pytest.fixture
def session() -> Iterator[Session]:
    with Session() as session:
        yield session
    assert not psutil.Process().children(recursive=True)


def check_counts(record: Record) -> None:
    """As declared; the record names the ten."""
    assert record.status == "ok", record.error
    cost = declared(King, Argmax(5))
    for name, phase in record.phases.items():
        sent = {(a, b): s.payload_bytes for a, r in phase.roles.items() for b, s in r.sent.items()}
        assert tuple(phase.roles) == TEN
        assert (phase.hops, sent) == (cost[name].hops, cost[name].payload_bytes)  # type: ignore[index]


@pytest.mark.parametrize("parties", [3, 10, 16])
def test_what_it_sends_is_what_it_declares(parties: int) -> None:
    options = KingOptions(parties)
    played = play(King, Argmax(5), options)
    assert played.answers == [[King.plaintext(Argmax(5), 7, options)]] * len(played.answers)
    assert played.cost == declared(King, Argmax(5), options)
    assert tuple(King.needs(Argmax(5), options)) == ALL_ROLES[:parties]


def test_a_link_of_a_role_that_a_run_has_not_is_refused() -> None:
    link = ["network.links.P9_P0.delay_ms=1", "network.links.P9_P0.rate_mbit=null"]
    require(compose_run([*KING, *link]))
    with pytest.raises(ConfigError) as error:
        require(compose_run(["system=puma", *link]))
    rule = "network.links.P9>P0: there is no P9 in this run, which has P0, P1, P2"
    assert str(error.value) == rule
    require(compose_run(["system=puma", "network=ring"]))  # whose directions name sixteen


@pytest.mark.slow
def test_they_run_are_traced_and_share_a_session_with_three(
    session: Session, tmp_path: Path
) -> None:
    """Parties go on where a run has the same roles, and only there."""
    traced = [*KING, "shaper=none", "trace=true", f"results_dir={tmp_path}"]
    first = session.run(compose_run(traced), PlainProgress())
    ten = session.pids()
    links = ["network=ring", *(f"network.links.{pair}" for pair in ("P1_P0.delay_ms=20",
             "P1_P0.rate_mbit=null"))]  # fmt: skip
    shaped = session.run(compose_run([*KING, *links]), PlainProgress())
    assert session.pids() == ten
    three = session.run(compose_run(["experiment.n=5", *KING[2:], "shaper=none"]), PlainProgress())
    assert tuple(session.pids()) == ROLES
    assert not any(psutil.pid_exists(pid) for pid in ten.values() if pid)
    assert three.status == "ok"
    assert list(three.phases["online"].roles) == list(ROLES)
    for record in (first, shaped):
        check_counts(record)
    trace = trace_file.load(tmp_path, first.id)
    assert (trace.roles, trace.online_roles) == (TEN, TEN[:9])
    assert len(trace.delayed) == 5
    profile, measured = shaped.network.profile, shaped.network.measured
    assert len(profile) == 90
    assert len(measured) == 36  # P9 is not online
    assert (profile["P0>P2"]["delay_s"], profile["P1>P0"]["delay_s"]) == (0.06, 0.02)
    assert min(shaped.phases["online"].wall_ns) >= 120_000_000
    for pair, one in measured.items():
        a, b = pair.split("-")
        delay_s = profile[f"{a}>{b}"]["delay_s"] + profile[f"{b}>{a}"]["delay_s"]
        assert delay_s <= one["rtt_s"] < delay_s + 0.05, pair  # of another kind: 0.06 more
    full = [pair for pair, one in measured.items() if one["forward"]["ladder"]]
    # Within a region, to a neighbour, across; P0-P1 is like no other.
    assert len(full) == 3 * 3 + 1
    path = store.save(tmp_path, shaped)
    assert list(store.load(path).phases["online"].roles) == list(TEN)


@pytest.mark.slow
@pytest.mark.parametrize(("system", "role"), [(KING, "P9"), (SHAMIR, "P4")], ids=["king", "shamir"])
def test_one_that_is_killed_ends_the_run_and_all_others(
    system: tuple[str, ...], role: Role, session: Session
) -> None:
    """King's P9, for whom nobody waits online; one of seven kings that all wait for."""
    killed: list[float] = []

    class Killing(PlainProgress):
        def stage(self, name: str) -> None:
            if name.startswith("measuring 3/") and not killed:
                pid = session.pids()[role]
                assert pid is not None
                threading.Timer(0.01, os.kill, (pid, signal.SIGKILL)).start()
                killed.append(time.monotonic())

    words = [*system, "shaper=none", "repeat=100000"]
    record = session.run(compose_run(words), Killing())
    assert time.monotonic() - killed[0] < 8
    assert (record.status, record.error) == ("failed", f"{role} was killed by SIGKILL")
    assert not psutil.Process().children(recursive=True)


@pytest.mark.slow
def test_they_run_in_namespaces(session: Session) -> None:
    if why := namespaces_missing():
        pytest.skip(f"network namespaces: {why}")
    record = session.run(compose_run([*KING, "runner=netns", "shaper=none"]), PlainProgress())
    check_counts(record)
    names = [line for line in run(("ip", "netns", "list")).splitlines() if run_label() in line]
    assert len(names) == 11
    session.__exit__(None, None, None)
    assert run_label() not in run(("ip", "netns", "list")) + run(("ip", "link", "show"))


@pytest.mark.slow
def test_they_join_from_elsewhere(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eleven, so that P10 is among them: over TLS, each with a secret of its own."""
    roles, address = ALL_ROLES[:11], "127.0.0.1:7729"
    secrets = [os.urandom(32).hex() for _ in roles]
    joined = [
        subprocess.Popen(
            [sys.executable, "-m", "harness", "join", role, address, "--wait-s", "300"],
            env={**os.environ, "PERMBENCH_SECRET": secret},
            start_new_session=True,
        )
        for role, secret in zip(roles, secrets, strict=True)
    ]
    monkeypatch.setenv("PERMBENCH_SECRET", " ".join(secrets))
    remote = ["runner=remote", f"runner.listen={address}", "runner.wait_s=300", "shaper=none"]
    try:
        record = session.run(compose_run([*KING, "system.parties=11", *remote]), PlainProgress())
    finally:
        for party in joined:
            party.terminate()
        ends = [party.wait(20) for party in joined]
    assert record.status == "ok", record.error
    assert tuple(record.phases["online"].roles) == roles
    assert record.config["transport"]["tls"] is True
    assert ends == [130] * len(roles)
