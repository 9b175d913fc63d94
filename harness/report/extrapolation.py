"""How slow a system would be at widths where it was not measured, in the figure of experiment=slowdown.

Online time is taken as a fixed part and a part for each unit of work,

    T(d) = a + b·w(d)      w = d² of linear and layer, which is their weights; d of GeLU and softmax

through the two largest widths that were measured; where a comes out below 0, and of one width alone,
a = 0; b is never below 0. PyTorch's time at d is measured, in the runs of other systems.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import log10
from statistics import median

from harness.report.series import SLOWDOWN, WIDTH, Chart, Curve, Series
from harness.report.values import VALUES

GROWTH = {"linear": 2, "layer": 2, "gelu": 1, "softmax": 1}  # exponents of w


def with_extrapolations(chart: Chart) -> Chart:
    """The chart, each line of it going on to the widths of the others in its panel; any but that of
    slowdown as it is."""
    if (chart.experiment, chart.x) != (SLOWDOWN, WIDTH) or chart.value is not VALUES[SLOWDOWN]:
        return chart
    panels = {}
    for panel, lines in chart.panels.items():
        clear = _pytorch_ns(lines)
        panels[panel] = tuple(replace(line, extrapolated=_curve(line, clear)) for line in lines)
    return replace(chart, panels=panels)


def online_ns(widths: Sequence[float], times_ns: Sequence[float], growth: int, d: float) -> float:
    """T(d) from measured widths, in rising order, and their times."""
    w, t = [each**growth for each in widths[-2:]], times_ns[-2:]
    b = max(0.0, (t[-1] - t[0]) / (w[-1] - w[0])) if len(w) > 1 else t[-1] / w[-1]
    b = min(b, t[-1] / w[-1])  # a is not below 0
    return t[-1] + b * (d**growth - w[-1])


def _pytorch_ns(lines: Sequence[Series]) -> dict[float, float]:
    """By width."""
    found: dict[float, list[int]] = {}
    for point in (point for line in lines for point in line.points):
        found.setdefault(point.x, []).extend(point.record.pytorch_ns or [])
    return {x: median(times) for x, times in sorted(found.items()) if times}


def _curve(line: Series, clear: Mapping[float, float]) -> Curve | None:
    widths = [point.x for point in line.points]
    times = [median(point.record.phases["online"].wall_ns) for point in line.points]
    growth = GROWTH[line.points[0].record.config["experiment"]["work"]]
    beyond = {
        d: log10(online_ns(widths, times, growth, d) / ns)
        for d, ns in clear.items()
        if d > widths[-1]
    }
    return Curve(tuple(beyond), tuple(beyond.values())) if beyond else None
