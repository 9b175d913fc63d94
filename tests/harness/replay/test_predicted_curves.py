"""Replay's prediction behind the points of a figure: for runs that were traced, and no others."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cli.verb_report import report
from harness.records import store
from harness.records.record import Record
from harness.replay import trace_file
from harness.replay.predicted_curves import SMOOTH, TracedFolder, with_predictions
from harness.report.series import Chart, charts_over, standard_charts
from tests.traces import MS, echo_trace

MakeRecord = Callable[..., Record]
RTTS = (4, 40, 400)


@pytest.fixture
def points(tmp_path: Path, make_record: MakeRecord) -> list[Record]:
    """Three networks, of which PermLLM's run was traced."""
    records = [
        make_record([f"network.rtt_ms={rtt}", f"system={system}"])
        for system in ("permllm", "puma")
        for rtt in RTTS
    ]
    traced = make_record(["shaper=none", "trace=true", "network.rtt_ms=1"])
    for record in (*records, traced):
        store.save(tmp_path, record)
    trace_file.save(tmp_path, echo_trace(traced.id))
    return records


def curves(chart: Chart, folder: Path) -> dict[str, list[tuple[float, float]] | None]:
    return {
        line.label: list(zip(line.predicted.x, line.predicted.values, strict=True))
        if line.predicted
        else None
        for line in with_predictions(chart, TracedFolder(folder)).series
    }


def test_a_curve_along_the_network(points: list[Record], tmp_path: Path) -> None:
    """1 MB at 1 Gbit/s and 8 bytes, 925 µs of compute and twice 0.1 ms of handling: 9.125 ms, and the
    round trip."""
    (chart,) = charts_over(points, "network.rtt_ms")
    found = curves(chart, tmp_path)
    assert found["Puma"] is None
    assert found["PermLLM"] is not None
    assert len(found["PermLLM"]) == SMOOTH
    for rtt, ns in found["PermLLM"]:
        assert ns == pytest.approx((rtt + 8.925) * MS, abs=0.3 * MS)
    assert [found["PermLLM"][i][0] for i in (0, -1)] == pytest.approx([4, 400])


def test_a_place_for_each_traced_point(
    points: list[Record], tmp_path: Path, make_record: MakeRecord
) -> None:
    """Along another key every point needs a trace of its own."""
    more = make_record(["experiment.n=5", "network.rtt_ms=4"])
    (chart,) = standard_charts([points[0], more])
    found = curves(chart, tmp_path)["PermLLM"]
    assert found is not None
    assert [x for x, _ in found] == [1000]


@pytest.mark.parametrize(
    "change",
    [{"cpu_model": "Other"}, {"sources": {"code": "f" * 16, "system": None}}],
    ids=["another machine", "another code"],
)
def test_unlike_runs_have_none(
    change: dict[str, object], points: list[Record], tmp_path: Path
) -> None:
    other = [replace(r, environment={**r.environment, **change}) for r in points]
    (chart,) = charts_over(other, "network.rtt_ms")
    assert set(curves(chart, tmp_path).values()) == {None}


def test_only_online_time_is_predicted(points: list[Record], tmp_path: Path) -> None:
    (chart,) = charts_over(points, "network.rtt_ms", "sum")
    assert set(curves(chart, tmp_path).values()) == {None}


def test_report_draws_it(points: list[Record], tmp_path: Path) -> None:
    line, _ = report(tmp_path, ["system=permllm"], "network.rtt_ms")
    assert line == (
        f"{tmp_path}/figures/argmax-over-network.rtt_ms.png (and .svg, .pdf, .csv, .txt)"
    )
    figure = tmp_path / "figures/argmax-over-network.rtt_ms.txt"
    caption = figure.read_text()
    assert "Thin line: predicted by replay." in caption
    command = f"permbench report --x network.rtt_ms results_dir={tmp_path} system=permllm"
    assert f"command: {command}" in caption.splitlines()
    rows = figure.with_suffix(".csv").read_text().splitlines()
    assert [sum(f",{what}," in row for row in rows) for what in ("measured", "predicted")] == [
        len(RTTS),
        SMOOTH,
    ]


def test_a_line_goes_on_to_what_was_only_traced(
    points: list[Record], tmp_path: Path, make_record: MakeRecord
) -> None:
    """n = 1000 is measured and traced, n = 9000 traced alone; of another seed, it is another line's."""
    for n, *more in ((9000,), (5000, "seed=2")):
        traced = make_record([f"experiment.n={n}", "shaper=none", "trace=true", *more])
        store.save(tmp_path, traced)
        trace_file.save(tmp_path, echo_trace(traced.id))
    (chart,) = standard_charts([points[0]])
    found = curves(chart, tmp_path)["PermLLM"]
    assert found is not None
    assert [x for x, _ in found] == [1000, 9000]
    assert found[0][1] == found[1][1] == pytest.approx((4 + 8.925) * MS, abs=0.3 * MS)
