"""A figure's files: the picture as PNG, SVG and PDF, its numbers as CSV, its caption as text."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from harness.records import selection
from harness.records.export import encoded
from harness.records.record import Record
from harness.records.store import write_whole
from harness.report.figures import (
    EXTRAPOLATED,
    FLOOR,
    OUTSIDE,
    PREDICTED,
    PUBLISHED,
    SPREAD,
    area,
)
from harness.report.series import Chart, Point, PublishedPoint, Series

PICTURES = ("png", "svg", "pdf")
SUFFIXES = (*PICTURES, "csv", "txt")
# The same figure gives the same bytes.
UNDATED = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}


def save_chart(chart: Chart, figure: Figure, folder: Path, command: str) -> Path:
    """Write all files of a chart and its figure into `folder`; the path of the PNG."""
    caption = chart_caption(chart, command)
    return save(figure, folder / chart.name, chart_rows(chart), caption)


def chart_caption(chart: Chart, command: str) -> str:
    """What stands under a chart; see `caption_of`."""
    title, records = f"{chart.title}. {chart.common}.", [point.record for point in chart.points]
    return caption_of(title, _reading(chart), records, command)


def save(figure: Figure, stem: Path, table: Sequence[dict[str, Any]], caption: str) -> Path:
    """Write `stem`.png, .svg, .pdf, .csv and .txt; the path of the first."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = {suffix: stem.with_name(f"{stem.name}.{suffix}") for suffix in SUFFIXES}
    shown = area(figure)
    with rc_context({"svg.hashsalt": "permbench", "pdf.fonttype": 42}):
        for suffix in PICTURES:
            picture = io.BytesIO()
            dated = UNDATED[suffix]
            figure.savefig(picture, format=suffix, dpi=160, bbox_inches=shown, metadata=dated)
            write_whole(paths[suffix], picture.getvalue())
    write_whole(paths["csv"], encoded(table, "csv"))
    write_whole(paths["txt"], caption.encode())
    return paths["png"]


def listing(path: Path, left_out: int = 0) -> str:
    """A figure's files, in one line, and how many runs it leaves out."""
    others = ", ".join(f".{suffix}" for suffix in SUFFIXES if suffix != "png")
    left = f"; {left_out} runs of other sweeps left out: filters choose" if left_out else ""
    return f"{path} (and {others}){left}"


def chart_rows(chart: Chart) -> list[dict[str, Any]]:
    """A row for each point, then one for each place of a predicted or extrapolated curve; in the value's
    unit."""
    unit = f"_{chart.value.unit}" if chart.value.unit in ("ns", "bytes") else ""
    found = []
    for panel, lines in chart.panels.items():
        head = {"panel": panel} if panel else {}
        for line in lines:
            own = head | {"series": line.label}
            found += [own | _point_row(chart.x, unit, line, point) for point in line.points]
    found += [_published_row(chart.x, unit, point) for point in chart.published]
    return found + [
        ({"panel": panel} if panel else {})
        | {"series": line.label, "what": what, chart.x: x, f"median{unit}": value}
        for panel, lines in chart.panels.items()
        for line in lines
        for what, curve in (("predicted", line.predicted), ("extrapolated", line.extrapolated))
        if curve
        for x, value in zip(curve.x, curve.values, strict=True)
    ]


def _point_row(x: str, unit: str, line: Series, point: Point) -> dict[str, Any]:
    return {
        "what": "measured",
        x: point.x,
        f"median{unit}": point.value,
        f"min{unit}": point.low,
        f"max{unit}": point.high,
        f"floor{unit}": point.floor or None,
        "outside_tolerance": point.outside,
        "id": point.record.id,
    }


def _published_row(x: str, unit: str, point: PublishedPoint) -> dict[str, Any]:
    row, panel = point.row, {"panel": point.panel} if point.panel else {}
    how = f"published, {row.how}, {row.evidence}"
    own = {"series": row.system, "what": how, x: point.x, f"median{unit}": point.value}
    return panel | own | {"source": row.source}


def _reading(chart: Chart) -> list[str]:
    """How to read the marks."""
    points = chart.points
    marks = (
        (any(point.low < point.high for point in points), SPREAD.strip("()")),
        (bool(chart.published), PUBLISHED),
        (any(line.predicted for line in chart.series), PREDICTED),
        (any(line.extrapolated for line in chart.series), EXTRAPOLATED),
        (any(point.floor > 0 for point in points), FLOOR),
        (any(point.outside for point in points), OUTSIDE),
        (chart.left_out > 0, f"{chart.left_out} runs that no line holds are left out"),
    )
    return [f"{text[0].upper()}{text[1:]}." for seen, text in marks if seen]


def caption_of(title: str, reading: Sequence[str], records: Sequence[Record], command: str) -> str:
    """What stands under a figure, and where its numbers come from: command, code, machine, samples."""
    samples = [len(r.phases["online"].wall_ns) for r in records if "online" in r.phases]
    lines = [
        " ".join([title, *reading]),
        "",
        f"command: {command}",
        f"commit: {_each('commit', records)}",
        f"machine: {_each('machine', records)}",
        f"runner: {_listed(r.flat.get('runner.name') for r in records)}",
        f"samples: {_between(samples)} a run; {len({selection.handle(r) for r in records})} runs",
        f"measured: {_between([str(r.environment.get('date', '–'))[:10] for r in records])}",
    ]
    return "\n".join(lines) + "\n"


def _each(condition: str, records: Sequence[Record]) -> str:
    return _listed(map(selection.condition_texts(condition, records), records))


def _listed(texts: Iterable[object]) -> str:
    return "; ".join(dict.fromkeys(map(str, texts)))


def _between(values: Sequence[Any]) -> str:
    low, high = min(values, default="–"), max(values, default="–")
    return str(low) if low == high else f"{low} to {high}"
