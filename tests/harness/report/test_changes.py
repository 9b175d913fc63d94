"""Two sets of records: which runs are the same, what is compared of them, and in which order."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.cli.verb_compare import TIMES
from harness.records import store
from harness.records.paired_records import match
from harness.records.record import Record
from harness.report import changes
from harness.report.values import VALUES

MakeRecord = Callable[..., Record]
Compare = Callable[..., tuple[int, str]]
MS = 1_000_000
OLD, NEW = {"commit": "aaaa111122", "dirty": False}, {"commit": "bbbb333344", "dirty": True}


def spread(median_ms: float, n: int = 12) -> list[int]:
    """Samples within 2 % of a median."""
    return [round(median_ms * MS * (0.98 + 0.04 * i / (n - 1))) for i in range(n)]


def made(record: Record, **environment: Any) -> Record:
    return replace(record, environment={**record.environment, **environment})


@pytest.fixture
def compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Compare:
    def run(*arguments: str) -> tuple[int, str]:
        code = main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), *arguments])
        return code, capsys.readouterr().out

    return run


def save(folder: Path, *records: Record) -> None:
    for record in records:
        store.save(folder, record)


def sizes(found: Sequence[changes.Change]) -> list[int]:
    return [change.pair.after.config["experiment"]["n"] for change in found]


def argmax(make_record: MakeRecord, n: int, median_ms: float, **given: Any) -> Record:
    return make_record([f"experiment.n={n}"], wall_ns=spread(median_ms), **given)


def test_the_most_changed_run_comes_first_and_each_says_what_it_is(
    make_record: MakeRecord,
) -> None:
    before = [argmax(make_record, n, 30) for n in (1, 2, 3, 4, 5)]
    after = [
        argmax(make_record, 1, 30.1),
        argmax(make_record, 2, 33),
        argmax(make_record, 3, 15),
        make_record(["experiment.n=4"], wall_ns=[90 * MS] * 3),
        argmax(make_record, 5, 30, status="incorrect"),
    ]
    found = changes.changes(match(before, after).pairs)
    assert sizes(found) == [5, 3, 2, 4, 1]
    assert [change.said for change in found] == [
        *("not told apart", "faster", "slower", "too few samples", "not told apart")
    ]
    ratio = found[1].interval
    assert ratio is not None
    assert ratio.low < ratio.ratio == 0.5 < ratio.high < 0.53


def test_runs_are_the_same_whatever_was_not_a_key_when_one_was_made(
    make_record: MakeRecord,
) -> None:
    new = argmax(make_record, 5, 30)
    config = {key: value for key, value in new.config.items() if key not in ("trace", "transport")}
    system = {key: value for key, value in new.config["system"].items() if key != "offline_batch"}
    old = replace(new, config={**config, "system": system, "repeat": 3, "results_dir": "old"})
    other = argmax(make_record, 6, 30)
    matched = match([old, other], [new, make_record(["experiment=layer"])])
    assert [(pair.before, pair.after) for pair in matched.pairs] == [(old, new)]
    assert matched.only_before == [other]
    assert [record.config["experiment"]["name"] for record in matched.only_after] == ["layer"]


def test_of_other_machines_only_counts_are_compared_and_the_machines_are_named(
    make_record: MakeRecord, compare: Compare, tmp_path: Path
) -> None:
    here = made(argmax(make_record, 5, 30), cpu_model="Xeon", usable_cores=2)
    there = made(argmax(make_record, 5, 90, payload=800_000), cpu_model="EPYC", usable_cores=8)
    save(tmp_path / "a", here)
    save(tmp_path / "b", there)
    code, text = compare()
    assert code == 0
    assert "machines differ: A on Xeon, 2 cores, B on EPYC, 8 cores" in text
    (row,) = [line for line in text.splitlines() if "other machine" in line]
    assert " ".join(row.split()).endswith("– other machine 400 kB → 800 kB 4 4")
    save(tmp_path / "b", made(argmax(make_record, 5, 60), cpu_model="Xeon", usable_cores=2))
    assert "slower" in compare()[1]  # on the machine that has both


def test_commits_are_sides_too(make_record: MakeRecord, tmp_path: Path) -> None:
    old = made(argmax(make_record, 5, 30), git=OLD, sources={"code": "c0ffee", "system": None})
    new = made(argmax(make_record, 5, 45), git=NEW, sources={"code": "decade", "system": None})
    save(tmp_path, old, new)
    where = f"results_dir={tmp_path}"
    for sides in (("aaaa11", "bbbb33+"), ("c0ffee", "decade")):
        assert main(["compare", *sides, where, "--threshold", "1.6"]) == 0
        assert main(["compare", *sides, where, "--threshold", "1.3"]) == 1


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"median_ms": 31}, 0),
        ({"median_ms": 36}, 1),
        ({"median_ms": 20, "payload": 400_002}, 1),
        ({"median_ms": 20, "payload": 300_000}, 0),
        ({"median_ms": 30, "status": "incorrect"}, 1),
    ],
)
def test_a_threshold_decides_the_exit_code(
    change: dict[str, Any], code: int, make_record: MakeRecord, compare: Compare, tmp_path: Path
) -> None:
    save(tmp_path / "a", argmax(make_record, 5, 30))
    save(tmp_path / "b", argmax(make_record, 5, **change))
    assert compare()[0] == 0
    assert compare("--threshold", "1.1")[0] == code


def test_one_form_for_each_reader(
    make_record: MakeRecord, compare: Compare, tmp_path: Path
) -> None:
    save(tmp_path / "a", argmax(make_record, 5, 30), argmax(make_record, 6, 30))
    save(tmp_path / "b", argmax(make_record, 5, 60), argmax(make_record, 7, 30))
    text = compare()[1]
    assert [line for line in text.splitlines() if "only in" in line] == [
        f"argmax, only in {side}, n {n}, permllm, permllm-wan (10 ms, 1 Gbit/s), shaper emulated"
        for side, n in (("A", 6), ("B", 7))
    ]
    assert "| 60.0 ms | 2.000 \\[" in compare("--format", "markdown")[1]
    assert r"60.0 ms & 2.000 {[}" in compare("--format", "latex")[1]
    data = json.loads(compare("--format", "json")[1])
    (row,) = data["changes"]
    assert (row["change"], row["ratio"], row["counts"]["hops"]) == ("slower", 2.0, [4, 4])
    assert row["interval"][0] < 2 < row["interval"][1]
    assert [[run["experiment"]["n"] for run in data[key]] for key in ("only_a", "only_b")] == [
        [6],
        [7],
    ]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["nowhere", "a"], "nowhere: is no folder, no file, and no commit with records in"),
        (["a", "a", "--threshold", "0.5"], "must be a number ≥ 1"),
        (["a", "a", "--output", "x"], "--output: needs --format"),
        (["a", "a", "sytem=puma"], "did you mean system?"),
        (["a", "empty"], "empty: has no record"),
        (["a", "b"], "no run is in both a and b"),
    ],
)
def test_bad_sides_are_one_line(
    arguments: list[str],
    problem: str,
    make_record: MakeRecord,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save(tmp_path / "a", argmax(make_record, 5, 30))
    save(tmp_path / "b", argmax(make_record, 6, 30))
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *arguments]) == 2
    error = capsys.readouterr().err
    assert problem in error
    assert error.count("\n") == 1


def test_values_are_those_of_the_help() -> None:
    assert tuple(changes.TIMES) == TIMES
    assert set(TIMES) <= set(VALUES)
