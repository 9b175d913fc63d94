"""The figure of a replayed grid: a map of time or of who is fastest, or lines along one axis."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LinearSegmentedColormap, LogNorm, to_rgb
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from harness.errors import ConfigError
from harness.records.query import experiment
from harness.records.record import Record
from harness.records.stats import digits, format_rate
from harness.replay.networks import Networks
from harness.replay.predict import Prediction, crossings
from harness.replay.prediction_tables import as_rows
from harness.replay.trace import Floats
from harness.report import figure_files
from harness.report.axes import value_axis
from harness.report.figures import GREY, GRID, TEXT, laid_out, set_title
from harness.report.labels import labels
from harness.report.series import TITLES
from harness.report.styles import distinct_colours, paler, system_of
from harness.report.values import VALUES

FULL_COLOUR = 10.0  # so many times faster than the next one: the winner's full colour
CONTOURS_NS = [step * 10.0**exponent for exponent in range(5, 14) for step in (1, 2, 5)]
RATIOS = (
    1.02,
    1.05,
    1.1,
    1.2,
    1.5,
    2,
    3,
    5,
    10,
    20,
    50,
    100,
    200,
    500,
    1000,
)  # of contours, both ways
CONTOURS = 5  # at most on either side of equal time
DASHES = (0, (5, 4))
TIME = VALUES["online"]


def save_figure(
    path: Path, predictions: Sequence[Prediction], networks: Networks, command: str
) -> Path:
    """Draw the grid as `path` with the suffixes .png, .svg and .pdf, with its numbers as .csv and its
    caption as .txt. Returns the path of the PNG."""
    figure, title = grid_figure(predictions, networks)
    known = tuple(f".{suffix}" for suffix in figure_files.SUFFIXES)
    stem = path.with_suffix("") if path.suffix in known else path
    records = [prediction.traced_run.record for prediction in predictions]
    caption = figure_files.caption_of(title, [READING], records, command)
    return figure_files.save(figure, stem, as_rows(predictions, networks), caption)


READING = "Predicted by replay from traces: median over the traced evaluations."


def grid_figure(predictions: Sequence[Prediction], networks: Networks) -> tuple[Figure, str]:
    """A map where both axes have points (of one run's time, two runs' ratio, or the fastest of more), else
    lines along the one that has; and its title. Raises ConfigError where neither has."""
    sizes = len(networks.rtts_ms), len(networks.rates_mbit)
    if max(sizes) < 2:
        raise ConfigError("--figure", "needs two or more values of rtt_ms or rate_mbit")
    records = [prediction.traced_run.record for prediction in predictions]
    names, common = labels(records, lambda key: key.startswith(("network.", "shaper.")))
    runs = [
        Run(prediction, name, colour)
        for prediction, name, colour in zip(
            predictions, names, distinct_colours([system_of(r) for r in records]), strict=True
        )
    ]
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    if min(sizes) < 2:
        title = _draw_lines(axes, runs, networks)
    elif len(runs) == 1:
        title = _draw_times(figure, axes, runs[0], networks)
    elif len(runs) == 2:
        title = _draw_ratio(figure, axes, runs[0], runs[1], networks)
    else:
        title = _draw_winners(axes, runs, networks)
    if len(runs) > 1:
        keys = [Patch(color=run.colour, label=run.name) for run in runs]
        columns = 2 if max(len(run.name) for run in runs) < 45 else 1
        figure.legend(
            handles=keys, loc="outside lower center", ncols=columns, frameon=False, fontsize=TEXT
        )
    else:
        title = f"{runs[0].name}: {title[0].lower()}{title[1:]}"
    what = ", ".join([_experiments(records), *([common] if common else [])])
    set_title(figure, title, what)
    return laid_out(figure), f"{title}. {what}."


def _experiments(records: Sequence[Record]) -> str:
    names = dict.fromkeys(experiment(record) for record in records)
    return ", ".join(TITLES.get(name, name) for name in names)


@dataclass(frozen=True)
class Run:
    """One of the runs beside one another: what is predicted, its name, its colour."""

    prediction: Prediction
    name: str
    colour: str

    @property
    def online_ns(self) -> Floats:
        """The predicted medians, (networks,)."""
        return self.prediction.online_ns


def _draw_lines(axes: Axes, runs: Sequence[Run], networks: Networks) -> str:
    """Time along one axis: the median, the evaluations' range, and where lines cross."""
    along_rtt = len(networks.rtts_ms) > 1
    rates = [rate for rate in networks.rates_mbit if rate is not None]
    x = list(networks.rtts_ms) if along_rtt else rates
    for run in runs:
        axes.plot(x, run.online_ns, color=run.colour)
        band = run.prediction.low_ns, run.prediction.high_ns
        axes.fill_between(x, *band, color=run.colour, alpha=0.15, linewidth=0)
    (_rtt_axis if along_rtt else _rate_axis)(axes, "x", x)
    axes.set_xlim(x[0], x[-1])
    axes.set_ylabel("predicted online time")
    value_axis(axes, TIME, [v for r in runs for v in (*r.prediction.low_ns, *r.prediction.high_ns)])
    axes.grid(visible=True, which="major", color=GRID, linewidth=0.6)
    for a, b in combinations(runs, 2):
        for at in crossings(x, a.online_ns, b.online_ns):
            _mark(axes, at, f"{digits(at)} ms" if along_rtt else _rate(at))
    fixed = _rate(networks.rates_mbit[0]) if along_rtt else f"{networks.rtts_ms[0]:g} ms"
    return f"Predicted online time at {fixed}"


