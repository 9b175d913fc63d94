"""What the figures plot, as data: records become charts, panels and lines of points."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from statistics import median
from typing import TypeVar

from harness.errors import ConfigError
from harness.records import query as rows
from harness.records import selection
from harness.records.published import Published
from harness.records.record import Record
from harness.report.columns import uses_model
from harness.report.labels import labels
from harness.report.network_floor import floor_ns
from harness.report.styles import Style, line_styles, rank_of, system_of
from harness.report.values import VALUES, Value

SHAPE, OPERATION, TOKEN = "experiment.shape", "experiment.op", "token"
SLOWDOWN, WORK, WIDTH = "slowdown", "experiment.work", "experiment.d"
# The figures that are always drawn: experiment and key along x.
STANDARD = {
    "argmax": "experiment.n",
    "layer": "model.d_model",
    "nonlinear": SHAPE,
    SLOWDOWN: WIDTH,
}
TITLES = {
    "argmax": "Argmax",
    "layer": "One transformer layer",
    "nonlinear": "Non-linear functions",
    "linear": "One linear layer",
    "attention": "One attention head",
    "model": "Whole model",
    "generate": "Generation",
    "verify": "Verifying drafted tokens",
    SLOWDOWN: "The same work",
    "program": "Programs of others",
}
PANELS = {
    "gelu": "GeLU", "softmax": "softmax", "layernorm": "LayerNorm", "linear": "linear", "layer": "one layer",
}  # fmt: skip
T = TypeVar("T")
Groups = dict[tuple[str, str], T]  # by all that tells runs apart, and panel


@dataclass(frozen=True)
class Point:
    """One run, or one token of a run; numbers in the value's unit.

    low, high: least and most of its samples. floor: what its network alone takes; 0 where that is not
    known. tag: what is at x, as the model of a width.
    """

    x: float
    value: float
    low: float
    high: float
    floor: float
    tag: str
    record: Record

    @property
    def outside(self) -> bool:
        """Whether its link was outside tolerance."""
        return selection.outside(self.record)


@dataclass(frozen=True)
class Curve:
    """What is predicted or extrapolated along x, in the value's unit."""

    x: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class PublishedPoint:
    """A published number in the value's unit. x: None where its source names no position."""

    panel: str
    x: float | None
    value: float
    row: Published
    style: Style


@dataclass(frozen=True)
class Series:
    """The runs that differ in x alone, in order of x, of one machine, code and runner; or one run's
    tokens."""

    label: str
    style: Style
    points: tuple[Point, ...]
    predicted: Curve | None = None
    extrapolated: Curve | None = None

    @property
    def order(self) -> tuple[object, ...]:
        """Its place in a legend: by system, then by what else it is called, numbers by size."""
        words = re.split(r"(\d+(?:\.\d+)?)", self.label)
        natural = [(float(w), "") if i % 2 else (0.0, w) for i, w in enumerate(words)]
        return (rank_of(system_of(self.points[0].record)), natural)


@dataclass(frozen=True)
class Chart:
    """One figure. name: of its files. common: what all points share. x: a key, or `TOKEN`. panels: lines
    by the title of their panel, which is empty where there is one. left_out: runs of other sweeps, each alone
    at one position. published: what others have published of the same."""

    name: str
    experiment: str
    title: str
    common: str
    x: str
    value: Value
    panels: Mapping[str, tuple[Series, ...]]
    left_out: int = 0
    published: tuple[PublishedPoint, ...] = ()

    @property
    def series(self) -> list[Series]:
        """The lines of all panels."""
        return [line for lines in self.panels.values() for line in lines]

    @property
    def points(self) -> list[Point]:
        """The points of all lines."""
        return [point for line in self.series for point in line.points]


def standard_charts(records: Sequence[Record], value: str = "online") -> Iterator[Chart]:
    """Argmax against n, a layer against width, non-linear functions against size, orders of magnitude
    (where online time is asked for) against width, and the time of each token against its position;
    those that `records` have. Only correct runs are drawn."""
    for experiment, x in STANDARD.items():
        own = SLOWDOWN if (experiment, value) == (SLOWDOWN, "online") else value
        yield from _charts(records, experiment, x, own, experiment)
    if VALUES[value].step is not None:
        for experiment, group in rows.by_experiment(_correct(records)).items():
            yield from _token_charts([r for r in group if r.steps], experiment, value)


def charts_over(records: Sequence[Record], x: str, value: str = "online") -> list[Chart]:
    """A figure for each experiment that has numbers at the key `x`. Raises ConfigError where none has
    two."""
    key = rows.full_key(x, rows.known_keys(records))
    found = [
        chart
        for experiment in rows.by_experiment(records)
        for chart in _charts(records, experiment, key, value, f"{experiment}-over-{key}")
    ]
    if not found:
        raise ConfigError("--x", f"no experiment has correct runs with two numbers of {key}")
    return found


def _charts(
    records: Sequence[Record], experiment: str, x: str, value: str, name: str
) -> Iterator[Chart]:
    drawn = [
        r
        for r in _correct(records)
        if rows.experiment(r) == experiment
        and x_of(r, x) is not None
        and VALUES[value].number(r) is not None
    ]
    groups = _grouped(drawn, x)
    kept = _without_lone(groups, x)
    if kept:
        lines, common = _named(kept, x, lambda group: _points(group, x, value))
        left = sum(len(group) for at, group in groups.items() if at not in kept)
        yield replace(_chart(name, experiment, x, value, lines, common), left_out=left)


