"""What replay predicts for the points of a figure, to be drawn behind them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from harness.config.config_hash import restored
from harness.config.network import NetworkConfig
from harness.errors import ConfigError
from harness.records import query as rows
from harness.records import selection, store
from harness.records.record import Record
from harness.replay.networks import Networks, check_predictable
from harness.replay.predict import TracedRun, predict
from harness.replay.trace_file import path_of
from harness.replay.traced_runs import trace_of
from harness.report.columns import uses_model
from harness.report.series import TOKEN, Chart, Curve, Series, with_curves
from harness.report.values import VALUES

RTT, RATE = "network.rtt_ms", "network.rate_mbit"  # along these a curve is smooth
SMOOTH = 40  # places on it
LINK_KEYS = ("network.", "shaper.", "shape", "trace")  # in which a run and its trace may differ


def with_predictions(chart: Chart, folder: Path) -> Chart:
    """The chart with a curve for each line whose runs were traced on the same machine with the same
    code; online time over shaped links alone. A trace that cannot be read is as none."""
    if chart.value is not VALUES["online"] or chart.x == TOKEN:
        return chart
    traced = _traced(folder)
    curves = {
        (panel, line.label): curve
        for panel, lines in chart.panels.items()
        for line in lines
        if traced and (curve := _curve(chart.x, line, traced, folder)) is not None
    }
    return with_curves(chart, curves)


def _traced(folder: Path) -> dict[str, Record]:
    """The records that have a trace, by what they ran and where."""
    if not path_of(folder, "").parent.is_dir():
        return {}
    records = selection.newest(store.load_current(folder))
    return {
        _run_key(record): record
        for record in records
        if record.status == "ok" and path_of(folder, record.id).is_file()
    }


def _run_key(record: Record) -> str:
    """All that a point and its trace have in common."""
    left = LINK_KEYS if uses_model(rows.experiment(record)) else (*LINK_KEYS, "model.")
    flat = sorted(
        (key, repr(value))
        for key, value in rows.flatten(record.config).items()
        if value is not None and selection.matters(key) and not key.startswith(left)
    )
    return repr((flat, selection.machine_key(record), selection.code_key(record)))


def _curve(x: str, line: Series, traced: dict[str, Record], folder: Path) -> Curve | None:
    points = [
        (point.x, traced[key], restored(point.record.config).network)
        for point in line.points
        if point.record.config["shaper"]["name"] != "none"
        and (key := _run_key(point.record)) in traced
    ]
    if not points:
        return None
    try:
        if x in (RTT, RATE):
            places = _places([place for place, _, _ in points])
            networks = [_with(points[0][2], x, place) for place in places]
            times = _predicted(points[0][1], networks, folder)
        else:
            places = [place for place, _, _ in points]
            times = [_predicted(record, [network], folder)[0] for _, record, network in points]
    except ConfigError:  # loss or jitter, or a trace that is none
        return None
    return Curve(tuple(places), tuple(times))


def _with(network: NetworkConfig, x: str, place: float) -> NetworkConfig:
    return replace(network, rtt_ms=place) if x == RTT else replace(network, rate_mbit=place)


def _places(known: Sequence[float]) -> list[float]:
    """From the least to the most, even in the logarithm where that can be."""
    low, high = min(known), max(known)
    spaced: Callable[..., np.ndarray] = np.geomspace if low > 0 else np.linspace
    return [low] if math.isclose(low, high) else [float(x) for x in spaced(low, high, SMOOTH)]


def _predicted(record: Record, networks: Sequence[NetworkConfig], folder: Path) -> list[float]:
    """Online time in ns. Raises ConfigError."""
    check_predictable(Networks(tuple(networks)))
    traced_run = TracedRun(record, trace_of(folder, record), "")
    return [float(t) for t in predict(traced_run, networks, "wall", 1.0).online_ns]
