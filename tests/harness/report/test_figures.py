"""The figures show the records' own numbers, each system always looks the same, and nothing is cut."""

import csv
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from harness.errors import ConfigError
from harness.records.record import Record, StepRecord
from harness.report.axes import log_ticks, place_axis
from harness.report.figure_files import SUFFIXES, chart_rows, save_chart
from harness.report.figures import OUTSIDE, draw
from harness.report.network_floor import floor_ns
from harness.report.series import Chart, charts_over, standard_charts

MakeRecord = Callable[..., Record]
MS = 1_000_000
WAN = "permllm-wan (10 ms, 1 Gbit/s)"


def standard(records: Sequence[Record], name: str, value: str = "online") -> Chart:
    (chart,) = (c for c in standard_charts(records, value) if c.experiment == name)
    return chart


def places(chart: Chart, panel: str = "") -> dict[str, list[tuple[float, float]]]:
    return {line.label: [(p.x, p.value) for p in line.points] for line in chart.panels[panel]}


def test_two_versions_of_a_system_are_two_lines(make_record: MakeRecord) -> None:
    """Of a system of another package, whose code is not counted with ours."""
    records = []
    for n, digest in ((10, "aaaaaaaa"), (20, "aaaaaaaa"), (30, "bbbbbbbb"), (40, "bbbbbbbb")):
        record = make_record([f"experiment.n={n}"])
        sources = {**record.environment["sources"], "system": digest}
        records.append(replace(record, environment={**record.environment, "sources": sources}))
    found = places(standard(records, "argmax"))
    assert sorted([x for x, _ in line] for line in found.values()) == [[10, 20], [30, 40]]
    assert all("aaaaaa" in label or "bbbbbb" in label for label in found)


def off(record: Record) -> Record:
    return replace(record, network=replace(record.network, within_tolerance=False))


def test_points_are_the_records_numbers(make_record: MakeRecord) -> None:
    records = [
        make_record([f"experiment.n={n}"], wall_ns=[n * 1000, n * 2000, n * 4000], payload=80_000)
        for n in (100_000, 1000)
    ]
    chart = standard(records, "argmax")
    (line,) = chart.series
    assert (line.label, chart.common) == ("PermLLM", WAN)
    assert [(p.x, p.value, p.low, p.high) for p in line.points] == [
        (1000, 2 * MS, 1 * MS, 4 * MS),
        (100_000, 200 * MS, 100 * MS, 400 * MS),
    ]
    # 4 hops of 5 ms; 45,000 wire bytes in each direction at 1 Gbit/s.
    assert line.points[0].floor == pytest.approx(20 * MS + 45_000 * 8)
    axes = draw(chart).axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    drawn = axes.lines[0].get_xydata()
    assert drawn.tolist() == [[1000, 2 * MS], [100_000, 200 * MS]]  # type: ignore[union-attr]
    assert "100 ms" in [axes.yaxis.get_major_formatter()(t, 0) for t in axes.get_yticks()]


def test_lines_are_runs_that_differ_in_x_alone(make_record: MakeRecord) -> None:
    layer = "experiment=layer"
    records = [make_record([layer, f"model={m}"]) for m in ("tiny", "gpt2", "chatglm-6b")]
    records += [
        make_record([layer, f"model={m}", "network=puma", "system=puma"], wall_ns=[7 * MS])
        for m in ("gpt2", "tiny")
    ]
    records += [
        make_record([layer, "model=gpt2", "shaper=none", "system=plaintext"]),
        make_record([layer, "model=gpt2", "network=puma"]),  # of another sweep
        make_record([layer, "model=bert-base"], status="incorrect"),
        make_record([layer, "model=llama-2-7b"], status="failed"),
        make_record(["experiment.n=5"]),
    ]
    chart = standard(records, "layer")
    assert places(chart) == {
        f"PermLLM, {WAN}": [(64, 31 * MS), (768, 31 * MS), (4096, 31 * MS)],
        "Puma, puma (1 ms, 5 Gbit/s)": [(64, 7 * MS), (768, 7 * MS)],
        "plaintext, no shaping": [(768, 31 * MS)],
    }
    assert (chart.common, chart.left_out) == ("q_len=1, kv_len=128", 1)


def test_machines_have_lines_of_their_own(make_record: MakeRecord) -> None:
    here = [make_record([f"experiment.n={n}"]) for n in (5, 50)]
    there = [replace(r, environment={**r.environment, "cpu_model": "Other"}) for r in here]
    chart = standard([*here, *there], "argmax")
    assert sorted(places(chart)) == ["Other", "unknown"]
    assert chart.common == f"PermLLM, {WAN}"


