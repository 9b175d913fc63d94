"""A figure's files: the picture as PNG, SVG and PDF, its numbers as CSV, its caption as text."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from harness.records import query as rows
from harness.records import selection
from harness.records.export import encoded
from harness.records.record import Record
from harness.records.store import write_whole
from harness.report.figures import FLOOR, OUTSIDE, PREDICTED, SPREAD, draw
from harness.report.series import Chart, Point, Series

PICTURES = ("png", "svg", "pdf")
SUFFIXES = (*PICTURES, "csv", "txt")
# The same figure gives the same bytes.
UNDATED = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}


def save_chart(chart: Chart, folder: Path, command: str) -> Path:
    """Draw a chart and write all its files into `folder`; the path of the PNG."""
    caption = caption_of(
        f"{chart.title}. {chart.common}.",
        _reading(chart),
        [p.record for p in chart.points],
        command,
    )
    return save(draw(chart), folder / chart.name, chart_rows(chart), caption)


def save(figure: Figure, stem: Path, table: Sequence[dict[str, Any]], caption: str) -> Path:
    """Write `stem`.png, .svg, .pdf, .csv and .txt; the path of the first."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = {suffix: stem.with_name(f"{stem.name}.{suffix}") for suffix in SUFFIXES}
    with rc_context({"svg.hashsalt": "permbench", "pdf.fonttype": 42}):
        for suffix in PICTURES:
            figure.savefig(paths[suffix], dpi=160, bbox_inches="tight", metadata=UNDATED[suffix])
    write_whole(paths["csv"], encoded(table, "csv"))
    write_whole(paths["txt"], caption.encode())
    return paths["png"]


def listing(path: Path, left_out: int = 0) -> str:
    """A figure's files, in one line, and how many runs it leaves out."""
    others = ", ".join(f".{suffix}" for suffix in SUFFIXES if suffix != "png")
    left = f"; {left_out} runs of other sweeps left out: filters choose" if left_out else ""
    return f"{path} (and {others}){left}"


def chart_rows(chart: Chart) -> list[dict[str, Any]]:
    """A row for each point, then one for each place of a predicted curve; in the value's unit."""
    unit = f"_{chart.value.unit}" if chart.value.unit in ("ns", "bytes") else ""
    found = []
    for panel, lines in chart.panels.items():
        head = {"panel": panel} if panel else {}
        for line in lines:
            own = head | {"series": line.label}
            found += [own | _point_row(chart.x, unit, line, point) for point in line.points]
    return found + [
        ({"panel": panel} if panel else {})
        | {"series": line.label, "what": "predicted", chart.x: x, f"median{unit}": value}
        for panel, lines in chart.panels.items()
        for line in lines
        if line.predicted
        for x, value in zip(line.predicted.x, line.predicted.values, strict=True)
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


def _reading(chart: Chart) -> list[str]:
    """How to read the marks."""
    points = chart.points
    marks = (
        (any(point.low < point.high for point in points), SPREAD.strip("()")),
        (any(line.predicted for line in chart.series), PREDICTED),
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
        f"runner: {_listed(rows.flatten(r.config).get('runner.name') for r in records)}",
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
