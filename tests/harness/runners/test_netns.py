"""Real parties in network namespaces of their own."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from harness.config.compose import compose_run
from harness.measure.session import Session
from harness.progress import PlainProgress
from harness.records.record import Record
from netem import cleanup
from netem.command import run
from netem.process_labels import PREFIX, run_label
from netem.tc_probe import namespaces_missing, tc_missing

pytestmark = pytest.mark.slow

ARGMAX = ("experiment=argmax", "experiment.n=2000", "network=permllm-wan")
AT_ONCE = ("calibration.strict=false", "calibration.patience_s=0")  # over any link
QUICK = ("repeat=2", "warmup=1", *AT_ONCE)


@pytest.fixture(autouse=True, scope="module")
def usable() -> None:
    if why := namespaces_missing():
        pytest.skip(f"network namespaces: {why}")


def measure(session: Session, *overrides: str) -> Record:
    return session.run(compose_run([*ARGMAX, *QUICK, *overrides]), PlainProgress())


def counts(record: Record) -> dict[str, object]:
    return {
        name: (phase.hops, {role: r.sent for role, r in phase.roles.items()})
        for name, phase in record.phases.items()
    }


def namespaces_of(name: str) -> list[str]:
    return [line for line in run(("ip", "netns", "list")).splitlines() if name in line]


def test_the_same_answers_bytes_and_hops_as_on_loopback() -> None:
    with Session() as session:
        inside = measure(session, "runner=netns", "shaper=emulated")
        parties = [psutil.Process(pid) for pid in session.pids().values() if pid]
        networks = {os.stat(f"/proc/{p.pid}/ns/net").st_ino for p in parties}
        assert len(networks) == 3
        assert len(namespaces_of(run_label())) == 4
        outside = measure(session, "runner=local", "shaper=emulated")
        assert not any(party.is_running() for party in parties)
    assert (inside.status, outside.status) == ("ok", "ok"), inside.error
    assert inside.correctness == outside.correctness
    assert counts(inside) == counts(outside)
    assert min(inside.phases["online"].wall_ns) >= (inside.phases["online"].hops or 0) * 5_000_000
    assert namespaces_of(run_label()) == []
    assert run_label() not in run(("ip", "link", "show"))


def test_what_a_killed_harness_leaves_is_removed(tmp_path: object) -> None:
    arguments = [*ARGMAX, *QUICK, "runner=netns", "repeat=100000", f"results_dir={tmp_path}"]
    argv = [sys.executable, "-m", "harness", "run", *arguments]
    harness = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    assert harness.stderr is not None
    while "measuring" not in harness.stderr.readline():
        assert harness.poll() is None
    parties = psutil.Process(harness.pid).children(recursive=True)
    harness.send_signal(signal.SIGKILL)
    harness.wait(10)
    harness.stderr.close()
    mark = f"{PREFIX}{os.stat('/proc/self/ns/pid').st_ino}-{harness.pid}-"
    assert len(namespaces_of(mark)) == 4
    lines = cleanup.remove_stale()
    assert sum(mark in line and line.startswith("network namespace") for line in lines) == 4
    assert namespaces_of(mark) == []
    assert mark not in run(("ip", "link", "show"))
    psutil.wait_procs(parties, 5)
    assert not any(party.is_running() for party in parties)


def test_a_kernel_without_netem_is_refused_by_name() -> None:
    why = tc_missing()
    if why is None or "not found" in why:
        pytest.skip(why or "this kernel has netem: tests/vm runs shaper=tc")
    with Session() as session:
        record = measure(session, "runner=netns", "shaper=tc")
    assert record.status == "failed"
    assert record.error is not None
    assert record.error.startswith("runner=netns: this kernel lacks sch_prio, sch_netem or cls_u32")
    assert namespaces_of(run_label()) == []