def test_functions_have_panels(make_record: MakeRecord) -> None:
    records = [
        make_record(
            ["experiment=nonlinear", f"experiment.op={op}", f"experiment.shape=[{rows},8]", system],
            wall_ns=[rows * MS],
        )
        for op in ("gelu", "softmax")
        for rows in (2, 40)
        for system in ("system=permllm", "system=puma")
    ]
    chart = standard(records, "nonlinear")
    assert list(chart.panels) == ["GeLU", "softmax"]
    for panel in chart.panels:
        assert places(chart, panel) == {
            name: [(16, 2 * MS), (320, 40 * MS)] for name in ("PermLLM", "Puma")
        }
    assert len(draw(chart).axes) == 2
    assert {line.label for line in chart.series if line.style.marker == "o"} == {"PermLLM"}


def test_tokens_stand_at_their_positions(make_record: MakeRecord) -> None:
    """Two evaluations of a prompt of 16 and three tokens; the first token is the prompt's."""
    steps = []
    for evaluation, (first, *walls) in enumerate(((90, 20, 30), (80, 24, 40))):
        steps.append(StepRecord(evaluation, "prefill", 16, first * MS, 5 * MS, 12, 1000))
        steps += [
            StepRecord(evaluation, "decode", 1, wall * MS, 5 * MS, 12, 1000) for wall in walls
        ]
    overrides = ["experiment=model", "model=gpt2", "experiment.prompt_len=16"]
    record = replace(make_record(overrides), steps=steps)
    (line,) = standard([record], "model").series
    assert [(p.x, p.value, p.low, p.high) for p in line.points] == [
        (17, 22 * MS, 20 * MS, 24 * MS),
        (18, 35 * MS, 30 * MS, 40 * MS),
    ]
    (line,) = standard([record], "model", "sum").series
    assert [p.value for p in line.points] == [27 * MS, 40 * MS]


def test_any_key_is_an_axis(make_record: MakeRecord) -> None:
    """A network's name is no key of its own there; runs that no network touched are left out."""
    records = [
        make_record([f"network.rtt_ms={rtt}", *more], payload=1000 * rtt)
        for rtt in (2, 9)
        for more in ([], ["network.rate_mbit=100"], ["shaper=none"])
    ]
    records.append(make_record(["network.rtt_ms=4", "network.name=mine"], payload=4000))
    records.append(make_record(["experiment=layer"]))
    (chart,) = charts_over(records, "network.rtt_ms", "bytes")
    assert places(chart) == {
        "1 Gbit/s": [(2, 2000), (4, 4000), (9, 9000)],
        "100 Mbit/s": [(2, 2000), (9, 9000)],
    }
    assert (chart.name, chart.common) == (
        "argmax-over-network.rtt_ms-bytes",
        "PermLLM, n=1000",
    )
    with pytest.raises(ConfigError, match="--x: no experiment has correct runs with two numbers"):
        charts_over(records, "threads")
    with pytest.raises(ConfigError, match="no experiment"):
        charts_over(records, "system")  # no numbers


def test_labels_tell_apart_all_that_differs(make_record: MakeRecord) -> None:
    reused = "system.reuse_weight_masks=true"
    variants: Sequence[Sequence[str]] = (
        ["system=mpcformer"],
        ["system=mpcformer", reused],
        [],
        ["seed=2"],
        ["seed=10"],
    )
    records = [
        make_record(["experiment=layer", f"model={model}", *overrides])
        for model in ("tiny", "gpt2")
        for overrides in variants
    ]
    assert [line.label for line in standard(records, "layer").series] == [
        *("PermLLM, seed=1", "PermLLM, seed=2", "PermLLM, seed=10"),
        *("MPCFormer, seed=1", "MPCFormer, weights opened once, seed=1"),
    ]


def test_a_link_outside_tolerance_is_hollow(make_record: MakeRecord) -> None:
    records = [make_record([f"experiment.n={n}"]) for n in (5, 50, 500)]
    chart = standard([records[0], off(records[1]), records[2]], "argmax")
    (line,) = chart.series
    assert [point.outside for point in line.points] == [False, True, False]
    figure = draw(chart)
    hollow = [a for a in figure.axes[0].lines if a.get_markerfacecolor() == "white"]
    assert [a.get_xdata().tolist() for a in hollow] == [[50]]  # type: ignore[union-attr]
    assert OUTSIDE in [text.get_text() for text in figure.legends[0].get_texts()]
    assert OUTSIDE not in [
        text.get_text() for text in draw(standard(records, "argmax")).legends[0].get_texts()
    ]


