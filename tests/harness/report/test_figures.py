"""The figures show the records' own numbers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.axes import Axes

from harness.records.record import Record
from harness.report.figures import OUTSIDE, argmax_figure, layer_figure, save_figures
from harness.report.series import floor_s, series_of

MakeRecord = Callable[..., Record]


def test_points_are_the_records_numbers(make_record: MakeRecord) -> None:
    records = [
        make_record([f"experiment.n={n}"], wall_ns=[n * 1000, n * 2000, n * 4000], payload=80_000)
        for n in (100_000, 1000)
    ]
    (line,) = series_of(records, "argmax")
    assert line.label == "permllm, permllm-wan (10 ms, 1 Gbit/s)"
    assert [(p.x, p.median_s, p.low_s, p.high_s) for p in line.points] == [
        (1000, 0.002, 0.001, 0.004),
        (100_000, 0.2, 0.1, 0.4),
    ]
    # 4 hops of 5 ms; 45,000 wire bytes in each direction at 1 Gbit/s.
    assert line.points[0].floor_s == pytest.approx(0.020 + 45_000 * 8 / 1e9)
    figure = argmax_figure(records)
    assert figure is not None
    axes: Axes = figure.axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    drawn = axes.lines[0].get_xydata()
    assert drawn.tolist() == [[1000, 0.002], [100_000, 0.2]]  # type: ignore[union-attr]


def test_lines_are_runs_that_differ_in_x_alone(make_record: MakeRecord) -> None:
    models = ("tiny", "gpt2", "chatglm-6b")
    records = [make_record(["experiment=layer", f"model={model}"], hops=12) for model in models]
    records += [
        make_record(["experiment=layer", "model=gpt2", "repeat=20"], hops=12, wall_ns=[7] * 20),
        make_record(["experiment=layer", "model=gpt2", "experiment.kv_len=64"]),
        make_record(["experiment=layer", "model=gpt2", "network=puma"]),
        make_record(["experiment=layer", "model=gpt2", "shaper=none"]),
        make_record(["experiment=layer", "model=bert-base"], status="incorrect"),
        make_record(["experiment=layer", "model=llama-2-7b"], status="failed"),
        make_record(["experiment.n=5"]),
    ]
    lines = {line.label: [point.x for point in line.points] for line in series_of(records, "layer")}
    wan = "permllm, permllm-wan (10 ms, 1 Gbit/s)"
    assert lines == {
        f"{wan}, kv_len=128": [64, 768, 4096],
        f"{wan}, kv_len=64": [768],
        "permllm, puma (1 ms, 5 Gbit/s)": [768],
        "permllm, no shaping": [768],
    }
    off = replace(records[0], network=replace(records[0].network, within_tolerance=False))
    (line,) = series_of([off, records[1]], "layer")
    assert [point.outside for point in line.points] == [True, False]
    gpt2 = series_of(records, "layer")[1].points[1]
    assert gpt2.median_s == 7e-9  # of two equal runs, the newer
    there = replace(records[1], environment={**records[1].environment, "cpu_model": "Xeon"})
    labels = [line.label for line in series_of([records[0], there], "layer")]
    assert labels == [f"{wan}, machine=Xeon", f"{wan}, machine=unknown"]


def test_a_point_over_a_link_outside_tolerance_is_hollow(make_record: MakeRecord) -> None:
    records = [make_record([f"experiment.n={n}"]) for n in (1000, 2000)]
    off = replace(records[1], network=replace(records[1].network, within_tolerance=False))
    figure = argmax_figure([records[0], off])
    assert figure is not None
    hollow = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "white"]
    assert [line.get_xdata().tolist() for line in hollow] == [[2000]]  # type: ignore[union-attr]
    assert OUTSIDE in [text.get_text() for text in figure.legends[0].get_texts()]


def test_floor_needs_a_shaper(make_record: MakeRecord) -> None:
    assert floor_s(make_record(["shaper=none"])) == 0
    assert floor_s(make_record(["network=loopback"])) == 0
    assert floor_s(make_record(["network.jitter_ms=2"], payload=0)) < 4 * 0.005


def test_files(tmp_path: Path, make_record: MakeRecord) -> None:
    records = [
        make_record(["experiment.n=1000", "network=loopback"]),
        make_record(["experiment.n=1000"]),
        make_record(["experiment=layer"], status="failed"),
    ]
    paths = save_figures(records, tmp_path / "figures")
    assert [path.name for path in paths] == ["argmax.png", "argmax.svg"]
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    assert "<svg" in paths[1].read_text()
    assert layer_figure(records) is None
    assert save_figures([], tmp_path / "none") == []
    assert not (tmp_path / "none").exists()
