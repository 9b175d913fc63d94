"""The baseline file: what people write in it stays, what is wrong in it is named."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.config.compose import compose_run
from harness.config.schema import RunConfig
from harness.errors import ConfigError, GateFailure
from harness.gate.baseline import (
    CHOICES,
    TIMED,
    Baseline,
    Counts,
    Row,
    counts_of,
    default_rows,
    load,
    parse,
)
from harness.gate.update import updated
from harness.progress import PlainProgress
from harness.records.record import Record, Sent
from harness.registry import system_class
from tests.harness.conftest import build_record

REFERENCE = Path(__file__).parents[3] / "results" / "reference"
SENT = {"messages": 1, "payload_bytes": 8, "wire_bytes": 62}
FILE: dict[str, Any] = {
    "schema": 2,
    "rows": [
        {"name": "one", "run": ["experiment.n=10"]},
        {
            "name": "two",
            "run": ["experiment=nonlinear", "experiment.shape=[4,8]"],
            "threshold": 1.2,
            "phases": {"online": {"hops": 2, "sent": {"P0>P1": SENT}}},
            "online_ns": [5, 6],
        },
    ],
}


class Bench:
    """Every run gives a record of its configuration."""

    def __init__(self, **changes: Any) -> None:
        self._changes = changes

        self.asked: list[int] = []

    def measure(self, config: RunConfig, alone: bool = False) -> list[Record]:
        self.asked.append(config.repeat)
        return [build_record([f"repeat={config.repeat}"], **self._changes)]

    def renew(self) -> None: ...


def test_a_file_says_what_was_saved(tmp_path: Path) -> None:
    record = build_record()
    row = Row("ä row", ("experiment.shape=[ 1, 2 ]",), 1.5, counts_of(record), (1, 2, 3), True)
    before = Baseline((row, Row("bare", ())), {"cores": 2}, {"date": "today"})
    before.save(tmp_path / "new" / "gate.json")
    assert load(tmp_path / "new" / "gate.json") == before


def test_a_row_needs_a_name_and_words_only() -> None:
    one, two = parse(FILE, "f").rows
    assert one == Row("one", ("experiment.n=10",), 1.05, {}, ())
    assert two.phases == {"online": Counts(2, {"P0>P1": Sent(1, 8, 62)})}


def _set(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def edit(data: Any) -> None:
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = to

    return edit


WRONG = [
    (_set("schema", to=1), "schema is 1, must be 2"),
    (_set("rows", to={}), "rows is {}, must be a list"),
    (_set("row", to=[]), "unknown key row; did you mean rows?"),
    (_set("rows", 0, to=[]), "rows[0] is [], must be a JSON object"),
    (_set("rows", 0, to={"name": "x"}), "rows[0].run is missing"),
    (_set("rows", 0, "name", to="two"), "distinct names"),
    (_set("rows", 1, "threshold", to=0.9), "rows[1] (two).threshold is 0.9, must be a number > 1"),
    (_set("rows", 1, "threshold", to="5%"), "rows[1] (two).threshold is 5%"),
    (_set("rows", 1, "treshold", to=1.1), "did you mean threshold?"),
    (_set("rows", 1, "counts_only", to=1), "rows[1] (two).counts_only is 1, must be true or false"),
    (_set("rows", 1, "run", to=["a", 1]), "rows[1] (two).run is"),
    (_set("rows", 1, "online_ns", to=[0]), "rows[1] (two).online_ns is [0]"),
    (
        _set("rows", 1, "phases", "online", "hops", to=-1),
        "rows[1] (two).phases.online.hops is -1, must be a whole number ≥ 0",
    ),
    (
        _set("rows", 1, "phases", "online", "sent", "P0>P1", to={"messages": 1}),
        "rows[1] (two).phases.online.sent.P0>P1.payload_bytes is missing",
    ),
]


@pytest.mark.parametrize(("edit", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_is_wrong_is_named(edit: Callable[[dict[str, Any]], None], message: str) -> None:
    data = copy.deepcopy(FILE)
    edit(data)
    with pytest.raises(ConfigError) as caught:
        parse(data, "gate.json")
    assert str(caught.value).startswith("gate.json: ")
    assert message in str(caught.value)


def test_update_keeps_what_people_wrote() -> None:
    rows = parse(FILE, "f").rows
    pairs = [(row, compose_run(row.run)) for row in rows]
    found = updated(pairs, Bench(wall_ns=(7, 8, 9)), PlainProgress())
    assert [(r.name, r.run, r.threshold) for r in found.rows] == [
        (r.name, r.run, r.threshold) for r in rows
    ]
    assert all(r.online_ns == (7, 8, 9) and "online" in r.phases for r in found.rows)


def test_update_takes_no_failed_run() -> None:
    pairs = [(Row("bad", ()), compose_run([]))]
    with pytest.raises(GateFailure, match="bad: failed: P1: killed"):
        updated(pairs, Bench(status="failed"), PlainProgress())


def test_words_replace_those_of_the_same_key() -> None:
    row = Row("r", ("system=puma", "experiment.n=10"))
    assert row.arguments(["experiment.n=20", "repeat=3"]) == (
        "system=puma",
        "experiment.n=20",
        "repeat=3",
    )


def test_the_default_rows_can_be_run() -> None:
    """Each under its own name, and none of what its system cannot compute."""
    rows = default_rows()
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        config = compose_run(row.run)
        system_class(config.system.name).check(config.workload(), config.system.options())
        assert row.counts_only == (
            config.system.name in ("shaft", "fss", "shamir", "he_linear", "ckks")
        )


def test_a_row_of_counts_alone_is_run_once_and_keeps_no_times() -> None:
    bench, config = Bench(), compose_run(["repeat=7"])
    rows = [(Row("timed", ()), config), (Row("counts", (), counts_only=True), config)]
    timed, counted = updated(rows, bench, PlainProgress()).rows
    assert bench.asked == [7, 1]
    assert timed.online_ns
    assert counted == Row("counts", (), phases=timed.phases, counts_only=True)


@pytest.mark.parametrize(
    ("content", "arguments", "said"),
    [
        (None, [], "no such file; permbench gate --update makes it"),
        ("{", [], "cannot be read as JSON"),
        (json.dumps(FILE), ["--rows", "three"], "no row is called three"),
        (json.dumps(FILE), ["--against", "/nowhere"], "/nowhere is no checkout of permbench"),
        (json.dumps(FILE), ["experiment.n=0"], "row one: experiment.n"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    content: str | None,
    arguments: list[str],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "gate.json"
    if content is not None:
        file.write_text(content)
    assert main(["gate", "--baseline", str(file), *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def test_the_projects_own_baseline_can_be_read() -> None:
    rows = load(REFERENCE / "gate.json").rows
    assert all(row.phases for row in rows)
    assert {row.name for row in default_rows()} == {row.name for row in rows}
    assert all(row.counts_only for row in rows if row.run[0].removeprefix("system=") not in TIMED)


def test_an_option_has_a_row_of_its_own_where_it_sends_something_else() -> None:
    rows = {row.name: row for row in load(REFERENCE / "gate.json").rows}
    for workload, system, option in CHOICES:
        chosen, default = rows[f"{workload} {system} {option}"], rows[f"{workload} {system}"]
        assert f"system.{option}" in chosen.run
        assert chosen.phases["online"].sent != default.phases["online"].sent
