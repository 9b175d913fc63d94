"""What `show` says of systems beside one another, and of runs that are not alike."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.records import store
from harness.records.record import Record
from harness.report.tables import comparison_tables
from harness.report.text_table import for_terminal

MakeRecord = Callable[..., Record]
Show = Callable[..., str]


def beside(lines: list[str]) -> list[list[str]]:
    """The cells of the comparison, from its title on."""
    start = next((i for i, line in enumerate(lines) if " relative to " in line), len(lines))
    rows_ = [line.split() for line in lines[start:]]
    return rows_[: rows_.index([])] if [] in rows_ else rows_


def test_systems_are_compared_where_nothing_else_differs(
    make_record: MakeRecord, show: Show, tmp_path: Path
) -> None:
    """PermLLM's default is the reference, whatever came first; other networks and bad runs stand apart."""
    ms = 1_000_000
    fast, slow = ["experiment.n=5"], ["experiment.n=5", "network=puma"]
    for made in (
        make_record([*fast, "system=mpcformer"], wall_ns=[90 * ms], payload=1_000_000, hops=6),
        make_record([*fast, "system=puma", "repeat=3"], wall_ns=[75 * ms], payload=0, hops=40),
        make_record([*fast, "system.domain=float32"], wall_ns=[15 * ms], payload=200_000),
        make_record(fast, wall_ns=[30 * ms]),
        make_record([*fast, "system=plaintext"], status="incorrect"),
        make_record([*slow, "system=plaintext"], wall_ns=[8 * ms], payload=0, hops=0),
        make_record([*slow, "system=puma"], wall_ns=[4 * ms], payload=100, hops=8),
        make_record(["experiment.n=6", "system=puma"]),
        make_record(["experiment.n=6", "system=puma", "threads=2"]),
    ):
        store.save(tmp_path, made)
    whole = beside(show().splitlines())
    assert " ".join(whole[0]) == "argmax relative to the first of each group, n 5, shaper emulated"
    table = beside(show("network=permllm-wan").splitlines())
    assert " ".join(table[0]) == (
        "argmax relative to permllm, n 5, permllm-wan (10 ms, 1 Gbit/s), shaper emulated"
    )
    assert table[1] == [
        *("system", "system.domain", "repeat"),
        *(
            "online",
            "offline",
            "sum",
            "×",
            "online",
            "×",
            "sum",
            "bytes",
            "×",
            "bytes",
            "hops",
            "×",
            "hops",
            "error",
        ),
        *("who", "learns", "what"),
    ]
    assert [" ".join(cells) for cells in table[2:]] == [
        "permllm ring64 10 30.0 ms 12.0 ms 42.0 ms 1.00 1.00 400 kB 1.00 4 1.00 2.0e-04 "
        "P1: values in random order",
        "mpcformer – 10 90.0 ms 12.0 ms 102 ms 3.00 2.43 1.00 MB 2.50 6 1.50 2.0e-04 "
        "P1: scores of all tokens",
        "permllm float32 10 15.0 ms 12.0 ms 27.0 ms 0.500 0.643 200 kB 0.500 4 1.00 2.0e-04 "
        "P1: values in random order",
        "puma – 3 75.0 ms 12.0 ms 87.0 ms 2.50 2.07 0 B 0 40 10.0 2.0e-04 nobody: nothing",
    ]
    table = beside(show("network=puma").splitlines())
    assert [cells[0] for cells in table[2:]] == ["plaintext", "puma"]
    assert table[3][-10:-2] == ["0.500", "0.800", "100", "B", "∞", "8", "∞", "2.0e-04"]
    assert beside(show("n=6").splitlines()) == []


def elsewhere(record: Record, **changes: Any) -> Record:
    """The same run on another machine, or by other code."""
    return replace(record, environment={**record.environment, **changes})


OTHER_MACHINE = {"cpu_model": "Xeon", "usable_cores": 64}
OTHER_CODE = {"sources": {"code": "f" * 16, "system": None}, "git": {"commit": "abcdef012"}}


@pytest.mark.parametrize(
    ("name", "change", "cells"),
    [
        ("machine", OTHER_MACHINE, ("unknown", "Xeon, 64 cores")),
        ("commit", OTHER_CODE, ("unknown", "abcdef0")),
    ],
)
def test_unlike_runs_are_marked_and_never_compared(
    name: str,
    change: dict[str, Any],
    cells: tuple[str, str],
    make_record: MakeRecord,
    show: Show,
    tmp_path: Path,
) -> None:
    store.save(tmp_path, make_record(["experiment.n=5"]))
    store.save(tmp_path, elsewhere(make_record(["experiment.n=5", "system=puma"]), **change))
    lines = show().splitlines()
    assert name in lines[1].split()
    assert [cell in line for cell, line in zip(cells, lines[2:4], strict=True)] == [True, True]
    assert beside(lines) == []
    told = f" not compared, since {name} differs: permllm ({cells[0]}), puma ({cells[1]})"
    assert told in lines
    titles = [line for line in show("--pivot", "n", "system").splitlines() if "online" in line]
    assert titles == [f"argmax, {name} {cell}: online" for cell in cells]


