"""The headline's figure: each system's online time, and the same with its offline work."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from harness.records import query as rows
from harness.records import selection
from harness.records.record import Record
from harness.records.stats import digits, format_ns
from harness.report.axes import log_ticks
from harness.report.figures import GREY, GRID, TEXT, laid_out, set_title
from harness.report.network_floor import floor_ns
from harness.report.page.headline import Contest
from harness.report.series import TITLES
from harness.report.styles import Style, line_styles, system_of
from harness.report.values import VALUES

READING = (
    "Each row is a system. The filled mark is its online time; the hollow one adds its offline work, which "
    "can be done before the input is known. The upright tick is what the network alone takes: no faster "
    "machine gets below it. The axis is logarithmic: equal distances are equal ratios. Beside the marks "
    "stands how many times as long as the first row's each takes."
)
PAIR, INCHES_ROW, INCHES_PANEL = (0, (4, 2)), 0.34, 0.85


def headline_figure(found: Sequence[Contest]) -> Figure:
    """A panel for each contest, one below the other."""
    heights = [INCHES_PANEL + INCHES_ROW * len(contest.records) for contest in found]
    figure = Figure(figsize=(7.2, sum(heights) + 0.6), layout="constrained")
    panels = figure.subplots(len(found), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, contest in zip(panels, found, strict=True):
        _draw(axes, contest)
    set_title(figure, "Online time, and online and offline time together", "")
    figure.legend(
        handles=_handles(), loc="outside lower center", ncols=3, frameon=False, fontsize=TEXT
    )
    return laid_out(figure)


def headline_rows(found: Sequence[Contest]) -> list[dict[str, Any]]:
    """The figure's numbers, in ns."""
    return [
        {
            "experiment": contest.experiment,
            "system": contest.name(record),
            "online_ns": VALUES["online"].number(record),
            "sum_ns": rows.sum_ns(record),
            "network_alone_ns": floor_ns(record) or None,
            "id": record.id,
        }
        for contest in found
        for record in contest.records
    ]


def _handles() -> list[Line2D]:
    marks: tuple[tuple[str, dict[str, Any]], ...] = (
        ("online", {"marker": "o"}),
        ("online and offline", {"marker": "o", "markerfacecolor": "#ffffff"}),
        ("the network alone", {"marker": "|", "markersize": 10}),
    )
    return [
        Line2D([], [], linestyle="none", color=GREY, label=label, **look) for label, look in marks
    ]


def _draw(axes: Axes, contest: Contest) -> None:
    styles = line_styles([system_of(record) for record in contest.records])
    for place, (record, style) in enumerate(zip(contest.records, styles, strict=True)):
        _draw_row(axes, place, record, style, contest.reference)
    numbers = [n for record in contest.records for n in _numbers(record) if n > 0]
    low, high = min(numbers) / 1.5, max(numbers) * 6
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator(log_ticks(low, high, least=2)))  # texts need the room
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda number, _: VALUES["online"].tick(number)))
    axes.set_yticks(range(len(contest.records)), [contest.name(r) for r in contest.records])
    axes.set_ylim(len(contest.records) - 0.4, -0.6)
    axes.grid(visible=True, axis="x", color=GRID, linewidth=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    title = f"{TITLES.get(contest.experiment, contest.experiment)}: {contest.common}"
    axes.set_title(title, fontsize=9, loc="left")


def _numbers(record: Record) -> list[float]:
    found = VALUES["online"].number(record), rows.sum_ns(record), floor_ns(record)
    return [number for number in found if number]


def _draw_row(axes: Axes, place: int, record: Record, style: Style, reference: Record) -> None:
    online, total = VALUES["online"].number(record), rows.sum_ns(record)
    assert online is not None  # comparison.references leaves the others out
    look: dict[str, Any] = {
        "color": style.colour,
        "marker": style.marker,
        "markersize": 7,
        "linestyle": "none",
    }
    if total:
        axes.plot([online, total], [place, place], color=style.colour, linestyle=PAIR, linewidth=1)
        axes.plot([total], [place], markerfacecolor="#ffffff", **look)
    axes.plot([online], [place], **look)
    floor = floor_ns(record)
    if floor:
        axes.plot([floor], [place], marker="|", markersize=13, color=GREY, linestyle="none")
    axes.annotate(
        _text(record, reference), (max(online, total or 0), place), (9, 0),
        textcoords="offset points", va="center", fontsize=TEXT,
    )  # fmt: skip


def _text(record: Record, reference: Record) -> str:
    parts = []
    for head, number in (("online", VALUES["online"].number), ("in all", rows.sum_ns)):
        own, other = number(record), number(reference)
        if own and other:
            times = "" if record is reference else f" ({digits(own / other)}×)"
            parts.append(f"{format_ns(own)} {head}{times}")
    return ", ".join(parts) + "*" * selection.outside(record)
