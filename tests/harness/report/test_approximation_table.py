"""Approximations side by side: each cell is its own record's, the factor that of friendly."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.config.prices import prices_of
from harness.records.record import Correctness, Record
from harness.report.approximation_table import SAVES, approximation_tables
from harness.report.headline_table import headline_tables
from harness.report.labels import labels
from harness.report.page.page_content import page_content
from harness.report.tables import print_tables, record_tables

MakeRecord = Callable[..., Record]
MS = 1_000_000


@pytest.fixture
def make(make_record: MakeRecord) -> MakeRecord:
    def made(system: str, approx: str, online_ms: int, kb: int, *more: str) -> Record:
        run = ["experiment=layer", f"system={system}", f"system.approx={approx}", *more]
        record = make_record(run, wall_ns=[online_ms * MS], payload=kb * 1000)
        exact = Correctness("relative rms", 0.0, 1.0, True, online_ms / 1000)
        return replace(record, correctness=exact)

    return made


def rows_of(table: object) -> dict[tuple[str, str], tuple[str, ...]]:
    return {row[:2]: row[2:] for row in table.rows}  # type: ignore[attr-defined]


def test_cells_and_what_friendly_saves(
    make: MakeRecord, make_record: MakeRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [
        make("mpcformer", "friendly", 20, 100),
        make("mpcformer", "quad+2quad", 30, 200),
        make("mpcformer", "exact", 100, 500),
        make("mpcformer", "exact", 90, 400, "system.reuse_weight_masks=true"),
        make("mpcformer", "friendly", 30, 80, "system.reuse_weight_masks=true"),
        make("puma", "puma", 60, 300),
        make("puma", "friendly", 40, 150),
        make("shaft", "fourier", 70, 300),  # alone: no matrix
        make_record(["experiment=layer", "system=permllm"]),  # has no approximations
    ]
    (table,) = approximation_tables(records)
    assert table.heads == ("system", "", "exact", "puma", "quad+2quad", "friendly", SAVES)
    rows = rows_of(table)
    assert {name for name, _ in rows} == {"MPCFormer", "MPCFormer, weights opened once", "Puma"}
    assert rows["MPCFormer", "online"] == ("100 ms", "–", "30.0 ms", "20.0 ms", "5.00")
    assert rows["MPCFormer", "bytes"] == ("500 kB", "–", "200 kB", "100 kB", "5.00")
    assert rows["MPCFormer, weights opened once", "online"][-1] == "3.00"
    assert rows["Puma", "bytes"] == ("–", "300 kB", "–", "150 kB", "2.00")
    assert rows["Puma", "exact error"] == ("–", "6.0e-02", "–", "4.0e-02", "–")
    assert rows["Puma", "sum"][-1] == "1.38"  # 12 ms offline in each
    assert table in list(record_tables(records))
    print_tables(records)
    assert table.title in capsys.readouterr().out
    page = page_content(records, [], [], [], [], [], [], prices_of([])[0], "x")
    assert table in page.first_tables


def test_unlike_runs_are_not_mixed_and_bad_links_are_marked(make: MakeRecord) -> None:
    wan = [make("puma", approx, 60, 300) for approx in ("puma", "friendly")]
    lan = [make("puma", approx, 6, 300, "network=puma") for approx in ("puma", "friendly")]
    off = replace(lan[0], network=replace(lan[0].network, within_tolerance=False))
    other = make("puma", "quad+2quad", 6, 300, "experiment.q_len=2")
    failed = replace(make("puma", "quad+2quad", 6, 300), status="incorrect")
    tables = list(approximation_tables([*wan, off, lan[1], other, failed]))
    assert [table.heads[2:] for table in tables] == [("puma", "friendly", SAVES)] * 2
    cells = {rows_of(table)["Puma", "online"] for table in tables}
    assert cells == {("60.0 ms", "60.0 ms", "1.00"), ("6.00 ms*", "6.00 ms", "1.00*")}
    assert rows_of(tables[0])["Puma", "bytes"] == ("300 kB", "300 kB", "1.00")


def test_names_tell_approximations_apart_where_a_system_has_several(
    make: MakeRecord, make_record: MakeRecord
) -> None:
    """And only there."""
    records = [
        make_record(["experiment=layer", "system=permllm"]),
        make("mpcformer", "exact", 100, 500),
        make("mpcformer", "quad+2quad", 30, 200),
        make("puma", "puma", 60, 300),
    ]
    (table,) = headline_tables(records)
    named = ("MPCFormer, as published, exact", "MPCFormer, as published, quad+2quad")
    assert sorted(row[0] for row in table.rows) == [*named, "PermLLM", "Puma"]
    assert labels(records)[0][0] == "PermLLM"
