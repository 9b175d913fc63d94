"""What `show` prints and writes."""

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.cli.main import main
from harness.cli.verb_show import VALUES
from harness.records import export, stats, store
from harness.records import query as rows
from harness.records.record import OperatorRecord, Record
from harness.report import values

MakeRecord = Callable[..., Record]
Show = Callable[..., str]


def test_table(records: list[Record], show: Show) -> None:
    lines = show().splitlines()
    first = next(line for line in lines if "permllm-wan (10 ms" in line)
    assert " ".join(first.split()) == (
        "5 permllm permllm-wan (10 ms, 1 Gbit/s) emulated ok few, spread 21.0 ms [20.0–30.0] 4 400 kB "
        "12.0 ms (45.0 ms) 33.0 ms 12.0 ms (45.0 ms) 2.0e-04 2025-01-02 03:04"
    )
    assert [line for line in lines if line in ("argmax", "layer")] == ["argmax", "layer"]
    assert any("puma (1 ms, 5 Gbit/s)" in line and "2.50 MB" in line for line in lines)
    failed = [line for line in lines if "failed" in line]
    assert len(failed) == 2
    assert failed[1] == f" seed 2 failed: P1: killed by signal 9 (permbench show {records[4].id})"


def test_a_link_outside_tolerance_is_marked(
    records: list[Record], show: Show, tmp_path: Path
) -> None:
    network = replace(records[0].network, within_tolerance=False)
    store.save(tmp_path, replace(records[0], network=network))
    lines = show("experiment=argmax").splitlines()
    assert [line.split()[8] for line in lines if " 21.0 ms " in line] == ["ok*"]
    assert any("outside tolerance" in line and records[0].id in line for line in lines)


def test_a_variant_that_shows_a_role_more_is_marked(
    make_record: MakeRecord, show: Show, tmp_path: Path
) -> None:
    layer = ["experiment=layer", "model=gpt2", "system.variant=fused"]
    bounded = make_record([*layer, "system.refresh=bounded"])
    for record in (bounded, make_record(layer)):
        store.save(tmp_path, record)
    (mark,) = [line for line in show().splitlines() if "P1 can line up scores" in line]
    assert bounded.id in mark


def test_a_key_that_varies_beyond_the_names_gets_a_column(
    records: list[Record], show: Show
) -> None:
    layers = show("experiment=layer").splitlines()[1].split()
    assert "seed" in layers
    assert "model" in layers
    argmax = show("experiment=argmax").splitlines()[1].split()
    assert "seed" not in argmax
    assert rows.varying_keys(records[:3]) == ["network.rtt_ms"]
    assert rows.varying_keys(records[:2]) == []


@pytest.mark.parametrize(
    ("arguments", "indices"),
    [
        ([], [0, 1, 2, 3, 4]),
        (["experiment=argmax"], [0, 1, 2]),
        (["network=puma"], [1]),
        (["network=puma,permllm-wan", "n=5"], [0, 1, 2]),
        (["network.rtt_ms=10", "experiment.n=5.0"], [0]),
        (["status=ok,failed"], [0, 1, 2, 4]),
        (["seed=2"], [4]),
        (["system=puma"], []),
        (["kv_len=128"], [3, 4]),
        (["network.rate_mbit=null"], []),
    ],
)
def test_filters(
    arguments: list[str], indices: list[int], records: list[Record], show: Show
) -> None:
    shown = {record["id"] for record in json.loads(show("--format", "json", *arguments))}
    assert shown == {records[index].id for index in indices}


def test_json_is_whole_records(records: list[Record], show: Show) -> None:
    shown = [Record.from_dict(data) for data in json.loads(show("--format", "json"))]
    assert sorted(shown, key=lambda r: r.id) == sorted(records, key=lambda r: r.id)


def test_csv_is_flat(records: list[Record], show: Show) -> None:
    table = list(csv.DictReader(io.StringIO(show("--format", "csv", "network.rtt_ms=10"))))
    row = next(row for row in table if row["id"] == records[0].id)
    assert row["network.name"] == "permllm-wan"
    assert row["online.median_ns"] == "21000000"
    assert row["online.payload_bytes"] == "400000"
    assert (row["correctness.value"], row["error"]) == ("0.0002", "")


def test_nothing_to_show_says_how_to_make_it(show: Show) -> None:
    assert "make one with: permbench run" in show()
    assert json.loads(show("--format", "json")) == []


