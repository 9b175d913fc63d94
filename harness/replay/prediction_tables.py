"""Predictions as tables for people, and as rows for programs."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from string import ascii_uppercase
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.records.selection import differences
from harness.records.stats import digits, format_ns, format_rate
from harness.replay.networks import Networks
from harness.replay.predict import Prediction, crossings, fastest

NOTE = (
    "predicted online time: median over the traced evaluations. Shares are of the critical path: "
    "latency (delay), bandwidth (serialization, waiting for a link), compute (the parties' own work)."
)
GRID_NOTE = "l, b, c: most of the critical path is latency, bandwidth, compute."


def tables(predictions: Sequence[Prediction], networks: Networks) -> Iterator[RenderableType]:
    """One table for each prediction; where there are several, then one that compares them."""
    for prediction in predictions:
        if networks.is_grid:
            yield _titled(prediction.traced_run.label, _grid(_time_cells(prediction), networks))
        else:
            yield _titled(prediction.traced_run.label, _list(prediction, networks))
    if len(predictions) > 1:
        names = [f"{_letter(i)}: {p.traced_run.label}" for i, p in enumerate(predictions)]
        compare = _grid(_winner_cells(predictions), networks) if networks.is_grid else None
        title = f"fastest, and how many times faster than the next — {', '.join(names)}"
        title += _mark(*predictions)
        yield _titled(title, compare or _compared(predictions, networks))


def crossing_lines(predictions: Sequence[Prediction], networks: Networks) -> Iterator[str]:
    """Where each two predictions take equal time on a grid, in words."""
    if not networks.is_grid:
        return
    for a, b in combinations(range(len(predictions)), 2):
        first, second = predictions[a].online_ns, predictions[b].online_ns
        found = list(_equal_times(first, second, networks))
        pair = f"{_letter(a)} and {_letter(b)}"
        mark = _mark(predictions[a], predictions[b])
        if found:
            yield f"{pair} take equal time at: {'; '.join(found)}{mark}"
            continue
        faster, slower = (a, b) if first.sum() < second.sum() else (b, a)
        yield f"{pair} cross nowhere here: {_letter(faster)} is faster than {_letter(slower)}{mark}"


def _mark(*predictions: Prediction) -> str:
    """In what the traces of `predictions` differ besides what they ran: their compute times are then
    no fair comparison."""
    why = differences(prediction.traced_run.record for prediction in predictions)
    return f" * ({why})" if why else ""


def _equal_times(first: Any, second: Any, networks: Networks) -> Iterator[str]:
    rtts, rates = networks.rtts_ms, networks.rates_mbit
    a, b = (times.reshape(len(rates), len(rtts)) for times in (first, second))
    if len(rtts) > 1:
        for row, rate in enumerate(rates):
            for rtt in crossings(rtts, a[row], b[row]):
                yield f"{_rate(rate)}, {digits(rtt)} ms"
    elif len(rates) > 1:
        known = [rate for rate in rates if rate is not None]
        for rate in crossings(known, a[:, 0], b[:, 0]):
            yield f"{_rate(rate)}, {rtts[0]:g} ms"


def note(networks: Networks) -> Text:
    """What the numbers mean."""
    return Text(f"{NOTE} {GRID_NOTE}" if networks.is_grid else NOTE, "dim")


def as_rows(predictions: Sequence[Prediction], networks: Networks) -> list[dict[str, Any]]:
    """A flat row for each prediction and network; times in ns."""
    best = fastest(predictions)
    return [
        {
            "id": prediction.traced_run.record.id,
            "run": prediction.traced_run.label,
            "network": config.name,
            "rtt_ms": config.rtt_ms,
            "rate_mbit": config.rate_mbit,
            "online_ns": round(prediction.online_ns[i]),
            "min_ns": round(prediction.low_ns[i]),
            "max_ns": round(prediction.high_ns[i]),
            "latency_ns": round(prediction.latency_ns[i]),
            "bandwidth_ns": round(prediction.bandwidth_ns[i]),
            "compute_ns": round(prediction.compute_ns[i]),
            "fastest": bool(best[i] == place),
        }
        for place, prediction in enumerate(predictions)
        for i, config in enumerate(networks.configs)
    ]


def _titled(title: str, table: RenderableType) -> RenderableType:
    return Group(Text(title, "bold"), table)


def _list(prediction: Prediction, networks: Networks) -> Table:
    table = _table("network", "RTT", "rate", "online", "latency", "bandwidth", "compute")
    for i, config in enumerate(networks.configs):
        total = prediction.online_ns[i] or 1.0
        parts = (prediction.latency_ns, prediction.bandwidth_ns, prediction.compute_ns)
        shares = [f"{100 * part[i] / total:.1f} %" for part in parts]
        where = (config.name, f"{config.rtt_ms:g} ms", _rate(config.rate_mbit))
        table.add_row(*where, format_ns(prediction.online_ns[i]), *shares)
    return table


def _compared(predictions: Sequence[Prediction], networks: Networks) -> Table:
    letters = [_letter(i) for i in range(len(predictions))]
    table = _table("network", *letters, "fastest")
    cells = _winner_cells(predictions)
    for i, config in enumerate(networks.configs):
        times = [format_ns(prediction.online_ns[i]) for prediction in predictions]
        table.add_row(config.name, *times, cells[i])
    return table


def _grid(cells: Sequence[str], networks: Networks) -> Table:
    """Rates down, round-trip times across."""
    rtts = networks.rtts_ms
    table = _table("rate, RTT", *(f"{digits(rtt)} ms" for rtt in rtts))
    for row, rate in enumerate(networks.rates_mbit):
        table.add_row(_rate(rate), *cells[row * len(rtts) : (row + 1) * len(rtts)])
    return table


def _time_cells(prediction: Prediction) -> list[str]:
    parts = np.stack([prediction.latency_ns, prediction.bandwidth_ns, prediction.compute_ns])
    most = ["lbc"[part] for part in parts.argmax(axis=0)]
    return [f"{format_ns(t)} {m}" for t, m in zip(prediction.online_ns, most, strict=True)]


def _winner_cells(predictions: Sequence[Prediction]) -> list[str]:
    times = np.stack([prediction.online_ns for prediction in predictions])
    first, second = np.sort(times, axis=0)[:2]
    factors = second / np.where(first > 0, first, 1.0)
    return [
        f"{_letter(w)} {digits(f)}×" for w, f in zip(fastest(predictions), factors, strict=True)
    ]


def _table(*heads: str) -> Table:
    table = Table(box=None, padding=(0, 1))
    for head in heads:
        left = head in ("network", "rate, RTT")
        table.add_column(head, justify="left" if left else "right", no_wrap=True)
    return table


def _letter(place: int) -> str:
    return ascii_uppercase[place % len(ascii_uppercase)]


def _rate(rate_mbit: float | None) -> str:
    if rate_mbit is None:
        return format_rate(None)
    return format_rate(float(digits(rate_mbit)) * 1e6)
