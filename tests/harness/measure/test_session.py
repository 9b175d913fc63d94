"""Real party processes: what they compute, what they cost, and how they end when one is lost."""

import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from harness.config.compose import compose_run
from harness.config.schema import RunConfig
from harness.errors import PartyFailure, RunInterrupted
from harness.measure.session import Session
from harness.parties.group import PartyGroup
from harness.parties.job import Job
from harness.records import store
from harness.records.record import Record
from harness.runners.local import Local
from protocols.party import Role
from protocols.permllm.bfv import MAX_IDS
from protocols.permllm.system import PermLLM
from protocols.workload import Nonlinear

pytestmark = pytest.mark.slow

QUICK = ["repeat=2", "warmup=1", "calibration.strict=false", "calibration.patience_s=0"]
LAYER = ["experiment=layer", "model=gpt2", "experiment.q_len=1", "experiment.kv_len=16", *QUICK]


class Stages:
    """A progress display that calls back at the n-th stage of a name."""

    def __init__(
        self, name: str = "", nth: int = 1, then: Callable[[], None] = lambda: None
    ) -> None:
        self._name, self._left, self._then = name, nth, then

    def run(self, index: int, total: int, title: str) -> None: ...

    def stage(self, text: str) -> None:
        if self._name and text.startswith(self._name):
            self._left -= 1
            if self._left == 0:
                self._then()

    def say(self, text: str) -> None: ...

    def done(self, summary: str) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def session() -> Iterator[Session]:
    with Session() as session:
        yield session
    assert not psutil.Process().children(recursive=True)


def config(*overrides: str) -> RunConfig:
    return compose_run([*overrides])


def pid_of(session: Session, role: Role) -> int:
    pid = session.pids()[role]
    assert pid is not None
    return pid


def counts(record: Record) -> dict[str, object]:
    return {
        name: (phase.hops, {role: r.sent for role, r in phase.roles.items()})
        for name, phase in record.phases.items()
    }


def test_slowdown_has_the_time_of_pytorch(session: Session) -> None:
    """From the same run, and of no other experiment."""
    works = ["experiment=slowdown experiment.work=gelu experiment.d=64", "experiment.n=10"]
    clear, other = (
        session.run(config(*work.split(), "system=plaintext", "shaper=none", *QUICK), Stages())
        for work in works
    )
    assert (clear.status, other.status) == ("ok", "ok")
    assert len(clear.pytorch_ns or []) >= 5
    assert other.pytorch_ns is None


def test_one_seed_gives_one_answer_one_cost_and_one_set_of_processes(session: Session) -> None:
    """Also: the real transport costs what the closed form says, and the WAN's floor is paid."""
    layer = config(*LAYER, "network=permllm-wan", "key_seed=3")
    first = session.run(layer, Stages())
    pids = session.pids()
    argmax = session.run(config("experiment=argmax", "experiment.n=5000", *QUICK), Stages())
    again = session.run(layer, Stages())
    assert (first.status, argmax.status, again.status) == ("ok", "ok", "ok")
    assert session.pids() == pids
    assert counts(first) == counts(again)
    assert first.correctness == again.correctness
    declared = PermLLM.cost(layer.workload(), layer.system.options())
    for name, phase in first.phases.items():
        sent = {(a, b): s.payload_bytes for a, r in phase.roles.items() for b, s in r.sent.items()}
        assert (phase.hops, sent) == (declared[name].hops, declared[name].payload_bytes)  # type: ignore[index]
    assert statistics.median(first.phases["online"].wall_ns) >= 12 * 5e6
    assert first.network.measured["P0-P1"]["rtt_s"] >= 0.010


@pytest.mark.parametrize(
    ("role", "stage", "nth"),
    [
        ("P0", "prepare", 1),
        ("P2", "warm-up", 1),
        ("P1", "warm-up", 2),
        ("P0", "measuring", 3),
        ("P1", "measuring", 3),
        ("P2", "measuring", 3),
    ],
    ids=["P0-prepare", "P2-offline", "P1-input", "P0-online", "P1-online", "P2-online"],
)
def test_a_killed_party_ends_the_run(session: Session, role: Role, stage: str, nth: int) -> None:
    """Within 5 s, as a failed record that names the dead party and not those that missed it."""
    killed: list[float] = []

    def kill() -> None:
        time.sleep(0.01)  # into the phase that is about to start
        os.kill(pid_of(session, role), signal.SIGKILL)
        killed.append(time.monotonic())

    then = threading.Thread(target=kill)
    record = session.run(config(*LAYER), Stages(stage, nth, then.start))
    assert time.monotonic() - killed[0] < 5
    assert record.status == "failed"
    assert record.error == f"{role} was killed by SIGKILL"


def test_a_silent_party_is_a_timeout(session: Session) -> None:
    """A stopped process neither answers nor closes its sockets."""

    def stop() -> None:
        os.kill(pid_of(session, "P1"), signal.SIGSTOP)

    record = session.run(config(*LAYER, "timeout_s=3"), Stages("measuring", 3, stop))
    assert record.status == "timeout"
    assert "P1" in str(record.error) or "no party" in str(record.error)


def test_a_party_that_raises_is_named_with_its_error_and_log() -> None:
    """One that raises while the others only miss it; its traceback is in its log."""
    parties = PartyGroup(Local(), threads=1, timeout_s=20)
    try:
        parties.start()
        job = Job("permllm", {}, Nonlinear("gelu", (0,)), seed=1).to_json()
        parties.send_all("run", **(job | {"system": "no-such-system"}))
        with pytest.raises(PartyFailure, match=r"P\d: KeyError: 'no-such-system'"):
            parties.gather("result")
    finally:
        parties.close()
    assert any("Traceback" in line for log in parties.logs.values() for line in log)


def test_what_a_system_cannot_do_is_an_answer(session: Session) -> None:
    sampled = ["experiment=generate", "experiment.tokens=[1]", "experiment.temperature=1"]
    for arguments, reason in (
        (["experiment=argmax", f"experiment.n={MAX_IDS + 1}"], str(MAX_IDS)),
        (["system=puma", *sampled], "cannot sample"),
    ):
        record = session.run(config(*arguments), Stages())
        assert (record.status, record.phases) == ("unsupported", {})
        assert reason in str(record.error)


def test_ctrl_c_is_a_failed_record(session: Session) -> None:
    def interrupt() -> None:
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(RunInterrupted) as caught:
        session.run(config(*LAYER), Stages("measuring", 2, interrupt))
    assert (caught.value.record.status, caught.value.record.error) == ("failed", "interrupted")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_to_the_program_leaves_nothing_running(number: int, tmp_path: Path) -> None:
    """Ctrl-C and SIGTERM: exit 130, a failed record, no party. kill -9: at least no party."""
    arguments = [*LAYER, "shaper=none", "repeat=100000", f"results_dir={tmp_path}"]
    program = subprocess.Popen(
        [sys.executable, "-m", "harness", "run", *arguments], stderr=subprocess.PIPE, text=True
    )
    assert program.stderr is not None
    for line in program.stderr:
        if "measuring" in line:
            break
    parties = psutil.Process(program.pid).children(recursive=True)
    program.send_signal(number)
    program.communicate(timeout=10)
    gone, alive = psutil.wait_procs(parties, timeout=5)
    assert (len(gone), alive) == (3, [])
    records = store.load_all(tmp_path)
    if number == signal.SIGKILL:
        assert records == []
    else:
        assert program.returncode == 130
        assert [(r.status, r.error) for r in records] == [("failed", "interrupted")]
