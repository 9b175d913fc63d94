"""The figure of a replayed grid: a map of time or of who is fastest, or lines along one axis."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LogNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from harness.errors import ConfigError
from harness.records.stats import digits, format_rate
from harness.replay.networks import Networks
from harness.replay.predict import Prediction, crossings
from harness.replay.trace import Floats
from harness.report.figures import COLOURS, DASHES, short_time, time_axis

FULL_COLOUR = 10.0  # so many times faster than the next one: the winner's full colour
CONTOURS_S = [step * 10.0**exponent for exponent in range(-4, 5) for step in (1, 2, 5)]


def save_figure(path: Path, predictions: Sequence[Prediction], networks: Networks) -> list[Path]:
    """Draw the grid as `path` with the suffixes .png and .svg. Returns their paths."""
    figure = grid_figure(predictions, networks)
    stem = path.with_suffix("") if path.suffix in (".png", ".svg") else path
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in ("png", "svg")]
    for each in paths:
        figure.savefig(each, dpi=160)
    return paths


def grid_figure(predictions: Sequence[Prediction], networks: Networks) -> Figure:
    """A map where both axes have points, else lines along the one that has. Raises ConfigError
    where neither has."""
    sizes = len(networks.rtts_ms), len(networks.rates_mbit)
    if max(sizes) < 2:
        raise ConfigError("--figure", "needs two or more values of rtt_ms or rate_mbit")
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    if min(sizes) < 2:
        _draw_lines(axes, predictions, networks)
    elif len(predictions) == 1:
        _draw_times(figure, axes, predictions[0], networks)
    else:
        _draw_winners(axes, predictions, networks)
    if len(predictions) > 1:
        labels = [prediction.traced_run.label for prediction in predictions]
        keys = [Patch(color=colour) for colour in _cycle(len(predictions))]
        figure.legend(
            keys, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=8.5
        )
    return figure


def _draw_lines(axes: Axes, predictions: Sequence[Prediction], networks: Networks) -> None:
    """Time along one axis: the median, the evaluations' range, and where lines cross."""
    along_rtt = len(networks.rtts_ms) > 1
    rates = [rate for rate in networks.rates_mbit if rate is not None]
    x = list(networks.rtts_ms) if along_rtt else rates
    for prediction, colour in zip(predictions, _cycle(len(predictions)), strict=True):
        axes.plot(x, prediction.online_ns / 1e9, color=colour)
        band = prediction.low_ns / 1e9, prediction.high_ns / 1e9
        axes.fill_between(x, *band, color=colour, alpha=0.15, linewidth=0)
    fixed = _rate(networks.rates_mbit[0]) if along_rtt else f"{networks.rtts_ms[0]:g} ms"
    title = "Predicted online time" if len(predictions) > 1 else predictions[0].traced_run.label
    axes.set_title(f"{title}, {fixed}", fontsize=11, loc="left")
    (_rtt_axis if along_rtt else _rate_axis)(axes, "x", x)
    axes.set_xlim(x[0], x[-1])
    axes.set_yscale("log")
    axes.set_ylabel("predicted online time")
    time_axis(axes, [v / 1e9 for p in predictions for v in (*p.low_ns, *p.high_ns)])
    axes.grid(visible=True, which="major", color="#d0d0d0", linewidth=0.6)
    for a, b in combinations(predictions, 2):
        for at in crossings(x, a.online_ns, b.online_ns):
            _mark(axes, at, f"{digits(at)} ms" if along_rtt else _rate(at))


def _mark(axes: Axes, at: float, text: str) -> None:
    axes.axvline(at, color="#555555", linestyle=DASHES, linewidth=0.8)
    place = axes.get_xaxis_transform()
    axes.text(at, 1.0, f" {text}", transform=place, fontsize=8.5, va="top", color="#555555")