def _mark(axes: Axes, at: float, text: str) -> None:
    axes.axvline(at, color=GREY, linestyle=DASHES, linewidth=0.8)
    place = axes.get_xaxis_transform()
    axes.text(at, 1.0, f" {text}", transform=place, fontsize=TEXT, va="top", color=GREY)


def _draw_times(figure: Figure, axes: Axes, run: Run, networks: Networks) -> str:
    """Time as colour and contours."""
    _map_axes(axes, networks)
    times = _shaped(run.online_ns, networks)
    edges = [_edges(values) for values in _axes_of(networks)]
    norm = LogNorm(times.min() / 1.001, times.max() * 1.001)
    mesh = axes.pcolormesh(*edges, times, cmap="viridis_r", norm=norm, rasterized=True)
    levels = [t for t in CONTOURS_NS if times.min() < t < times.max()]
    lines = axes.contour(*_axes_of(networks), times, levels=levels, colors="white", linewidths=0.8)
    _label_contours(axes, lines, TIME.tick)
    bar = figure.colorbar(mesh, ax=axes, format=FuncFormatter(lambda value, _: TIME.tick(value)))
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    return "Predicted online time"


def _draw_ratio(figure: Figure, axes: Axes, a: Run, b: Run, networks: Networks) -> str:
    """How many times faster the one or the other is: its colour, with contours; the line of equal time
    is strong."""
    _map_axes(axes, networks)
    ratio = np.log(_shaped(b.online_ns, networks) / _shaped(a.online_ns, networks))
    edges = [_edges(values) for values in _axes_of(networks)]
    most = max(float(np.abs(ratio).max()), np.log(RATIOS[0]))
    colours = [b.colour, paler(b.colour, 0.6), "#ffffff", paler(a.colour, 0.6), a.colour]
    cmap = LinearSegmentedColormap.from_list("ratio", colours)
    mesh = axes.pcolormesh(
        *edges, ratio, cmap=cmap, vmin=-most, vmax=most, alpha=0.85, rasterized=True
    )
    levels = [t for t in _ratio_levels(most) if ratio.min() < t < ratio.max()]
    for chosen, width in (([t for t in levels if t], 0.8), ([t for t in levels if not t], 2.4)):
        if chosen:
            lines = axes.contour(
                *_axes_of(networks), ratio, levels=chosen, colors="black", linewidths=width,
                linestyles="solid",
            )  # fmt: skip
            _label_contours(axes, lines, _times_text)
    bar = figure.colorbar(mesh, ax=axes, ticks=_ratio_levels(most))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _times_text(value)))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.set_label(f"← {b.name} faster      {a.name} faster →", fontsize=TEXT)
    return "Ratio of predicted online times (strong line: equal)"


def _ratio_levels(most: float) -> list[float]:
    """The logarithms of the ratios that get a contour, both ways and well apart; `most` is the largest
    there is."""
    chosen = [0.0]
    for level in np.log(RATIOS):
        if chosen[-1] + most / CONTOURS <= level <= most:
            chosen.append(float(level))
    return [*(-level for level in reversed(chosen[1:])), *chosen]


def _times_text(log_ratio: float) -> str:
    """A contour's label: how many times faster the faster is."""
    return "equal" if abs(log_ratio) < 1e-9 else f"{float(np.exp(abs(log_ratio))):.3g}×"


def _label_contours(axes: Axes, lines: ContourSet, text: Callable[[float], str]) -> None:
    for label in axes.clabel(lines, fmt=text, fontsize=8, inline=False, colors="black"):
        label.set_bbox({"facecolor": "white", "alpha": 0.7, "pad": 1.0, "linewidth": 0})


def _draw_winners(axes: Axes, runs: Sequence[Run], networks: Networks) -> str:
    """Who is fastest: its colour, the fuller the more it leads; a line where the first two are equal."""
    times = np.stack([_shaped(run.online_ns, networks) for run in runs])
    first, second = np.sort(times, axis=0)[:2]
    lead = np.clip(np.log(second / first) / np.log(FULL_COLOUR), 0.0, 1.0)[..., None]
    winners = np.array([to_rgb(run.colour) for run in runs])[times.argmin(axis=0)]
    edges = [_edges(values) for values in _axes_of(networks)]
    strength = 0.12 + 0.88 * lead
    axes.pcolormesh(*edges, 1 - strength * (1 - winners), rasterized=True)
    for a, b in combinations(range(len(runs)), 2):
        others = np.delete(times, [a, b], axis=0)
        hidden = (others < np.maximum(times[a], times[b])).any(axis=0)
        ratio = np.ma.masked_where(hidden, np.log(times[a] / times[b]))
        if ratio.count() and ratio.min() < 0 < ratio.max():
            axes.contour(*_axes_of(networks), ratio, levels=[0.0], colors="black", linewidths=1.4)
    _map_axes(axes, networks)
    return f"Fastest, by prediction (full colour: {FULL_COLOUR:g}× and more; line: equal)"


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
