"""What the figures plot, as data: records become lines of points, with a floor each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.records import query as rows
from harness.records import selection
from harness.records.record import Record
from harness.records.stats import format_rate

# Of these a figure's horizontal axis and its annotations speak.
AXIS_KEYS = {"argmax": ("experiment.n", "model."), "layer": ("model.",)}
X_KEY = {"argmax": "experiment.n", "layer": "model.d_model"}
Key = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Point:
    """One run: median, lowest and highest time, and the floor of its network, in seconds. outside:
    whether its link was outside tolerance."""

    x: float
    median_s: float
    low_s: float
    high_s: float
    floor_s: float
    model: str
    outside: bool


@dataclass(frozen=True)
class Series:
    """The runs that differ in x alone, in order of x, of one machine, code and runner."""

    label: str
    points: tuple[Point, ...]


def series_of(records: Sequence[Record], experiment: str) -> list[Series]:
    """The lines of one experiment's figure, by label. Only correct runs are drawn."""
    drawn = [
        r
        for r in selection.newest(records)
        if rows.experiment(r) == experiment and r.status == "ok"
    ]
    drawn = [r for r in drawn if rows.phase_spread(r, "online") is not None]
    grouped: dict[Key, list[Record]] = {}
    for record, conditions in zip(drawn, _conditions(drawn), strict=True):
        grouped.setdefault(_key(record, experiment, conditions), []).append(record)
    labels = _labels(list(grouped))
    lines = [Series(labels[key], _points(group, experiment)) for key, group in grouped.items()]
    return sorted(lines, key=lambda line: line.label)


def floor_s(record: Record) -> float:
    """What the network alone takes: hops × delay + bytes/rate, in seconds.

    A bound from below whatever the schedule: the shortest delay of the links used, and the wire
    bytes of the busiest direction, since directions are independent.
    """
    online = record.phases["online"]
    if record.config["shaper"]["name"] == "none":
        return 0.0
    used = [
        (record.network.profile.get(f"{role}>{peer}", {}), traffic.wire_bytes)
        for role, phase in online.roles.items()
        for peer, traffic in phase.sent.items()
        if traffic.messages
    ]
    delay = min((_least_delay_s(link) for link, _ in used), default=0.0)
    serial = max((_serial_s(link, size) for link, size in used), default=0.0)
    return online.hops * delay + serial


def _least_delay_s(link: Mapping[str, Any]) -> float:
    return float(link.get("delay_s", 0.0)) - float(link.get("jitter_s", 0.0))


def _serial_s(link: Mapping[str, Any], size_bytes: int) -> float:
    rate = link.get("rate_bit_s")
    return size_bytes * 8 / rate if rate else 0.0


def _points(records: Sequence[Record], experiment: str) -> tuple[Point, ...]:
    """One point for each x and model, in order."""
    points = (_point(record, experiment) for record in records)
    return tuple(sorted(points, key=lambda point: (point.x, point.model)))


def _conditions(records: Sequence[Record]) -> list[dict[str, str]]:
    """The conditions in which `records` differ, of each."""
    names = selection.varying_conditions(records)
    texts = {name: selection.condition_texts(name, records) for name in names}
    return [{name: text(record) for name, text in texts.items()} for record in records]


def _point(record: Record, experiment: str) -> Point:
    times = rows.phase_spread(record, "online")
    assert times is not None  # series_of leaves the others out
    config = rows.flatten(record.config)
    return Point(
        x=float(config[X_KEY[experiment]]),
        median_s=times.median / 1e9,
        low_s=times.low / 1e9,
        high_s=times.high / 1e9,
        floor_s=floor_s(record),
        model=str(config["model.name"]),
        outside=selection.outside(record),
    )


def _key(record: Record, experiment: str, conditions: Mapping[str, str]) -> Key:
    """All of a configuration that makes two runs points of different lines."""
    config = {k: v for k, v in rows.flatten(record.config).items() if v is not None}
    return tuple(
        (key, str(value))
        for key, value in sorted({**config, **conditions}.items())
        if selection.matters(key)
        and key != "experiment.name"
        and not key.startswith(AXIS_KEYS[experiment])
    )


def _labels(keys: Sequence[Key]) -> dict[Key, str]:
    """Each line's system, network and shaper, then whatever tells lines of one such name apart."""
    by_name: dict[str, list[Key]] = {}
    for key in keys:
        by_name.setdefault(_name(key), []).append(key)
    return {
        key: ", ".join([name, *_differences(key, same)])
        for name, same in by_name.items()
        for key in same
    }


def _name(key: Key) -> str:
    values = dict(key)
    system, network, shaper = (values[f"{group}.name"] for group in ("system", "network", "shaper"))
    if shaper == "none":
        return f"{system}, no shaping"
    rate = values.get("network.rate_mbit")
    speed = format_rate(None if rate is None else float(rate) * 1e6)
    parts = [system, f"{network} ({float(values['network.rtt_ms']):g} ms, {speed})"]
    parts += [shaper] if shaper != "emulated" else []
    return ", ".join(parts)


def _differences(key: Key, same: Sequence[Key]) -> list[str]:
    others = [dict(other) for other in same]
    return [
        f"{name.removeprefix('experiment.').removeprefix('network.')}={value}"
        for name, value in key
        if any(other.get(name) != value for other in others)
    ]