def _token_charts(records: Sequence[Record], experiment: str, value: str) -> Iterator[Chart]:
    """Each token after the first, which the whole prompt's is."""
    drawn = [record for record in records if _tokens(record, value)]
    if drawn:
        groups = {(selection.handle(record), ""): [record] for record in drawn}
        lines, common = _named(groups, TOKEN, lambda group: _tokens(group[0], value))
        yield _chart(f"{experiment}-tokens", experiment, TOKEN, value, lines, common)


def _chart(
    name: str, experiment: str, x: str, value: str, lines: Groups[Series], common: str
) -> Chart:
    panels: dict[str, list[Series]] = {}
    for (_, panel), line in lines.items():
        panels.setdefault(panel, []).append(line)
    what = TITLES.get(experiment, experiment)
    of = ", each token after the first" if x == TOKEN else ""
    return Chart(
        name=name if value in ("online", experiment) else f"{name}-{value}",
        experiment=experiment,
        title=f"{what}: {VALUES[value].title}{of}",
        common=common,
        x=x,
        value=VALUES[value],
        panels={
            panel: tuple(sorted(found, key=lambda line: line.order))
            for panel, found in sorted(panels.items())
        },
    )


def _named(
    groups: Groups[list[Record]], x: str, points: Callable[[list[Record]], tuple[Point, ...]]
) -> tuple[Groups[Series], str]:
    """A line for each group, and what they have in common. A line of several panels has one name and
    one look."""
    firsts = {run: group[0] for (run, _), group in groups.items()}
    first = next(iter(firsts.values()))
    names, common = labels(list(firsts.values()), lambda key: _is_along(key, x, first))
    labelled = dict(zip(firsts, names, strict=True))
    plain = Style("", "", "")
    lines = {at: Series(labelled[at[0]], plain, points(group)) for at, group in groups.items()}
    order = {run: line for (run, _), line in sorted(lines.items(), key=lambda pair: pair[1].order)}
    styles = line_styles([system_of(line.points[0].record) for line in order.values()])
    looks = dict(zip(order, styles, strict=True))
    return {at: replace(line, style=looks[at[0]]) for at, line in lines.items()}, common


def _correct(records: Sequence[Record]) -> list[Record]:
    return [record for record in selection.newest(records) if record.status == "ok"]


def x_of(record: Record, x: str) -> float | None:
    """The number at a key; of a shape its size. None where there is none, and for a network that was not
    applied."""
    value = record.flat.get(x)
    if x.startswith("network.") and record.config["shaper"]["name"] == "none":
        return None
    if x == SHAPE and isinstance(value, list):
        return float(prod(value))
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _is_along(key: str, x: str, record: Record) -> bool:
    """Whether a key varies along x: x itself, a model's other dimensions with its width, a network's
    name; a function has a panel of its own."""
    if key.startswith("model."):
        return x.startswith("model.") or not uses_model(rows.experiment(record))
    return key in (x, OPERATION, WORK) or (key == "network.name" and x.startswith("network."))


def _grouped(records: Sequence[Record], x: str) -> Groups[list[Record]]:
    """Records that differ along x alone."""
    groups: Groups[list[Record]] = {}
    for record in records:
        key = [
            (k, str(v))
            for k, v in sorted(record.flat.items())
            if v is not None and selection.matters(k) and not _is_along(k, x, record)
        ]
        own = [condition(record) for condition in selection.CONDITIONS.values()]
        given = record.config["experiment"]
        operation = str(given.get("op") or given.get("work") or "")
        panel = PANELS.get(operation, operation)
        groups.setdefault((repr((key, own)), panel), []).append(record)
    return groups


def _without_lone(groups: Groups[list[Record]], x: str) -> Groups[list[Record]]:
    """The groups without those that stand alone at one x; in the standard figures a system that has no
    line keeps its points."""
    places = {at: {x_of(record, x) for record in group} for at, group in groups.items()}
    have = {system_of(groups[at][0]) for at, found in places.items() if len(found) > 1}
    keeps = x in STANDARD.values()
    return {
        at: group
        for at, group in groups.items()
        if len(places[at]) > 1 or (keeps and system_of(group[0]) not in have)
    }


def _points(records: Sequence[Record], x: str, value: str) -> tuple[Point, ...]:
    points = (_point(record, x, value) for record in records)
    return tuple(sorted(points, key=lambda point: (point.x, point.tag)))


def _point(record: Record, x: str, value: str) -> Point:
    number, place = VALUES[value].number(record), x_of(record, x)
    assert number is not None  # _charts leaves the others out
    assert place is not None
    samples = VALUES[value].samples(record) or (number,)
    floor = floor_ns(record) if value == "online" else 0.0
    return Point(place, number, min(samples), max(samples), floor, _tag(record, x), record)


def _tag(record: Record, x: str) -> str:
    if x == "model.d_model":
        return str(record.config["model"]["name"])
    return "×".join(map(str, record.config["experiment"]["shape"])) if x == SHAPE else ""


def _tokens(record: Record, value: str) -> tuple[Point, ...]:
    """A point for each token after the first: at x as many tokens as have then gone in."""
    step_value = VALUES[value].step
    assert step_value is not None
    places: dict[int, list[float]] = {}
    place, evaluation = 0, -1
    for step in record.steps:
        place = step.tokens + (place if step.evaluation == evaluation else 0)
        evaluation = step.evaluation
        if step.kind == "decode":
            places.setdefault(place, []).append(step_value(step))
    return tuple(
        Point(float(x), median(found), min(found), max(found), 0.0, "", record)
        for x, found in sorted(places.items())
    )


def with_curves(chart: Chart, curves: Mapping[tuple[str, str], Curve]) -> Chart:
    """The chart with predictions, by panel and label."""
    return replace(
        chart,
        panels={
            panel: tuple(replace(s, predicted=curves.get((panel, s.label))) for s in lines)
            for panel, lines in chart.panels.items()
        },
    )
