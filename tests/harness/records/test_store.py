"""A record survives the disk unchanged, or is not there at all."""

import errno
import fcntl
import json
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config.compose import compose_run
from harness.config.config_hash import resolved, restored
from harness.errors import ConfigError, RecordError
from harness.records import store
from harness.records.migrate import SCHEMA
from harness.records.record import (
    Correctness,
    NetworkRecord,
    OperatorRecord,
    PhaseRecord,
    Record,
    RolePhase,
    Sent,
    StepRecord,
)
from harness.records.reuse import why_again

OLD = Path(__file__).parent / "old"
MakeRecord = Callable[..., Record]
COUNT = st.integers(0, 2**63)
NAMES = st.sampled_from(["P0", "P1", "P2", "é"])
PLAIN = st.dictionaries(st.text(max_size=5), st.none() | st.booleans() | COUNT | st.text())
CONFIG = resolved(compose_run(["experiment.n=5"]))
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
    config=PLAIN.map(lambda more: {**more, **CONFIG}),
    status=st.sampled_from(["ok", "unsupported", "failed", "timeout", "incorrect"]),
    error=st.none() | st.text(),
    network=st.builds(NetworkRecord, st.text(), st.dictionaries(NAMES, PLAIN)),
    phases=st.dictionaries(st.sampled_from(["prepare", "offline", "online"]), PHASES, max_size=2),
    steps=st.lists(
        st.builds(StepRecord, COUNT, st.just("decode"), COUNT, COUNT, COUNT, COUNT, COUNT),
        max_size=2,
    ),
    correctness=st.none()
    | st.builds(
        Correctness,
        st.text(),
        st.floats(allow_nan=False),
        st.floats(0),
        st.booleans(),
        st.none() | st.floats(0),
    ),
    environment=PLAIN.map(lambda more: {f"x-{key}": value for key, value in more.items()}),
    logs=st.dictionaries(NAMES, st.lists(st.text(), max_size=2)),
    parameters=st.none() | st.text(),
    stored_bytes=st.none() | st.dictionaries(NAMES, COUNT),
    operators=st.none()
    | st.lists(st.builds(OperatorRecord, NAMES, st.text(), *[COUNT] * 6), max_size=2),
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
        ({"schema": 5}, "schema 5, this version reads schemas 1 to 4"),
        ({"operators": [{"role": "P0"}]}, "not a record"),
        ({"schema": None}, "schema None"),
        ({"status": "fine"}, "status: got fine, must be ok or unsupported or failed"),
        ({"phases": {"online": {"hops": 1}}}, "phases.online.wall_ns: is missing"),
        ({"surprise": 1}, "surprise: is no key of a record"),
        ({"network": None}, "network: got null, must be an object"),
        ({"stored_bytes": {"P0": "x"}}, "stored_bytes.P0: got x, must be a whole number"),
        (
            {"environment": {"git": {"dirty": 1}}},
            "environment.git.dirty: got 1, must be true or false",
        ),
        (
            {"correctness": {"metric": "", "value": 10**400, "ok": True}},
            "correctness.tolerance: is",
        ),
    ],
)
def test_other_schemas_are_refused(
    change: dict[str, object], problem: str, make_record: MakeRecord
) -> None:
    data = json.loads(make_record().to_json()) | change
    with pytest.raises(RecordError, match=problem):
        Record.from_dict(data)


def test_keys_are_in_one_order_whoever_spoke_first(make_record: MakeRecord) -> None:
    record = make_record()
    turned = {
        name: replace(phase, roles=dict(reversed(phase.roles.items())))
        for name, phase in reversed(record.phases.items())
    }
    assert replace(record, phases=turned).to_json() == record.to_json()
    assert list(json.loads(record.to_json())["phases"]) == ["prepare", "offline", "online"]


