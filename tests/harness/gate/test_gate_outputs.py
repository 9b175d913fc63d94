"""What the gate writes can be read by what is to read it."""

import json
from xml.etree import ElementTree

import pytest

from harness.gate.baseline import Row, counts_of
from harness.gate.check import Check, Result
from harness.gate.outputs import benchmark, exit_code, headline, junit, markdown, print_results
from harness.records.ratio import Interval
from tests.harness.conftest import build_record

RECORD = build_record()
ROW = Row("argmax <a> & b", (), 1.05, counts_of(RECORD))
FINE = Result(
    ROW,
    (Check("run", "fine"), Check("counts", "fine"), Check("time", "fine")),
    RECORD,
    True,
    Interval(1.01, 0.99, 1.03, 40),
)
WORSE = Result(
    Row("worse", ()),
    (
        Check("run", "fine"),
        Check("counts", "regression", ("online P0>P1: messages 3, expected 2 (+1)", "a | b")),
        Check("time", None, ("--counters-only",)),
    ),
    RECORD,
)
LOST = Result(Row("lost", ()), (Check("run", "cannot tell", ("P1: \x1b[31mgone\x00",)),))
ALL = [FINE, WORSE, LOST]


@pytest.mark.parametrize(
    ("results", "code"), [([FINE], 0), ([FINE, LOST], 2), ([LOST, WORSE], 1), ([], 0)]
)
def test_exit_codes(results: list[Result], code: int) -> None:
    """A regression is known whatever else is not."""
    assert exit_code(results) == code


def test_junit_has_a_case_for_each_check() -> None:
    root = ElementTree.fromstring(junit(ALL).encode())
    (suite,) = root
    cases = {(case.get("classname"), case.get("name")): [*case] for case in suite}
    assert len(cases) == len(suite) == 7
    assert {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "7",
        "failures": "1",
        "errors": "1",
        "skipped": "1",
    }
    assert cases["argmax <a> & b", "counts"] == []
    (failure,) = cases["worse", "counts"]
    assert (failure.tag, failure.text) == (
        "failure",
        "online P0>P1: messages 3, expected 2 (+1)\na | b",
    )
    assert [case[0].tag for key, case in cases.items() if case] == ["failure", "skipped", "error"]


def test_markdown_is_one_table_and_a_list() -> None:
    title, _, *lines = markdown(ALL).splitlines()
    assert title == f"### permbench gate: {headline(ALL)}"
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + len(ALL)
    assert {line.replace("\\|", "").count("|") for line in table} == {table[0].count("|")}
    assert "- worse: counts: a \\| b" in lines
    assert "- times not compared: --counters-only" in lines


def test_benchmark_entries_have_what_the_action_reads() -> None:
    entries = json.loads(benchmark(ALL))
    assert all(entry.keys() == {"name", "unit", "value", "range"} for entry in entries)
    found = {entry["name"]: (entry["value"], entry["unit"]) for entry in entries}
    assert found["argmax <a> & b: online time"] == (31.0, "ms")
    assert found["worse: online payload"] == (400_000, "bytes")
    assert "worse: online time" not in found  # it was run for its counts only
    assert not any(name.startswith("lost") for name in found)


def test_the_terminal_names_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    print_results(ALL)
    out = capsys.readouterr().out
    assert "worse: counts: online P0>P1: messages 3, expected 2 (+1)" in out
    assert out.rstrip().endswith("gate: regression (1 fine, 1 regression, 1 cannot tell)")