def _draw_times(figure: Figure, axes: Axes, prediction: Prediction, networks: Networks) -> None:
    """Time as colour and contours."""
    _map_axes(axes, networks)
    times = _shaped(prediction.online_ns, networks) / 1e9
    edges = [_edges(values) for values in _axes_of(networks)]
    norm = LogNorm(times.min() / 1.001, times.max() * 1.001)
    mesh = axes.pcolormesh(*edges, times, cmap="viridis_r", norm=norm, rasterized=True)
    levels = [t for t in CONTOURS_S if times.min() < t < times.max()]
    lines = axes.contour(*_axes_of(networks), times, levels=levels, colors="white", linewidths=0.8)
    for label in axes.clabel(lines, fmt=short_time, fontsize=8, inline=False, colors="black"):
        label.set_bbox({"facecolor": "white", "alpha": 0.7, "pad": 1.0, "linewidth": 0})
    bar = figure.colorbar(mesh, ax=axes, format=FuncFormatter(lambda value, _: short_time(value)))
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    axes.set_title(f"{prediction.traced_run.label}: predicted online time", fontsize=11, loc="left")


def _draw_winners(axes: Axes, predictions: Sequence[Prediction], networks: Networks) -> None:
    """Who is fastest: its colour, the fuller the more it leads; a line where the first two are equal."""
    colours = _cycle(len(predictions))
    times = np.stack([_shaped(p.online_ns, networks) for p in predictions])
    first, second = np.sort(times, axis=0)[:2]
    lead = np.clip(np.log(second / first) / np.log(FULL_COLOUR), 0.0, 1.0)[..., None]
    winners = np.array([to_rgb(colour) for colour in colours])[times.argmin(axis=0)]
    edges = [_edges(values) for values in _axes_of(networks)]
    strength = 0.12 + 0.88 * lead
    axes.pcolormesh(*edges, 1 - strength * (1 - winners), rasterized=True)
    for a, b in combinations(range(len(predictions)), 2):
        others = np.delete(times, [a, b], axis=0)
        hidden = (others < np.maximum(times[a], times[b])).any(axis=0)
        ratio = np.ma.masked_where(hidden, np.log(times[a] / times[b]))
        if ratio.count() and ratio.min() < 0 < ratio.max():
            axes.contour(*_axes_of(networks), ratio, levels=[0.0], colors="black", linewidths=1.4)
    axes.set_title(
        f"Fastest, by prediction (full colour: {FULL_COLOUR:g}× and more; line: equal)",
        fontsize=11,
        loc="left",
    )
    _map_axes(axes, networks)


def _axes_of(networks: Networks) -> tuple[list[float], list[float]]:
    """The positions along both axes of a map."""
    rates = [rate for rate in networks.rates_mbit if rate is not None]
    return list(networks.rtts_ms), rates


def _shaped(values: Floats, networks: Networks) -> Floats:
    return values.reshape(len(networks.rates_mbit), len(networks.rtts_ms))


def _edges(values: Sequence[float]) -> Floats:
    """The borders of cells around `values`, halfway in the logarithm; linearly where one is 0."""
    logarithmic = min(values) > 0
    x = np.log(values) if logarithmic else np.asarray(values, float)
    middle = (x[1:] + x[:-1]) / 2
    borders = np.concatenate([[x[0]], middle, [x[-1]]])
    return np.exp(borders) if logarithmic else borders


def _map_axes(axes: Axes, networks: Networks) -> None:
    rtts, rates = _axes_of(networks)
    _rtt_axis(axes, "x", rtts)
    _rate_axis(axes, "y", rates)
    axes.set_xlim(rtts[0], rtts[-1])
    axes.set_ylim(rates[0], rates[-1])


def _rtt_axis(axes: Axes, which: str, values: Sequence[float]) -> None:
    axis = _scaled(axes, which, values)
    axis.set_label_text("round-trip time")
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} ms"))


def _rate_axis(axes: Axes, which: str, values: Sequence[float]) -> None:
    axis = _scaled(axes, which, values)
    axis.set_label_text("rate")
    axis.set_major_formatter(FuncFormatter(lambda value, _: format_rate(value * 1e6)))


def _scaled(axes: Axes, which: str, values: Sequence[float]) -> Axis:
    """The x or y axis: logarithmic, with ticks at 1, 2, 5, unless 0 is on it."""
    axis: Axis = getattr(axes, f"{which}axis")
    if min(values) > 0:
        axes.set(**{f"{which}scale": "log"})
        axis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
        axis.set_minor_formatter(NullFormatter())
    return axis


def _rate(rate_mbit: float | None) -> str:
    return format_rate(None if rate_mbit is None else float(digits(rate_mbit)) * 1e6)


def _cycle(count: int) -> list[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(count)]