def test_one_record_whole(records: list[Record], show: Show, tmp_path: Path) -> None:
    """What a failed row tells to run: the error, each key, and what the parties said."""
    failed = replace(records[4], logs={"P1": ["Traceback", "  ValueError: no"], "P0": ["bye"]})
    store.save(tmp_path, failed)
    (command,) = re.findall(r"\(permbench show (\w+)\)", show("seed=2"))
    lines = show(command).splitlines()
    assert lines[0] == f"failed: layer {failed.id}"
    assert lines[1] == "  P1: killed by signal 9"
    assert (
        "  experiment=layer system=permllm model=gpt2 network=permllm-wan runner=local "
        in "\n".join(lines)
    )
    assert "  experiment.kv_len=128" in lines
    assert "  seed=2" in lines
    assert lines[lines.index("log of P1") + 1 :][:2] == ["  Traceback", "    ValueError: no"]
    whole = show(records[0].id[:8])
    assert "21.0 ms [20.0–30.0]" in whole
    assert json.loads(show(command, "--format", "json"))[0]["logs"] == failed.logs


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        ("system=permlm", "system: nothing is called permlm; did you mean permllm?"),
        ("network=permllm-wan,pumma", "did you mean puma?"),
        ("status=fialed", "did you mean failed?"),
        ("experiment=leyer", "did you mean layer?"),
        ("experimnt.n=4", "did you mean experiment.n?"),
        ("0123abcd", "0123abcd: no record in "),
        ("system=permllm,", "system: a list has no spaces"),
    ],
)
def test_a_misspelt_filter_gets_a_guess(
    argument: str,
    problem: str,
    records: list[Record],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["show", f"results_dir={tmp_path}", argument]) == 2
    error = capsys.readouterr().err
    assert problem in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("argument", ["netwrk=puma", "puma", "=3"])
def test_bad_filters(argument: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", f"results_dir={tmp_path}", argument]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_numbers() -> None:
    assert [stats.format_ns(n) for n in (0, 850, 12_345, 9_996e5, 1_234_567_890)] == [
        "0 ns", "850 ns", "12.3 µs", "1.00 s", "1.23 s",
    ]  # fmt: skip
    assert [stats.format_bytes(n) for n in (0, 999, 1000, 999_950, 2_500_000)] == [
        "0 B", "999 B", "1.00 kB", "1.00 MB", "2.50 MB",
    ]  # fmt: skip
    assert [stats.format_rate(r) for r in (None, 1e9, 305e6, 9.4e9)] == [
        "unlimited", "1 Gbit/s", "305 Mbit/s", "9.4 Gbit/s",
    ]  # fmt: skip
    assert stats.spread([4, 1, 2, 3]) == stats.Spread(2.5, 1, 4, 1.75, 3.25, 4)
    assert stats.spread([7]) == stats.Spread(7, 7, 7, 7, 7, 1)
    assert stats.spread([]) is None


def test_pivot(records: list[Record], show: Show) -> None:
    text = show("--pivot", "network.rtt_ms", "network", "experiment=argmax")
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines == [
        "argmax, n 5: online",
        "network.rtt_ms permllm-wan puma",
        "1 – 31.0 ms",
        "3 31.0 ms –",
        "10 21.0 ms –",
        "",
    ]
    lines = show("--pivot", "n", "network,network.rtt_ms", "--value", "bytes").splitlines()
    assert lines[1].split() == ["n", "permllm-wan", "3", "permllm-wan", "10", "puma", "1"]
    assert lines[2].split() == ["5", "400", "kB", "400", "kB", "2.50", "MB"]


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("hops", "12"),
        ("error", "2.0e-04"),
        ("offline", "12.0 ms"),
        ("sum", "43.0 ms"),
        ("steady_state", "31.0 ms"),
    ],
)
def test_pivots_of_other_values(value: str, cell: str, records: list[Record], show: Show) -> None:
    text = show("--pivot", "system", "network", "experiment=layer", "seed=1", "--value", value)
    assert " ".join(text.splitlines()[2].split()) == f"permllm {cell} (incorrect)"


def test_what_a_cell_would_mix_stands_in_tables_apart(records: list[Record], show: Show) -> None:
    text = show("--pivot", "model", "system")
    titles = [line for line in text.splitlines() if ": online" in line]
    assert titles == [
        "layer, q_len 1, kv_len 128, seed 1: online",
        "layer, q_len 1, kv_len 128, seed 2: online",
    ]
    assert [" ".join(line.split()) for line in text.splitlines() if "gpt2" in line] == [
        "gpt2 31.0 ms (incorrect)",
        "gpt2 failed",
    ]


def test_several_runs_in_a_cell_are_the_newest(
    records: list[Record], show: Show, tmp_path: Path, make_record: MakeRecord
) -> None:
    newer = make_record(["experiment.n=5", "repeat=3"], wall_ns=[9_000_000])
    newer = replace(newer, environment={"date": "2025-01-03T00:00:00+00:00"})
    store.save(tmp_path, newer)
    assert "9.00 ms" in show("--pivot", "system", "network", "network.rtt_ms=10")


def test_a_pivot_as_data(records: list[Record], show: Show) -> None:
    arguments = ["--pivot", "system", "network", "network.rtt_ms=10,1"]
    rows_ = list(
        csv.DictReader(io.StringIO(show(*arguments, "--format", "csv", "experiment=argmax")))
    )
    assert rows_ == [
        {
            "experiment": "argmax",
            "value": "online",
            "experiment.n": "5",
            "system.name": "permllm",
            "permllm-wan": "21000000",
            "puma": "31000000",
        }
    ]
    layers = json.loads(show(*arguments, "--format", "json", "experiment=layer"))
    assert [row["permllm-wan"] for row in layers] == [31_000_000, None]