def test_of_two_versions_of_a_system_the_last_is_compared(
    make_record: MakeRecord, show: Show, tmp_path: Path
) -> None:
    """With systems of ours, which have none; the other is named."""
    ours = make_record(["experiment.n=5"])
    code = ours.environment["sources"]["code"]
    store.save(tmp_path, ours)
    for day, repeat, digest in ((1, 3, "aaaaaaaa"), (2, 4, "bbbbbbbb")):
        other = make_record(["experiment.n=5", "system=puma", f"repeat={repeat}"])
        change = {"date": f"2025-01-0{day}", "sources": {"code": code, "system": digest}}
        config = {**other.config, "system": {"name": "puma", "variant": digest}}
        store.save(tmp_path, replace(elsewhere(other, **change), config=config))
    lines = show().splitlines()
    assert [cells[0] for cells in beside(lines)[2:4]] == ["permllm", "puma"]
    assert " not compared, since version differs: puma (aaaaaa)" in lines


def test_one_run_of_two_machines_stands_twice_and_of_two_codes_once(
    make_record: MakeRecord, show: Show, tmp_path: Path
) -> None:
    """Two folders put together: one file of an id is the last, the other is kept beside it."""
    here = make_record(["experiment.n=5"], wall_ns=[20_000_000])
    there = make_record(["experiment.n=5"], wall_ns=[5_000_000])
    for record in (elsewhere(here, **OTHER_CODE), elsewhere(there, **OTHER_MACHINE), here):
        store.save(tmp_path, record)
    lines = show().splitlines()
    assert sorted("Xeon, 64 cores" in line for line in lines[2:4]) == [False, True]
    assert len([line for line in lines if "permllm-wan" in line]) == 2
    assert len([line for line in show("--all").splitlines() if "permllm-wan" in line]) == 3
    assert len(json.loads(show("--format", "json", "--all"))) == 3


def test_a_runner_that_varies_is_a_column(
    make_record: MakeRecord, show: Show, tmp_path: Path
) -> None:
    for runner in ("local", "netns"):
        store.save(tmp_path, make_record(["experiment.n=5", f"runner={runner}"]))
    assert "runner" in show().splitlines()[1].split()
    titles = [line for line in show("--pivot", "n", "system").splitlines() if "online" in line]
    assert sorted(titles) == ["argmax, runner local: online", "argmax, runner netns: online"]


def test_both_variants_of_a_rival_stand_in_a_comparison(
    make_record: MakeRecord, show: Show, tmp_path: Path
) -> None:
    layer = ["experiment=layer", "model=gpt2"]
    reused = [*layer, "system=mpcformer", "system.reuse_weight_masks=true"]
    for overrides in (layer, [*layer, "system=mpcformer"]):
        store.save(tmp_path, make_record(overrides))
    lines = show().splitlines()
    (told,) = [line for line in lines if line.startswith(" mpcformer, reuse_weight_masks: ")]
    assert told.endswith("Not measured here: system.reuse_weight_masks=true.")
    assert beside(lines)[1][1] == "system.reuse_weight_masks"
    store.save(tmp_path, make_record(reused))
    lines = show().splitlines()
    assert [cells[:2] for cells in beside(lines)[2:5]] == [
        ["permllm", "–"],
        ["mpcformer", "false"],
        ["mpcformer", "true"],
    ]
    assert "Not measured here" not in "".join(lines)


def test_exact_errors_and_what_is_stored_are_columns_where_known(
    make_record: MakeRecord, show: Show, tmp_path: Path
) -> None:
    known = make_record(["experiment=linear"])
    assert known.correctness is not None
    exact = replace(known.correctness, exact=0.25)
    stored = {"P0": 2_000, "P1": 8_000, "P2": 32}
    store.save(tmp_path, replace(known, correctness=exact, stored_bytes=stored))
    store.save(tmp_path, make_record(["experiment=linear", "system=puma"]))
    for line in show().splitlines():
        if " permllm " in f" {line} " and " ms " in line:
            assert "2.0e-04 0.250 2.00 kB / 8.00 kB / 32 B" in " ".join(line.split())
    assert "0.250" in show("--pivot", "n", "system", "--value", "exact_error")


def test_a_comparison_fits_a_terminal_of_100_columns(make_record: MakeRecord) -> None:
    """Who learns what in lines of its own, and every number whole."""
    layer = ["experiment=layer", "model=gpt2"]
    known = [
        make_record([*layer, f"system={name}"], wall_ns=[999_000_000])
        for name in ("permllm", "mpcformer", "puma", "shaft")
    ]
    (whole, narrow), _ = comparison_tables("layer", known)
    shown = ("online", "offline", "sum", "bytes", "hops", "error", "who learns what")
    assert set(shown) < set(whole.heads)
    assert narrow.heads[-7:] == shown
    console = Console(width=100, color_system=None)
    with console.capture() as capture:
        console.print(for_terminal(narrow))
    text = capture.get()
    lines = [line.rstrip() for line in text.splitlines()]
    first = next(place for place, line in enumerate(lines) if line.startswith(" permllm"))
    assert "…" not in text
    assert lines[first].endswith("  P1: values in")
    assert lines[first + 1].strip() == "random order"
