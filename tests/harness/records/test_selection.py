"""Which records stand: the newest of each run on each machine, with names for what differs."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from harness.records.record import Record
from harness.records.selection import (
    condition_texts,
    newest,
    of_last_versions,
    varying_conditions,
)

MakeRecord = Callable[..., Record]
HERE = {"cpu_model": "Xeon", "usable_cores": 2, "memory_bytes": 8}


def at(record: Record, day: int, **environment: Any) -> Record:
    date = {"date": f"2025-01-{day:02}T00:00:00+00:00"}
    return replace(record, environment={**record.environment, **HERE, **date, **environment})


@pytest.mark.parametrize(
    "overrides",
    [
        ["calibration.strict=false"],
        ["calibration.max_age_s=0"],
        ["timeout_s=7"],
        ["results_dir=elsewhere"],
        ["repeat=3"],
    ],
)
def test_keys_that_cannot_change_a_number(overrides: list[str], make_record: MakeRecord) -> None:
    old, new = at(make_record(["experiment.n=5"]), 1), at(make_record(["experiment.n=5"]), 2)
    other = at(make_record(["experiment.n=5", *overrides]), 3)
    assert newest([new, old]) == [new]
    assert newest([new, other, old]) == [other]


@pytest.mark.parametrize(
    "overrides",
    [["experiment.n=6"], ["warmup=0"], ["seed=2"], ["threads=2"], ["shaper=none", "trace=true"]],
)
def test_keys_that_can(overrides: list[str], make_record: MakeRecord) -> None:
    records = [at(make_record(["experiment.n=5"]), 1), at(make_record(overrides), 2)]
    assert newest(records) == records


def test_a_run_on_two_machines_is_two_and_by_two_codes_is_the_newer(
    make_record: MakeRecord,
) -> None:
    record = make_record()
    here, there = at(record, 2), at(record, 1, cpu_model="EPYC")
    before = at(record, 1, sources={"code": "aa", "system": None})
    assert newest([here, there, before]) == [here, there]


def test_versions_of_a_system_of_another_package_vary_and_systems_do_not(
    make_record: MakeRecord,
) -> None:
    """Ours has no version beside the code's; that is no difference from one that has."""
    ours = at(make_record(), 1)

    def of_version(day: int, digest: str) -> Record:
        config = {**ours.config, "system": {"name": "other"}}
        sources = {**ours.environment["sources"], "system": digest}
        return replace(at(ours, day, sources=sources), config=config)

    first, second = of_version(1, "aaaaaaaa"), of_version(2, "bbbbbbbb")
    assert varying_conditions([ours, first]) == []
    assert varying_conditions([ours, first, second]) == ["version"]
    names = condition_texts("version", [ours, first, second])
    assert [names(record) for record in (ours, first, second)] == ["–", "aaaaaa", "bbbbbb"]
    assert of_last_versions([second, ours, first]) == [second, ours]


def test_names_of_machines_and_commits_tell_them_apart(make_record: MakeRecord) -> None:
    record = make_record()
    commit = {"commit": "abcdef0123", "dirty": True}
    a = at(record, 1, sources={"code": "aaaaaaaa", "system": None}, git=commit)
    b = at(record, 1, sources={"code": "bbbbbbbb", "system": None}, git=commit)
    old = at(record, 1, sources=None, git={"commit": "0123456789", "dirty": False})
    more = at(record, 1, memory_bytes=16, sources={"code": "aaaaaaaa", "system": None})
    assert varying_conditions([a, a]) == []
    assert varying_conditions([a, b]) == ["commit"]
    commits = condition_texts("commit", [a, b, old])
    assert [commits(r) for r in (a, b, old)] == [
        "abcdef0+ (aaaaaa)",
        "abcdef0+ (bbbbbb)",
        "0123456",
    ]
    assert varying_conditions([a, more]) == ["machine"]
    machines = condition_texts("machine", [a, more])
    assert machines(more) == "Xeon, 2 cores, memory_bytes 16"
