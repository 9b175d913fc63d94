"""The figures: drawing functions from charts to matplotlib figures, without global state."""

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from harness.report.axes import place_axis, value_axis, x_label
from harness.report.series import TOKEN, Chart, Point, PublishedPoint, Series

INCHES_WIDE, INCHES_HIGH = 7.2, 4.4
PANEL_INCHES = 3.6  # the width of one of several panels
BESIDE = 34  # characters of a line beside the vertical axis, which is not longer
TEXT = 8.5  # of legends and titles of panels, in points
FEW = 24  # points of a line with large markers
MARGIN = 0.1  # inches
GREY, GRID = "#555555", "#d0d0d0"
FLOOR_DOTS = (0, (1, 2))
OUTSIDE = "hollow: link outside tolerance"
FLOOR = "dotted: the network alone, hops × delay + bytes / rate"
PUBLISHED = "black edge: published; hollow: projected or second hand"
PREDICTED = "thin line: predicted by replay"
EXTRAPOLATED = "crosses: extrapolated by a + b·w; w = d² (linear, layer), d (GeLU, softmax)"
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
    panels[0].set_ylabel(textwrap.fill(chart.value.title, BESIDE))
    set_title(figure, _title(chart), chart.common)
    figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=TEXT
    )
    return laid_out(figure)


def laid_out(figure: Figure) -> Figure:
    """The figure, its axes, title and legend placed: once, whatever is then written of it."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)
    return figure


def area(figure: Figure) -> Bbox:
    """What of a figure that is laid out is written, in inches: all that is drawn, and a margin."""
    return figure.get_tightbbox().padded(MARGIN)


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
    names = {f"{p.row.system}, published": p for p in chart.published}
    handles += [_published_handle(label, point) for label, point in names.items()]
    if chart.published:
        handles.append(_mark("o", "white", "black", PUBLISHED))
    if any(line.predicted for line in chart.series):
        handles.append(Line2D([], [], color=GREY, linewidth=0.8, label=PREDICTED))
    if any(line.extrapolated for line in chart.series):
        handles.append(
            Line2D([], [], color=GREY, linewidth=0.8, linestyle=":", marker="x", label=EXTRAPOLATED)
        )
    if any(point.floor > 0 for point in chart.points):
        handles.append(Line2D([], [], color=GREY, linewidth=1.0, linestyle=FLOOR_DOTS, label=FLOOR))
    if any(point.outside for point in chart.points):
        handles.append(_mark("o", "white", GREY, OUTSIDE))
    return handles


def _published_handle(label: str, point: PublishedPoint) -> Line2D:
    face = point.style.colour if point.row.firm else "white"
    return _mark(point.style.marker, face, "black", label)


def _mark(marker: str, face: str, edge: str, label: str) -> Line2D:
    return Line2D(
        [], [], marker=marker, markersize=5, markerfacecolor=face, markeredgecolor=edge,
        linestyle="none", label=label,
    )  # fmt: skip


def _draw_panel(
    axes: Axes, chart: Chart, title: str, lines: Sequence[Series], width_in: float
) -> None:
    for line in lines:
        _draw_line(axes, line)
    published = [point for point in chart.published if point.panel == title]
    for point in published:
        _draw_published(axes, point)
    value_axis(axes, chart.value, _numbers(chart))
    points = [point for line in lines for point in line.points]
    curves = [x for line in lines if line.predicted for x in line.predicted.x]
    more = [*curves, *(p.x for p in published if p.x is not None)]
    place_axis(axes, _tags(points), width_in - 1.0, linear=chart.x == TOKEN, more=more)
    axes.set_xlabel(x_label(chart.x))
    axes.grid(visible=True, which="major", color=GRID, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if title:
        axes.set_title(title, fontsize=10, loc="left")


def _numbers(chart: Chart) -> list[float]:
    """All that the vertical axis must hold, alike in all panels."""
    drawn = (curve for line in chart.series for curve in (line.predicted, line.extrapolated))
    curves = [v for curve in drawn if curve for v in curve.values]
    floors = [point.floor for point in chart.points if point.floor > 0]
    published = [point.value for point in chart.published]
    return [*floors, *curves, *published, *(v for p in chart.points for v in (p.low, p.high))]


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
        mark = "_" if len(line.predicted.x) <= FEW else ""
        axes.plot(
            line.predicted.x, line.predicted.values, color=style.colour, linewidth=0.8,
            marker=mark, markersize=12, zorder=1.5,
        )  # fmt: skip
    if line.extrapolated:
        last, beyond = points[-1], line.extrapolated
        axes.plot(
            [last.x, *beyond.x], [last.value, *beyond.values], color=style.colour, linewidth=0.8,
            linestyle=":", zorder=1.5,
        )  # fmt: skip
        axes.plot(beyond.x, beyond.values, color=style.colour, marker="x", linestyle="none")


def _draw_published(axes: Axes, point: PublishedPoint) -> None:
    """A marker with a black edge; a dashed level where the source names no position."""
    face = point.style.colour if point.row.firm else "white"
    if point.x is None:
        axes.axhline(point.value, color=point.style.colour, linestyle="--", linewidth=0.9, zorder=2)
    axes.plot(
        [1.0 if point.x is None else point.x], [point.value], marker=point.style.marker,
        markersize=7, markerfacecolor=face, markeredgecolor="black", linestyle="none", zorder=4,
        clip_on=False,
        transform=axes.get_yaxis_transform() if point.x is None else axes.transData,
    )  # fmt: skip


def _tags(points: Sequence[Point]) -> dict[float, list[str]]:
    """What is at each position."""
    tags: dict[float, list[str]] = {}
    for point in sorted(points, key=lambda point: point.tag):
        known = tags.setdefault(point.x, [])
        if point.tag and point.tag not in known:
            known.append(point.tag)
    return tags
