"""What replay predicts for the points of a figure, to be drawn behind them."""

import math
from collections.abc import Callable, Mapping, Sequence
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
from harness.report.series import TOKEN, Chart, Curve, Series, with_curves, x_of
from harness.report.values import VALUES

RTT, RATE = "network.rtt_ms", "network.rate_mbit"  # along these a curve is smooth
SMOOTH = 40  # places on it
LINK_KEYS = ("network.", "shaper.", "shape", "trace")  # in which a run and its trace may differ


class TracedFolder:
    """The traced records of a folder, and their traces, each of which is read once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runs: dict[str, TracedRun] = {}
        self.records: Mapping[str, Record] = _traced_records(folder)  # by `run_key`

    def run(self, record: Record) -> TracedRun:
        """One of `records` with its trace. Raises ConfigError."""
        if record.id not in self._runs:
            trace = trace_of(self._folder, record)
            self._runs[record.id] = TracedRun(record, trace, "")
        return self._runs[record.id]


def with_predictions(chart: Chart, traced: TracedFolder) -> Chart:
    """The chart with a curve for each line whose runs were traced on the same machine with the same
    code; online time over shaped links alone. A trace that cannot be read is as none. Along a key of the
    runs a curve goes on to what was only traced: what would take hours is not measured, but predicted."""
    if chart.value is not VALUES["online"] or chart.x == TOKEN:
        return chart
    curves = {
        (panel, line.label): curve
        for panel, lines in chart.panels.items()
        for line in lines
        if traced.records and (curve := _curve(chart.x, line, traced)) is not None
    }
    return with_curves(chart, curves)


def _traced_records(folder: Path) -> dict[str, Record]:
    ids = {path.stem for path in path_of(folder, "").parent.glob("*.npz")}
    files = [path for path in store.current_files(folder) if path.stem in ids]
    records = selection.newest([r for r in map(store.load_or_warn, files) if r is not None])
    return {run_key(record): record for record in records if record.status == "ok"}


def run_key(record: Record, x: str = "") -> str:
    """All that a point and its trace have in common; with `x` all that those of one line have."""
    model = x.startswith("model.") or not uses_model(rows.experiment(record))
    left = (*LINK_KEYS, "model.") if model else LINK_KEYS
    flat = sorted(
        (key, repr(value))
        for key, value in record.flat.items()
        if value is not None and selection.matters(key) and not key.startswith(left) and key != x
    )
    return repr((flat, [condition(record) for condition in selection.CONDITIONS.values()]))


def _curve(x: str, line: Series, traced: TracedFolder) -> Curve | None:
    shaped = [p.record for p in line.points if p.record.config["shaper"]["name"] != "none"]
    if not shaped:
        return None
    try:
        along = _along_network if x in (RTT, RATE) else _along_runs
        places = along(x, line, shaped, traced)
    except ConfigError:  # loss or jitter, or a trace that is none
        return None
    return Curve(tuple(places), tuple(places.values())) if places else None


def _along_network(
    x: str, line: Series, shaped: Sequence[Record], traced: TracedFolder
) -> dict[float, float]:
    """Times by place, of one trace on many networks."""
    keys = {point.x: run_key(point.record) for point in line.points if point.record in shaped}
    known = [place for place, key in keys.items() if key in traced.records]
    if not known:
        return {}
    network = restored(shaped[0].config).network
    places = _places(known)
    networks = [_with(network, x, place) for place in places]
    run = traced.run(traced.records[keys[known[0]]])
    return dict(zip(places, _predicted(run, networks), strict=True))


def _along_runs(
    x: str, line: Series, shaped: Sequence[Record], traced: TracedFolder
) -> dict[float, float]:
    """Times by place, of every trace that differs from the line's runs along x alone, on its network."""
    own, network = run_key(shaped[0], x), restored(shaped[0].config).network
    found = {
        place: record
        for record in traced.records.values()
        if run_key(record, x) == own and (place := x_of(record, x)) is not None
    }
    return {at: _predicted(traced.run(found[at]), [network])[0] for at in sorted(found)}


def _with(network: NetworkConfig, x: str, place: float) -> NetworkConfig:
    return replace(network, rtt_ms=place) if x == RTT else replace(network, rate_mbit=place)


def _places(known: Sequence[float]) -> list[float]:
    """From the least to the most, even in the logarithm where that can be."""
    low, high = min(known), max(known)
    spaced: Callable[..., np.ndarray] = np.geomspace if low > 0 else np.linspace
    return [low] if math.isclose(low, high) else [float(x) for x in spaced(low, high, SMOOTH)]


def _predicted(traced_run: TracedRun, networks: Sequence[NetworkConfig]) -> list[float]:
    """Online time in ns. Raises ConfigError."""
    check_predictable(Networks(tuple(networks)))
    return [float(t) for t in predict(traced_run, networks, "wall", 1.0).online_ns]
