"""The figures: drawing functions from charts to matplotlib figures, without global state."""

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.report.axes import place_axis, value_axis, x_label
from harness.report.series import TOKEN, Chart, Point, Series

INCHES_WIDE, INCHES_HIGH = 7.2, 4.4
PANEL_INCHES = 3.6  # the width of one of several panels
TEXT = 8.5  # of legends and titles of panels, in points
FEW = 24  # points of a line with large markers
GREY, GRID = "#555555", "#d0d0d0"
FLOOR_DOTS = (0, (1, 2))
OUTSIDE = "hollow: link outside tolerance"
FLOOR = "dotted: the network alone, hops × delay + bytes / rate"
PREDICTED = "thin line: predicted by replay"
SPREAD = "(median; bars from least to most)"


def draw(chart: Chart) -> Figure:
    """A panel for each of the chart's, side by side, under a title with what all have in common and over
    one legend."""
    wide = max(INCHES_WIDE, PANEL_INCHES * len(chart.panels))
    handles = _handles(chart)
    rows, columns = _legend_shape([handle.get_label() for handle in handles], wide)
    figure = Figure(figsize=(wide, INCHES_HIGH + 0.19 * rows), layout="constrained")
    panels = figure.subplots(1, len(chart.panels), squeeze=False)[0]
    for axes, (title, lines) in zip(panels, chart.panels.items(), strict=True):
        _draw_panel(axes, chart, title, lines, wide / len(chart.panels))
    panels[0].set_ylabel(chart.value.title)
    set_title(figure, _title(chart), chart.common)
    figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=TEXT
    )
    return figure


def set_title(figure: Figure, title: str, common: str) -> None:
    """On the left, what is common on lines of its own."""
    columns = int(figure.get_figwidth() * 13)
    lines = [line for text in (title, common) for line in textwrap.wrap(text, columns)]
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=10)


def _title(chart: Chart) -> str:
    return f"{chart.title} {SPREAD}" if any(p.low < p.high for p in chart.points) else chart.title


def _legend_shape(labels: Sequence[Any], wide: float) -> tuple[int, int]:
    """Rows and columns in which no label is cut: as many columns as fit, filled one after the other."""
    widths = [len(str(label)) * 0.068 + 0.6 for label in labels]
    for columns in range(min(4, len(labels)), 1, -1):
        if sum(map(max, _columns(widths, columns))) < wide:
            return -(-len(labels) // columns), columns
    return len(labels), 1


def _columns(widths: Sequence[float], count: int) -> Iterator[Sequence[float]]:
    """The columns of a legend as matplotlib fills them: the first ones have one more."""
    rows, longer = divmod(len(widths), count)
    start = 0
    for column in range(count):
        end = start + rows + (column < longer)
        yield widths[start:end]
        start = end


def _handles(chart: Chart) -> list[Line2D]:
    """One for each line's name, then what other marks mean."""
    lines = sorted(chart.series, key=lambda line: line.order)
    styles = {line.label: line.style for line in lines}
    handles = [
        Line2D([], [], color=s.colour, marker=s.marker, linestyle=s.dash, label=label, markersize=5)
        for label, s in styles.items()
    ]
    if any(line.predicted for line in chart.series):
        handles.append(Line2D([], [], color=GREY, linewidth=0.8, label=PREDICTED))
    if any(point.floor > 0 for point in chart.points):
        handles.append(Line2D([], [], color=GREY, linewidth=1.0, linestyle=FLOOR_DOTS, label=FLOOR))
    if any(point.outside for point in chart.points):
        hollow = {"marker": "o", "markerfacecolor": "white", "linestyle": "none"}
        handles.append(Line2D([], [], color=GREY, markersize=5, label=OUTSIDE, **hollow))  # type: ignore[arg-type]
    return handles


def _draw_panel(
    axes: Axes, chart: Chart, title: str, lines: Sequence[Series], width_in: float
) -> None:
    for line in lines:
        _draw_line(axes, line)
    value_axis(axes, chart.value, _numbers(chart))
    points = [point for line in lines for point in line.points]
    place_axis(axes, _tags(points), width_in - 1.0, linear=chart.x == TOKEN)
    axes.set_xlabel(x_label(chart.x))
    axes.grid(visible=True, which="major", color=GRID, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if title:
        axes.set_title(title, fontsize=10, loc="left")


def _numbers(chart: Chart) -> list[float]:
    """All that the vertical axis must hold, alike in all panels."""
    curves = [v for line in chart.series if line.predicted for v in line.predicted.values]
    floors = [point.floor for point in chart.points if point.floor > 0]
    return [*floors, *curves, *(v for p in chart.points for v in (p.low, p.high))]


def _draw_line(axes: Axes, line: Series) -> None:
    style, points = line.style, line.points
    x = [point.x for point in points]
    size = 5 if len(points) <= FEW else 3
    below = [point.value - point.low for point in points]
    above = [point.high - point.value for point in points]
    axes.errorbar(
        x, [point.value for point in points], yerr=[below, above], label=line.label,
        color=style.colour, linestyle=style.dash, linewidth=1.5, capsize=2.5, elinewidth=1,
    )  # fmt: skip
    for outside, face in ((False, style.colour), (True, "white")):
        chosen = [point for point in points if point.outside is outside]
        axes.plot(
            [point.x for point in chosen], [point.value for point in chosen], linestyle="none",
            color=style.colour, marker=style.marker, markersize=size, markerfacecolor=face, zorder=3,
        )  # fmt: skip
    shaped = [point for point in points if point.floor > 0]
    axes.plot(
        [point.x for point in shaped], [point.floor for point in shaped],
        color=style.colour, linestyle=FLOOR_DOTS, linewidth=1.0, zorder=1,
    )  # fmt: skip
    if line.predicted:
        lone = "_" if len(line.predicted.x) == 1 else ""
        axes.plot(
            line.predicted.x, line.predicted.values, color=style.colour, linewidth=0.8,
            marker=lone, markersize=12, zorder=1.5,
        )  # fmt: skip


def _tags(points: Sequence[Point]) -> dict[float, list[str]]:
    """What is at each position."""
    tags: dict[float, list[str]] = {}
    for point in sorted(points, key=lambda point: point.tag):
        known = tags.setdefault(point.x, [])
        if point.tag and point.tag not in known:
            known.append(point.tag)
    return tags
