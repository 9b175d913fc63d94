"""`permbench replay`: its arguments, its tables and its figures."""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.contour import ContourSet

from harness.cli.main import main
from harness.records import store
from harness.records.record import Record
from harness.replay import trace_file as file
from harness.replay.grid_figure import grid_figure
from harness.replay.networks import grid
from harness.replay.predict import TracedRun, predict
from harness.replay.trace import Trace

MakeRecord = Callable[..., Record]


def test_named_networks(stored: list[Record], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", stored[0].id[:6], "network=puma,permllm-wan", "compute=wall"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "permllm argmax n=1000"
    # 1 MB at 5 Gbit/s and twice 0.5 ms; 1 MB at 1 Gbit/s and twice 5 ms; twice 0.1 ms of handling.
    cells = [" ".join(line.split()) for line in lines]
    assert cells[2] == "puma 1 ms 5 Gbit/s 92.8 ms 1.1 % 1.7 % 97.2 %"
    assert cells[3] == "permllm-wan 10 ms 1 Gbit/s 108 ms 9.2 % 7.4 % 83.4 %"
    assert main(["replay", f"results/runs/argmax/{stored[0].id}.json", "compute_scale=0"]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 14  # every preset


def test_the_fastest_of_several_and_where_they_cross(
    stored: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    """90.2 ms + rtt against 12 (0.9 ms + rtt), without bandwidth: equal at 7.2 ms."""
    arguments = ["replay", "rate_mbit=null", "compute=wall", "rtt_ms=0.5..100:log20"]
    assert main([*arguments, "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 40
    best = {float(r["rtt_ms"]): r["id"] for r in rows if r["fastest"] == "True"}
    few, many = (record.id for record in stored)
    assert {best[rtt] for rtt in best if rtt < 7.0} == {many}
    assert {best[rtt] for rtt in best if rtt > 7.4} == {few}
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert re.search(r"A and B take equal time at: unlimited, 7\.2\d ms\n", out)
    assert main(["replay", "network=puma,nexus", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["network"] for row in found] == ["puma", "nexus"] * 2
    for row in found:
        shares = row["latency_ns"] + row["bandwidth_ns"] + row["compute_ns"]
        assert shares == pytest.approx(row["online_ns"], abs=2)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["zzz"], "zzz: begins no id in results/runs; give"),
        (["nothing.json"], "nothing.json: .*No such file"),
        (["network=nope"], "network: no option nope"),
        (["network=puma,nexus", "rtt_ms=1,2"], "network: got puma,nexus, must be one network"),
        (["network.loss=0.1", "network.name=x"], "network.loss: .*must be 0"),
        (
            ["network=nexus", "network.jitter_ms=1"],
            "network.jitter_ms: a replay knows delay and rate only",
        ),
        (["rtt_ms=-1,2"], "rtt_ms: got -1,2, must be numbers ≥ 0"),
        (["rate_mbit=0,2"], "rate_mbit: got 0,2, must be numbers > 0"),
        (["compute=gpu"], "compute: got gpu, must be cpu or wall"),
        (["compute_scale=-1"], "compute_scale: got -1, must be"),
        (["compute=cpu", "compute=wall"], "compute: is given twice"),
        (["--figure", "x.png", "network=puma"], "--figure: draws a grid"),
        (["system=puma"], "replay: no record with system=puma in results/runs has a trace; make"),
        (["n=7", "zzz"], "n=7: chooses among all records"),
    ],
)
def test_bad_words(
    arguments: list[str], problem: str, stored: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", *arguments]) == 2
    output = capsys.readouterr()
    assert re.match(f"permbench: {problem}", output.err), output.err
    assert output.err.count("\n") == 1
    assert output.out == ""


def test_a_record_without_a_trace_says_how_to_get_one(
    stored: list[Record], make_record: MakeRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    untraced = make_record(["experiment.n=7"])
    failed = make_record(["experiment.n=8"], status="failed")
    for record in (untraced, failed):
        store.save(Path("results/runs"), record)
    assert main(["replay", untraced.id]) == 2
    assert "there is no trace; run it again with trace=true" in capsys.readouterr().err
    assert main(["replay", failed.id]) == 2
    assert "ended as failed: there is nothing to replay" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["rtt_ms=1..200:log5", "rate_mbit=10..10000:log5"],
        ["rtt_ms=1..200:log5", "rate_mbit=10..10000:log5", "system=permllm"],
        ["rtt_ms=0..200:5"],
        ["rate_mbit=10..10000:log5"],
    ],
)
def test_figures(
    arguments: list[str], stored: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", *arguments, "--figure", "figures/map.png"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "figures/map.png (and .svg, .pdf, .csv, .txt)"
    assert Path("figures/map.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in Path("figures/map.svg").read_text()
    assert Path("figures/map.pdf").read_bytes().startswith(b"%PDF")
    given = next(text for text in arguments if text.startswith("rtt_ms") or "rate" in text)
    assert given in Path("figures/map.txt").read_text()
    assert main(["replay", *arguments, "--format", "csv"]) == 0
    printed = pd.read_csv(io.StringIO(capsys.readouterr().out))
    beside = pd.read_csv("figures/map.csv")
    pd.testing.assert_frame_equal(beside, printed, check_dtype=False)


def test_a_ratio_has_contours_and_a_strong_line_where_it_is_one(stored: list[Record]) -> None:
    """90.2 ms + rtt against 12 (0.9 ms + rtt), without much bandwidth: equal at 7.2 ms."""
    networks = grid([], [], "1..100:log21", "1000000,2000000")
    runs = [TracedRun(record, trace_file(record), "") for record in stored]
    predictions = [predict(run, networks.configs, "wall", 1.0) for run in runs]
    figure, title = grid_figure(predictions, networks)
    assert title == "Ratio of predicted online times (strong line: equal). Argmax, n=1000."
    sets = [child for child in figure.axes[0].collections if isinstance(child, ContourSet)]
    strong = max(sets, key=lambda lines: float(np.max(lines.get_linewidth())))
    assert list(strong.levels) == [0.0]
    vertices = np.concatenate([path.vertices for path in strong.get_paths()])
    assert len(vertices) > 1
    assert vertices[:, 0] == pytest.approx(7.2, rel=0.02)
    others = next(lines for lines in sets if lines is not strong)
    texts = {text.get_text() for text in figure.axes[0].texts}
    assert len(list(others.levels)) >= 3
    assert texts == {"equal", *(f"{np.exp(abs(level)):.3g}×" for level in others.levels)}
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["PermLLM", "MPCFormer"]
    assert figure.axes[1].get_ylabel() == "← MPCFormer faster      PermLLM faster →"


def trace_file(record: Record) -> Trace:
    return file.load(Path("results/runs"), record.id)