@pytest.mark.parametrize("form", ["csv", "parquet", "json"])
def test_output_is_a_file(form: str, records: list[Record], show: Show, tmp_path: Path) -> None:
    path = tmp_path / f"out.{form}"
    assert show("--format", form, "--output", str(path)) == ""
    if form == "json":
        ids = {record["id"] for record in json.loads(path.read_text())}
    else:
        read = pd.read_csv(path) if form == "csv" else pd.read_parquet(path)
        table = read.set_index("id")
        ids = set(table.index)
        assert table["online.median_ns"][records[0].id] == 21_000_000
        assert table["experiment.n"].count() == 3
    assert ids == {record.id for record in records}
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == [path.name]


def test_a_column_of_several_types_can_be_written(tmp_path: Path) -> None:
    table: list[dict[str, Any]] = [
        {"a": 1, "b": [1, 2], "c": "x"},
        {"a": "1", "b": None},
        {"a": [2]},
    ]
    read = pd.read_parquet(io.BytesIO(export.encoded(table, "parquet")))
    assert list(read["a"]) == ["1", "1", "[2]"]
    assert list(read["b"][0]) == [1, 2]


def test_values_are_those_of_the_help() -> None:
    assert tuple(values.VALUES) == VALUES


@pytest.mark.parametrize(
    "arguments",
    [
        ["--pivot", "system", "status"],
        ["--pivot", "system", "netwrk"],
        ["--pivot", "system", "experiment.prompt_len"],
        ["--format", "parquet"],
        ["--output", "x.csv"],
        ["--format", "csv", "--output", "no/such/folder/x.csv"],
    ],
)
def test_bad_pivots_and_outputs(
    arguments: list[str], records: list[Record], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", f"results_dir={tmp_path}", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("form", ["markdown", "latex"])
def test_documents(form: str, make_record: MakeRecord, show: Show, tmp_path: Path) -> None:
    """A small set whole: its table, its comparison, its pivot."""
    made = [
        make_record(["experiment.n=5"], wall_ns=[30_000_000]),
        make_record(["experiment.n=5", "system=puma"], wall_ns=[75_000_000], hops=40),
    ]
    off = replace(made[1].network, within_tolerance=False)
    for record in (made[0], replace(made[1], network=off)):
        store.save(tmp_path, record)
    assert show("--format", form) == golden(f"tables.{form}").replace("ID", made[1].id)
    pivot = ("--pivot", "system", "network", "--format", form)
    assert show(*pivot) == golden(f"pivot.{form}")
    path = tmp_path / "out.txt"
    assert show(*pivot, "--output", str(path)) == ""
    assert path.read_text() == golden(f"pivot.{form}")
    assert show("--format", form, "n=6") == ""


def golden(name: str) -> str:
    return (Path(__file__).parent / "golden" / name).read_text(encoding="utf-8")


def test_a_traced_run_by_operator(
    records: list[Record], show: Show, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Shares are of each role's own time; records without a trace are left out."""
    assert show("--by", "operator").startswith(f"no record in {tmp_path} has operators; make one")
    operators = [
        OperatorRecord("P0", "layer/softmax", 1_000_000, 900_000, 2_000_000, 1, 4_000, 1),
        OperatorRecord("P0", "other", 1_000_000, 0, 0, 0, 0, 0),
        OperatorRecord("P1", "layer/softmax", 500_000, 400_000, 0, 1, 8_000, 1),
    ]
    store.save(tmp_path, replace(records[3], operators=operators))
    lines = [" ".join(line.split()) for line in show("--by", "operator").splitlines()]
    assert lines[0] == f"layer gpt2 permllm permllm-wan {records[3].id}, by operator"
    assert lines[2:5] == [
        "P0 layer/softmax 75.0 % 1.00 ms 900 µs 2.00 ms 1 4.00 kB 1",
        "P0 other 25.0 % 1.00 ms 0 ns 0 ns 0 0 B 0",
        "P1 layer/softmax 100.0 % 500 µs 400 µs 0 ns 1 8.00 kB 1",
    ]
    assert "share: of the role's compute and wait" in lines[-1]
    assert lines[2] in [" ".join(line.split()) for line in show(records[3].id).splitlines()]
    assert lines == [
        " ".join(line.split()) for line in show("--by", "operator", records[3].id[:6]).splitlines()
    ]
    found = json.loads(show("--by", "operator", "--format", "json"))
    assert found[0] == {"id": records[3].id, "experiment": "layer", "system": "permllm"} | asdict(
        operators[0]
    )
    assert show("--by", "operator", "--format", "markdown").count("| P0 |") == 2
    for other in (["--steps"], ["--pivot", "n", "system"]):
        assert main(["show", f"results_dir={tmp_path}", "--by", "operator", *other]) == 2
        assert capsys.readouterr().err == f"permbench: --by: not with {other[0]}\n"