def test_no_label_is_cut(make_record: MakeRecord) -> None:
    """Many long names, and long ones alone."""
    names = [f"a-network-with-a-very-long-name-{i}" for i in range(7)]
    records = [
        make_record([f"experiment.n={n}", f"network.name={name}", f"system={system}"])
        for n in (5, 7)
        for name in names
        for system in ("permllm", "puma")
    ]
    for chosen in (records, records[:2], [make_record()]):
        figure = draw(standard(chosen, "argmax"))
        FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
        whole = figure.bbox
        texts = [*figure.legends[0].get_texts(), *figure.texts, *figure.axes[0].get_xticklabels()]
        for box in (text.get_window_extent() for text in texts if text.get_text()):
            assert whole.x0 <= box.x0 < box.x1 <= whole.x1
            assert whole.y0 <= box.y0 < box.y1 <= whole.y1


def test_ticks_do_not_overlap() -> None:
    assert log_ticks(1, 1000) == [1, 10, 100, 1000]
    assert log_ticks(20, 90) == [20, 30, 40, 50, 60, 80]
    axes = Figure(figsize=(7.2, 4)).add_subplot()
    tags: dict[float, list[str]] = {
        64: ["tiny"],
        768: ["gpt2", "bert-base"],
        800: ["own"],
        1024: ["bert-large"],
        4096: [],
    }
    place_axis(axes, tags, 6.2, linear=False)
    FigureCanvasAgg(axes.get_figure()).draw()  # type: ignore[arg-type, no-untyped-call]
    labels = axes.get_xticklabels()
    boxes = [box for label in labels for box in line_boxes(label)]
    assert len(boxes) == 10
    assert not [(a, b) for a, b in combinations(boxes, 2) if a.overlaps(b)]
    assert labels[0].get_text() == "64\ntiny"


def line_boxes(label: Text) -> Iterator[Bbox]:
    """Where each line of a text that is not blank stands."""
    whole, lines = label.get_window_extent(), label.get_text().split("\n")
    height = whole.height / len(lines)
    for number, line in enumerate(lines):
        if line:
            part = copy(label)
            part.set_text(line)
            width, top = part.get_window_extent().width, whole.y1 - number * height
            middle = (whole.x0 + whole.x1) / 2
            yield Bbox.from_extents(middle - width / 2, top - height + 1, middle + width / 2, top)


def test_floor_needs_a_shaper(make_record: MakeRecord) -> None:
    assert floor_ns(make_record(["shaper=none"])) == 0
    assert floor_ns(make_record(["network=loopback"])) == 0
    assert floor_ns(make_record(["network.jitter_ms=2"], payload=0)) < 4 * 5 * MS


def test_files(tmp_path: Path, make_record: MakeRecord) -> None:
    """The CSV holds the points, the caption says where they come from."""
    records = [make_record(["experiment.n=1000"]), off(make_record(["experiment.n=5"]))]
    chart = standard(records, "argmax")
    path = save_chart(chart, draw(chart), tmp_path / "figures", "permbench report 'a b'")
    assert path == tmp_path / "figures/argmax.png"
    assert sorted(p.suffix[1:] for p in path.parent.iterdir()) == sorted(SUFFIXES)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert "<svg" in path.with_suffix(".svg").read_text()
    assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    table = list(csv.DictReader(path.with_suffix(".csv").open()))
    (line,) = chart.series
    assert [
        (float(row["experiment.n"]), float(row["median_ns"]), row["outside_tolerance"], row["id"])
        for row in table
    ] == [(p.x, p.value, str(p.outside), p.record.id) for p in line.points]
    assert [row["median_ns"] for row in chart_rows(chart)] == [31 * MS, 31 * MS]
    caption = path.with_suffix(".txt").read_text()
    assert f"Argmax: online time. {WAN}. Median; bars" in caption
    for line_ in ("command: permbench report 'a b'", "commit: unknown", "samples: 3 a run; 2 runs"):
        assert line_ in caption.splitlines()
    svg = path.with_suffix(".svg").read_bytes()
    save_chart(chart, draw(chart), tmp_path / "figures", "")
    assert path.with_suffix(".svg").read_bytes() == svg  # nothing in it but the figure
