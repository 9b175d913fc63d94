"""A record survives the disk unchanged, or is not there at all."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ConfigError, RecordError
from harness.records import store
from harness.records.record import (
    Correctness,
    NetworkRecord,
    PhaseRecord,
    Record,
    RolePhase,
    Sent,
    StepRecord,
)

MakeRecord = Callable[..., Record]
COUNT = st.integers(0, 2**63)
NAMES = st.sampled_from(["P0", "P1", "P2", "é"])
PLAIN = st.dictionaries(st.text(max_size=5), st.none() | st.booleans() | COUNT | st.text())
SENT = st.builds(Sent, COUNT, COUNT, COUNT)
ROLES = st.builds(RolePhase, st.lists(COUNT), COUNT, st.dictionaries(NAMES, SENT))
PHASES = st.builds(
    PhaseRecord,
    st.lists(COUNT),
    st.lists(COUNT),
    COUNT,
    st.dictionaries(NAMES, ROLES),
    st.none() | COUNT,
)
RECORDS = st.builds(
    Record,
    id=st.text(),
    config=PLAIN,
    status=st.sampled_from(["ok", "unsupported", "failed", "timeout", "incorrect"]),
    error=st.none() | st.text(),
    network=st.builds(NetworkRecord, st.text(), st.dictionaries(NAMES, PLAIN), PLAIN),
    phases=st.dictionaries(st.sampled_from(["prepare", "offline", "online"]), PHASES, max_size=2),
    steps=st.lists(
        st.builds(StepRecord, st.just("decode"), COUNT, COUNT, COUNT, COUNT), max_size=2
    ),
    correctness=st.none()
    | st.builds(Correctness, st.text(), st.floats(allow_nan=False), st.floats(0), st.booleans()),
    environment=PLAIN,
    logs=st.dictionaries(NAMES, st.lists(st.text(), max_size=2)),
    schema=st.just(2),
)


@given(RECORDS)
def test_json_round_trip(record: Record) -> None:
    assert Record.from_json(record.to_json()) == record


def test_json_is_standard_even_where_numbers_are_not(make_record: MakeRecord) -> None:
    wrong = Correctness("relative rms", float("nan"), 2e-3, ok=False)
    text = replace(make_record(), correctness=wrong).to_json()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    again = Record.from_json(text).correctness
    assert again is not None
    assert again.value != again.value


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"schema": 1}, "schema 1, this version reads schema 2; measure again"),
        ({"status": "fine"}, "status 'fine'"),
        ({"phases": {"online": {"hops": 1}}}, "not a record"),
        ({"surprise": 1}, "surprise"),
        ({"network": None}, "not a record"),
    ],
)
def test_other_schemas_are_refused(
    change: dict[str, object], problem: str, make_record: MakeRecord
) -> None:
    data = json.loads(make_record().to_json()) | change
    with pytest.raises(RecordError, match=problem):
        Record.from_dict(data)


def test_save_and_load(tmp_path: Path, make_record: MakeRecord) -> None:
    records = [make_record(["experiment.n=5"]), make_record(["experiment=layer"])]
    paths = [store.save(tmp_path, record) for record in records]
    assert [path.parent.name for path in paths] == ["argmax", "layer"]
    assert store.load_all(tmp_path) == records
    assert store.load(paths[0]) == records[0]
    assert sorted(tmp_path.rglob("*")) == sorted([*paths, *{path.parent for path in paths}])


def test_a_crash_while_saving_leaves_what_was_there(
    tmp_path: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise OSError("disk gone")

    old = make_record(wall_ns=[1, 2])
    other = make_record(["experiment.n=5"])
    path = store.save(tmp_path, old)
    monkeypatch.setattr(os, "replace", crash)
    for record in (make_record(wall_ns=[3]), other):
        with pytest.raises(OSError, match="disk gone"):
            store.save(tmp_path, record)
    assert store.load(path) == old
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 7}', "\udcff"])
def test_a_broken_file_is_one_warning(
    text: str, tmp_path: Path, make_record: MakeRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    good = make_record()
    broken = store.save(tmp_path, good).with_name("0123.json")
    broken.write_bytes(text.encode(errors="surrogateescape"))
    assert store.load_all(tmp_path) == [good]
    warning = capsys.readouterr().err
    assert str(broken) in warning
    assert warning.count("\n") == 1
    assert store.finished(tmp_path, "argmax", "0123") is None


def test_only_results_are_finished(tmp_path: Path, make_record: MakeRecord) -> None:
    for status in ("ok", "unsupported", "incorrect", "failed", "timeout"):
        record = make_record(status=status)
        store.save(tmp_path, record)
        found = store.finished(tmp_path, "argmax", record.id)
        assert found == (record if status in ("ok", "unsupported") else None)


def test_results_dir_must_be_a_folder(tmp_path: Path) -> None:
    store.check_writable(tmp_path / "new" / "deeper")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"results_dir: .*file is not a folder"):
        store.check_writable(tmp_path / "file" / "runs")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