def test_a_record_with_a_prompt_is_for_its_owner_alone(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    tokens = [
        "experiment=generate",
        "model=tiny",
        "experiment.tokens=[3,1,4]",
        "experiment.new_tokens=2",
    ]
    first, second = (make_record(tokens, wall_ns=[n]) for n in (1, 2))
    paths = [store.save(tmp_path, record) for record in (make_record(), first, second)]
    kept = [path for path in paths[1].parent.iterdir() if path != paths[1]]
    assert len(kept) == 1
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (*paths[:2], *kept)]
    assert modes == [0o666 & ~umask(), 0o600, 0o600]


def umask() -> int:
    os.umask(found := os.umask(0))
    return found


def test_what_a_killed_run_left_is_removed_and_nothing_else(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    folder = store.save(tmp_path, make_record()).parent
    stale, fresh, written, foreign = (
        folder / name
        for name in (
            f".0123.json.{'a' * 32}.tmp",
            f".0123.json.{'b' * 32}.tmp",
            f".0123.json.{'c' * 32}.tmp",
            ".0123.json.tmp",
        )
    )
    for path in (stale, fresh, written, foreign):
        path.write_text("{")
    for path in (stale, written, foreign):
        os.utime(path, (0, 0))
    with written.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        store.load_all(tmp_path)
        assert {path.name for path in folder.glob(".*")} == {
            path.name for path in (fresh, written, foreign)
        }
    store.load_all(tmp_path)
    assert not written.exists()


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
        raise OSError(errno.EIO, "disk gone")

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
    assert store.finished(broken) is None


def test_only_results_are_finished(tmp_path: Path, make_record: MakeRecord) -> None:
    for status in ("ok", "unsupported", "incorrect", "failed", "timeout"):
        record = make_record(status=status)
        (tmp_path / status).mkdir()
        found = store.finished(store.save(tmp_path / status, record))
        assert found == (record if status in ("ok", "unsupported") else None)


def test_results_dir_must_be_a_folder(tmp_path: Path) -> None:
    store.check_writable(tmp_path / "new" / "deeper")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"results_dir: .*file is not a folder"):
        store.check_writable(tmp_path / "file" / "runs")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_result_that_is_replaced_is_kept_beside_it(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    first, second, third = (make_record(wall_ns=[n]) for n in (1, 2, 3))
    failed = make_record(status="failed")
    for record in (failed, first, first, second, failed, third):
        path = store.save(tmp_path, record)
    assert store.load_current(tmp_path) == [third]
    assert store.current_files(tmp_path, third.id[:4]) == [path]
    kept = [record for record in store.load_all(tmp_path) if record != third]
    assert sorted(r.phases["online"].wall_ns for r in kept) == [[1], [2]]


@pytest.mark.parametrize("file", sorted(OLD.glob("*.json")), ids=lambda path: path.stem)
def test_records_of_older_schemas_are_read(file: Path, tmp_path: Path) -> None:
    """With their own numbers, as made by other code, and ready to be measured again."""
    data, record = json.loads(file.read_text()), store.load(file)
    assert data["schema"] < record.schema == 4
    online = data["phases"]["online"]
    assert record.phases["online"].wall_ns == online["wall_ns"]
    sent = record.phases["online"].roles["P0"].sent["P1"].payload_bytes
    assert sent == online["roles"]["P0"]["sent"]["P1"]["payload_bytes"]
    assert record.correctness is not None
    assert record.correctness.value == data["correctness"]["value"]
    assert record.correctness.exact == data["correctness"].get("exact")
    assert record.config["trace"] is data["config"].get("trace", False)
    assert record.environment["sources"] == data["environment"].get("sources")
    assert record.operators is None
    assert Record.from_json(record.to_json()) == record
    config = restored(record.config)
    assert why_again(config, record) == f"stored, but made by other code ({made(record)})"


def made(record: Record) -> str:
    """Its commit and day."""
    environment = record.environment
    return f"commit {environment['git']['commit'][:7]}, {environment['date'][:10]}"


def test_there_is_a_file_of_every_older_schema() -> None:
    schemas = {json.loads(path.read_text())["schema"] for path in OLD.glob("*.json")}
    assert schemas == set(range(1, SCHEMA))
