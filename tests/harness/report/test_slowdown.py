"""Orders of magnitude: of a record, along a figure, and beyond what was measured."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from harness.cli.verb_show import VALUES as SHOWN
from harness.config.compose import compose_run
from harness.records.record import Record
from harness.report.columns import columns_of
from harness.report.extrapolation import online_ns, with_extrapolations
from harness.report.figure_files import chart_caption, chart_rows
from harness.report.figures import EXTRAPOLATED, draw
from harness.report.series import Chart, standard_charts
from harness.report.values import VALUES
from protocols.workload import Layer, Linear, Nonlinear

MakeRecord = Callable[..., Record]
WORKS = ("linear", "gelu", "softmax", "layer")


@pytest.fixture
def make(make_record: MakeRecord) -> MakeRecord:
    def made(work: str, d: int, system: str, online: int, clear: int) -> Record:
        overrides = [f"experiment.work={work}", f"experiment.d={d}", f"system={system}"]
        run = ["experiment=slowdown", "shaper=none", *overrides]
        record = make_record(run, wall_ns=[online // 10, online, online])
        return replace(record, pytorch_ns=[clear, clear, 9 * clear])

    return made


def test_the_work_is_that_of_other_experiments() -> None:
    def work(name: str, d: int) -> object:
        run = ["experiment=slowdown", f"experiment.work={name}", f"experiment.d={d}"]
        return compose_run(run).workload()

    assert work("linear", 96) == Linear(1, 96, 96)
    assert work("gelu", 96) == Nonlinear("gelu", (1, 96))
    layer, known = work("layer", 768), compose_run(["experiment=layer", "model=gpt2"]).workload()
    assert isinstance(layer, Layer)
    assert isinstance(known, Layer)
    sizes = ("family", "d_model", "d_ff", "n_heads", "d_kv")
    assert all(getattr(layer.spec, key) == getattr(known.spec, key) for key in sizes)
    assert (layer.q_len, layer.kv_len) == (known.q_len, known.kv_len)


def test_orders_are_logarithms_of_medians(make: MakeRecord, make_record: MakeRecord) -> None:
    record = make("linear", 64, "permllm", 5_000_000, 500)
    assert "slowdown" in SHOWN
    assert VALUES["slowdown"].number(record) == pytest.approx(4)
    assert list(VALUES["slowdown"].samples(record)) == pytest.approx([3, 4, 4])
    assert VALUES["slowdown"].number(make_record()) is None
    cells = {column.head: column.cell(record) for column in columns_of([record])}
    assert (cells["PyTorch"], cells["× PyTorch"]) == ("500 ns", "10^4.0")
    assert "PyTorch" not in [column.head for column in columns_of([make_record()])]


@pytest.mark.parametrize(
    ("widths", "times", "d", "expected"),
    [
        ([64, 128, 256], [9e9, 1e6 + 128**2, 1e6 + 256**2], 512, 1e6 + 512**2),  # a + b·d²
        ([64, 128], [10.0, 1000.0], 256, 4000.0),  # faster than d²: a would be negative
        ([64, 128], [7.0, 5.0], 256, 5.0),  # b would be negative
        ([64], [7.0], 128, 28.0),
    ],
)
def test_extrapolation(widths: list[float], times: list[float], d: int, expected: float) -> None:
    assert online_ns(widths, times, 2, d) == pytest.approx(expected)


def chart_of(records: list[Record]) -> Chart:
    (chart,) = standard_charts(records)
    return with_extrapolations(chart)


def test_a_line_goes_on_where_others_were_measured(make: MakeRecord) -> None:
    """By PyTorch's time there, and no further; measured and extrapolated points look different."""
    records = [make("linear", d, "permllm", 10**6, d) for d in (100, 1000, 10_000)]
    records += [make("linear", d, "ckks", 1000 * d**2, d) for d in (10, 100)]
    records += [make("gelu", d, "permllm", 10**6, 10) for d in (100, 1000)]
    chart = chart_of(records)
    assert (chart.name, list(chart.panels)) == ("slowdown", ["GeLU", "linear"])
    lines = {line.label: line for line in chart.panels["linear"]}
    curve = lines["CKKS"].extrapolated
    assert curve is not None
    assert curve.x == (1000, 10_000)
    assert curve.values == pytest.approx((6, 7))
    assert all(line.extrapolated is None for line in chart.series if line.label != "CKKS")
    assert [p.value for p in lines["CKKS"].points] == pytest.approx([4, 5])
    rows = [row for row in chart_rows(chart) if row["series"] == "CKKS"]
    assert [row["what"] for row in rows] == [*["measured"] * 2, *["extrapolated"] * 2]
    assert EXTRAPOLATED[1:] in chart_caption(chart, "x")
    axes = draw(chart).axes[1]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")
    (crosses,) = (line for line in axes.lines if line.get_marker() == "x")
    assert np.asarray(crosses.get_xdata()).tolist() == [1000, 10_000]
    assert "extrapolated" not in str(chart_rows(standard_bytes(records)))


def test_nothing_of_the_figure_runs_into_another(make: MakeRecord) -> None:
    """The name of the vertical axis stays beside it, and a point below 0 is drawn whole."""
    records = [make(work, d, "permllm", 500 * d, 60 * d) for work in WORKS for d in (64, 4096)]
    records += [make(work, d, "ckks", 10**9, 60 * d) for work in WORKS for d in (64, 4096)]
    figure = draw(chart_of(records))
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
    axes = figure.axes[0]
    name, panel = axes.yaxis.label.get_window_extent(), axes.get_window_extent()
    assert panel.y0 <= name.y0 < name.y1 <= panel.y1
    lowest = min(point.low for point in chart_of(records).points)
    assert lowest < 0
    room = axes.transData.transform((64, lowest))[1] - panel.y0
    assert room > 4 / 72 * figure.dpi  # 4 points, more than half a marker


def standard_bytes(records: list[Record]) -> Chart:
    (chart,) = standard_charts(records, "bytes")
    assert chart.name == "slowdown-bytes"
    return with_extrapolations(chart)
