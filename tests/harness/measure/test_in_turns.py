"""Real parties of several systems that take turns."""

from collections.abc import Iterator

import psutil
import pytest

from harness.config.compose import compose_run
from harness.config.schema import RunConfig
from harness.machine import resource_check
from harness.measure.session import Session
from harness.parties.group import PartyGroup
from harness.progress import SilentProgress
from harness.records.record import Record
from protocols.permllm.bfv import MAX_IDS

pytestmark = pytest.mark.slow

AT_ONCE = ["calibration.strict=false", "calibration.patience_s=0"]  # over any link
ARGMAX = ["experiment.n=100", "shaper=none", "repeat=3", "warmup=1", *AT_ONCE]
SYSTEMS = ("permllm", "mpcformer", "puma")


@pytest.fixture
def session() -> Iterator[Session]:
    with Session() as session:
        yield session
    assert not psutil.Process().children(recursive=True)


def configs(*overrides: str) -> list[RunConfig]:
    return [compose_run([*ARGMAX, f"system={name}", *overrides]) for name in SYSTEMS]


def test_samples_alternate_and_counts_are_those_of_runs_alone(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The warm-up is turn 0, so that the first measured turn is backwards. Parties that are not needed
    live on while there is memory."""
    together = session.run_in_turns(configs(), SilentProgress())
    assert [record.status for record in together] == ["ok"] * 3
    assert [record.config["system"]["name"] for record in together] == list(SYSTEMS)
    order = [r.phases["online"].started_ns for r in together]
    assert order[2][0] < order[1][0] < order[0][0] < order[0][1] < order[1][1] < order[2][1]
    pids = session.pids()
    alone = session.run(configs()[0], SilentProgress())
    assert session.pids() == pids
    assert counts(alone) == counts(together[0])
    assert len(psutil.Process().children(recursive=True)) == 9
    monkeypatch.setattr(resource_check, "available_bytes", lambda: 0)
    assert session.run(configs()[1], SilentProgress()).status == "ok"
    assert session.pids() == pids
    assert len(psutil.Process().children(recursive=True)) == 3


def counts(record: Record) -> object:
    return {
        name: (phase.hops, {role: each.sent for role, each in phase.roles.items()})
        for name, phase in record.phases.items()
    }


def test_what_goes_wrong_with_one_is_its_own(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A party is killed on the way; a system cannot compute what is asked."""
    runs = configs()
    runs.append(compose_run([f"experiment.n={MAX_IDS + 1}", *ARGMAX[1:]]))
    go, calls = PartyGroup.go, list[PartyGroup]()

    def killing(group: PartyGroup, phase: str, step: int = 0) -> int:
        calls.append(group)
        if phase == "online" and group is calls[0]:
            psutil.Process(group.pids()["P1"]).kill()
        return go(group, phase, step)  # type: ignore[arg-type]

    monkeypatch.setattr(PartyGroup, "go", killing)
    records = session.run_in_turns(runs, SilentProgress())
    assert [record.status for record in records] == ["failed", "ok", "ok", "unsupported"]
    assert "P1" in (records[0].error or "")
    assert records[0].logs
    assert len(session.run_in_turns(runs[1:3], SilentProgress())) == 2
