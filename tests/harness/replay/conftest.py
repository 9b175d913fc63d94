"""Traced records without running anything."""

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.records import store
from harness.records.record import Record
from harness.replay import trace_file as file
from tests.traces import echo_trace

MakeRecord = Callable[..., Record]


@pytest.fixture
def stored(
    tmp_path: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> list[Record]:
    """Two traced records in results/runs: few rounds of much compute, many rounds of little."""
    monkeypatch.chdir(tmp_path)
    records = []
    for overrides, compute_us, rounds in (([], 90_000, 1), (["system=mpcformer"], 700, 12)):
        record = make_record([*overrides, "shaper=none", "trace=true"])
        store.save(Path("results/runs"), record)
        file.save(Path("results/runs"), echo_trace(record.id, compute_us, rounds))
        records.append(record)
    return records
