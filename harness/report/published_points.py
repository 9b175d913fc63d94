"""Published numbers beside measured ones, where a figure's axes are those of the published number."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod

from harness.records.published import Published, load_published
from harness.records.record import Record
from harness.report.published_network import family
from harness.report.series import PANELS, SHAPE, TOKEN, Chart, PublishedPoint
from harness.report.styles import OWN, Style, styles_of

METRICS = {  # by a value's name in `harness.report.values`
    "online time": ("time", "online time"),
    "online payload of all roles": ("bytes", "online bytes"),
    "hops of the online phase": ("hops",),
}
REACH = 8.0  # how far beyond our positions a published one may lie
Place = tuple[str, str, str, float | None]  # experiment, key along x, panel, x


def _argmax(found: re.Match[str]) -> Place:
    return "argmax", "experiment.n", "", float(found[1])


def _layer(found: re.Match[str]) -> Place:
    return "layer", "model.d_model", "", float(found[1])


def _function(found: re.Match[str]) -> Place:
    sizes = [1] if found[2] == "one element" else [int(text) for text in found[2].split("x")]
    return "nonlinear", SHAPE, PANELS[found[1].lower()], float(prod(sizes))


def _token(found: re.Match[str]) -> Place:
    return "model", TOKEN, "", None


PLACES: tuple[tuple[str, Callable[[re.Match[str]], Place]], ...] = (
    (r"argmax of (\d+)", _argmax),
    (r"one layer, d (\d+), one token", _layer),
    (r"(GELU|GeLU|softmax)(?: of|,)? ([\dx]+|one element)", _function),
    (r"ChatGLM-6B, one token", _token),
)


def with_published(chart: Chart, published: Sequence[Published] | None = None) -> Chart:
    """The chart with the published numbers that belong into it."""
    return replace(chart, published=published_points(chart, published))


def published_points(
    chart: Chart, published: Sequence[Published] | None = None
) -> tuple[PublishedPoint, ...]:
    """The published numbers (all of the file by default) of the chart's experiment, value and axis, in its
    unit, within `REACH` times our positions. A time is drawn only beside runs over its own network."""
    known = load_published() if published is None else published
    found = [point for row in known if (point := _point(chart, row)) is not None]
    styles = styles_of(list({_system(point.row) for point in found}))
    return tuple(replace(point, style=styles[_system(point.row)]) for point in found)


def _point(chart: Chart, row: Published) -> PublishedPoint | None:
    place = _place(row)
    if place is None or not row.number or row.metric not in METRICS.get(chart.value.title, ()):
        return None
    experiment, key, panel, x = place
    if (experiment, key) != (chart.experiment, chart.x) or panel not in chart.panels:
        return None
    if not any(_alike(record, row) for record in (p.record for p in chart.points)):
        return None
    places = [point.x for point in chart.points]
    if x is not None and not min(places) / REACH <= x <= max(places) * REACH:
        return None
    value = row.number * (1e9 if chart.value.unit == "ns" else 1.0)
    return PublishedPoint(panel, x, value, row, Style("", "", ""))


def _system(row: Published) -> str:
    """Its name among the styles."""
    name = family(row.system)
    return name.lower() if name.lower() in OWN else name


def _place(row: Published) -> Place | None:
    """What a published workload is here; None where it is none of ours."""
    for pattern, place in PLACES:
        if found := re.fullmatch(pattern, row.workload):
            return place(found)
    return None


def _alike(record: Record, row: Published) -> bool:
    """Whether a run is of the published workload's kind and, for a time, over its network."""
    config = record.config
    if config["experiment"].get("q_len") not in (None, 1):
        return False
    if row.workload.startswith("ChatGLM") and config["model"]["name"] != "chatglm-6b":
        return False
    if "time" not in row.metric:
        return True
    network = config["network"]
    own = (network.get("rate_mbit"), network.get("rtt_ms"))
    return config["shaper"]["name"] != "none" and own == (row.rate_mbit, row.rtt_ms)
