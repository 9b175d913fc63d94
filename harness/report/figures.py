"""The figures: drawing functions from series to matplotlib figures, without global state."""

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from harness.records.record import Record
from harness.records.stats import format_ns
from harness.report.series import Point, Series, series_of

# Okabe and Ito's palette, which colour-blind readers can tell apart, less its pale yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
DASHES = (0, (5, 4))
OUTSIDE = "hollow: link outside tolerance"
FLOOR = "floor of the network: hops × delay + bytes / rate"
# Tick positions in each decade, from coarse to fine.
STEPS = ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8), (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5))


def argmax_figure(records: Sequence[Record]) -> Figure | None:
    """Online time of argmax against n, log-log; None if no record has it."""
    return _figure(records, "argmax", "Argmax", "number of values n", _count_axis)


def layer_figure(records: Sequence[Record]) -> Figure | None:
    """Online time of one transformer layer against its width, log-log; None if no record has it."""
    return _figure(records, "layer", "One transformer layer", "model width d", _model_axis)


FIGURES: dict[str, Callable[[Sequence[Record]], Figure | None]] = {
    "argmax": argmax_figure,
    "layer": layer_figure,
}


def save_figures(records: Sequence[Record], folder: Path) -> list[Path]:
    """Draw every figure that the records allow, as PNG and SVG in `folder`. Returns their paths."""
    paths = []
    for name, draw in FIGURES.items():
        figure = draw(records)
        if figure is None:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        for suffix in ("png", "svg"):
            paths.append(folder / f"{name}.{suffix}")
            figure.savefig(paths[-1], dpi=160)
    return paths


def _figure(
    records: Sequence[Record],
    experiment: str,
    title: str,
    x_label: str,
    x_axis: Callable[[Axes, Sequence[Point]], None],
) -> Figure | None:
    lines = series_of(records, experiment)
    if not lines:
        return None
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.set_yscale("log")
    for index, line in enumerate(lines):
        # After all colours are used up they come again, with other markers.
        lap = index // len(COLOURS)
        _draw_line(axes, line, COLOURS[index % len(COLOURS)], MARKERS[(index + lap) % len(MARKERS)])
    points = [point for line in lines for point in line.points]
    _finish(axes, title, x_label, any(point.floor_s > 0 for point in points))
    _limit_x(axes, points)
    time_axis(axes, [v for p in points for v in (p.low_s, p.high_s, p.floor_s) if v > 0])
    x_axis(axes, points)
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    for last in (OUTSIDE, FLOOR):
        if last in handles:
            handles[last] = handles.pop(last)
    figure.legend(
        handles.values(), handles, loc="outside lower center", ncols=2, frameon=False, fontsize=8.5
    )
    return figure


def _draw_line(axes: Axes, line: Series, colour: str, marker: str) -> None:
    x = [point.x for point in line.points]
    median = [point.median_s for point in line.points]
    below = [point.median_s - point.low_s for point in line.points]
    above = [point.high_s - point.median_s for point in line.points]
    axes.errorbar(
        x, median, yerr=[below, above], label=line.label, color=colour, marker=marker,
        markersize=5, linewidth=1.6, capsize=3, elinewidth=1,
    )  # fmt: skip
    hollow = [point for point in line.points if point.outside]
    if hollow:
        axes.plot(
            [point.x for point in hollow],
            [point.median_s for point in hollow],
            color=colour, marker=marker, markersize=5, markerfacecolor="white", linestyle="none",
            zorder=3, label=OUTSIDE,
        )  # fmt: skip
    shaped = [point for point in line.points if point.floor_s > 0]
    if shaped:
        axes.plot(
            [point.x for point in shaped],
            [point.floor_s for point in shaped],
            color=colour, linestyle=DASHES, linewidth=0.8,
        )  # fmt: skip


def _finish(axes: Axes, title: str, x_label: str, with_floor: bool) -> None:
    axes.set_title(f"{title}: online time (median, bars from min to max)", fontsize=11, loc="left")
    axes.set_xlabel(x_label)
    axes.set_ylabel("online time")
    axes.grid(visible=True, which="major", color="#d0d0d0", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if with_floor:
        axes.plot([], [], color="#555555", linestyle=DASHES, linewidth=0.8, label=FLOOR)


def _limit_x(axes: Axes, points: Sequence[Point]) -> None:
    """Room on both sides, also around a single position."""
    low, high = min(point.x for point in points), max(point.x for point in points)
    room = max(1.5, (high / low) ** 0.08)
    axes.set_xlim(low / room, high * room)


def time_axis(axes: Axes, values_s: Sequence[float]) -> None:
    """Ticks with their units; more in each decade where the times, all > 0, span little."""
    low, high = min(values_s) / 1.3, max(values_s) * 1.3
    axes.set_ylim(low, high)
    choices = ([t for t in _ticks(steps) if low <= t <= high] for steps in STEPS)
    ticks = next((ticks for ticks in choices if len(ticks) >= 3), _ticks(STEPS[-1]))
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_time(value)))
    axes.yaxis.set_minor_locator(NullLocator())


def _ticks(steps: Sequence[float]) -> list[float]:
    return [step * 10.0**exponent for exponent in range(-7, 5) for step in steps]


def short_time(value_s: float) -> str:
    """A tick's label, as "20 ms"."""
    number, unit = format_ns(value_s * 1e9).split(" ")
    return f"{float(number):g} {unit}"


def _count_axis(axes: Axes, points: Sequence[Point]) -> None:
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _model_axis(axes: Axes, points: Sequence[Point]) -> None:
    """A tick for each width that was measured, with its models' names."""
    names: dict[float, list[str]] = {}
    for point in sorted(points, key=lambda point: point.model):
        known = names.setdefault(point.x, [])
        if point.model not in known:
            known.append(point.model)
    axes.xaxis.set_major_locator(FixedLocator(sorted(names)))
    axes.xaxis.set_minor_locator(NullLocator())
    labels = {x: "\n".join([f"{x:.0f}", *models]) for x, models in names.items()}
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: labels.get(value, "")))
