"""Plausible records without running anything."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import pytest

from harness.config.compose import compose_run
from harness.config.config_hash import config_hash, resolved
from harness.machine import resource_check
from harness.records.code_digest import sources
from harness.records.record import (
    Correctness,
    NetworkRecord,
    PhaseRecord,
    Record,
    RolePhase,
    Sent,
    Status,
)
from tests.fake_session import FakeSession

MakeRecord = Callable[..., Record]


def build_record(
    overrides: Sequence[str] = (),
    *,
    status: Status = "ok",
    wall_ns: Sequence[int] = (30_000_000, 31_000_000, 35_000_000),
    payload: int = 400_000,
    hops: int = 4,
) -> Record:
    """The record that a run of `overrides` might leave; each of P0 and P1 sends half the payload."""
    config = compose_run(overrides)
    measured = status in ("ok", "incorrect")
    profile = {f"{a}>{b}": vars(p) for (a, b), p in config.network.profiles(("P0", "P1")).items()}
    return Record(
        id=config_hash(config),
        config=resolved(config),
        status=status,
        error=None if measured else "P1: killed by signal 9",
        network=NetworkRecord(config.network.name, profile, within_tolerance=True),
        phases=build_phases(list(wall_ns), payload, hops) if measured else {},
        steps=[],
        correctness=Correctness("relative rms", 2e-4, 2e-3, status == "ok") if measured else None,
        environment={
            "date": "2025-01-02T03:04:05+00:00",
            "git": {"commit": None, "dirty": None},
            "sources": sources(config.system.name),
        },
    )


def build_phases(wall_ns: list[int], payload: int, hops: int) -> dict[str, PhaseRecord]:
    """prepare, offline and online, with P0 and P1 talking to each other."""
    sent = Sent(messages=hops // 2, payload_bytes=payload // 2, wire_bytes=payload // 2 + 5000)
    roles = {
        role: RolePhase([n // 3 for n in wall_ns], 300_000_000, {peer: sent})
        for role, peer in (("P0", "P1"), ("P1", "P0"))
    }
    full_speed = PhaseRecord([12_000_000], [], 2, roles, computed_ns=45_000_000)
    online = PhaseRecord(wall_ns, [50_000_000], hops, roles)
    return {"prepare": full_speed, "offline": full_speed, "online": online}


@pytest.fixture
def make_record() -> MakeRecord:
    return build_record


@pytest.fixture
def session(
    make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> FakeSession:
    """What `permbench run` measures with; the working folder is an empty one."""
    fake = FakeSession(make_record)
    module = ModuleType("harness.measure.session")
    module.Session = lambda: fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "harness.measure.session", module)
    monkeypatch.setattr(resource_check, "available_bytes", lambda: 64_000_000_000)
    monkeypatch.chdir(tmp_path)
    return fake
