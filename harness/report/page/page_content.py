"""What the page shows of some records."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from harness.config.prices import Prices
from harness.records import query as rows
from harness.records import selection
from harness.records.record import Record
from harness.report.approximation_table import approximation_tables
from harness.report.columns import sort_key
from harness.report.comparison import references
from harness.report.figure_files import caption_of, chart_caption, chart_rows
from harness.report.headline_table import headline_tables
from harness.report.labels import labels
from harness.report.page.beside_papers import claims_table, published_beside
from harness.report.page.headline import Contest, contests, sentences
from harness.report.page.headline_figure import READING, headline_figure, headline_rows
from harness.report.page.html_page import PageContent, PageFigure
from harness.report.page.page_svg import inline_svg
from harness.report.page.phase_bars import bar_data
from harness.report.page.record_rows import record_table
from harness.report.page.token_costs import cost_table
from harness.report.series import Chart
from harness.report.text_table import TextTable

HOW_TO_READ = (
    "Each mark is the median of one run, the bar through it goes from the least to the most of its samples. "
    "Lower is better. A system has one colour and one shape in all figures."
)
MOST_ROWS = 300  # of a figure's numbers, in the page; its CSV file has all


def page_content(
    records: Sequence[Record],
    drawn: Sequence[tuple[Chart, Figure]],
    traces: Sequence[Mapping[str, Any]],
    left_out: Sequence[str],
    turns: Sequence[str],
    outcomes: Sequence[Mapping[str, Any]],
    changed: Sequence[TextTable],
    prices: Prices,
    command: str,
) -> PageContent:
    """The page of `records`, which are the newest of their runs.

    drawn: the figures. traces, left_out: of `harness.replay.page_traces`. turns: sentences on where
    systems take equal time. outcomes: of the claims of papers, a row each. changed: since
    another set of records.
    """
    beside = references(records)
    found = contests(records, beside)
    ordered = [
        r for group in rows.by_experiment(records).values() for r in sorted(group, key=sort_key)
    ]
    names = _names(ordered)
    groups = [list(sentences(contest, records, beside)) for contest in found]
    return PageContent(
        title=", ".join(rows.by_experiment(records)) or "no record",
        summary=_summary(records),
        command=command,
        headline=[*groups, *([list(turns)] if turns else [])],
        notes=_marks(found),
        first=_first(found, command) if found else None,
        first_tables=[
            *headline_tables([r for contest in found for r in contest.records]),
            *approximation_tables(records),
        ],
        claims=claims_table(outcomes),
        changed=changed,
        published=published_beside(records),
        figures=[_figure(chart, figure, command) for chart, figure in drawn],
        table=record_table(records),
        bars=bar_data(ordered, names),
        first_runs=[r.id for contest in found for r in contest.records] or [r.id for r in ordered[:4]],
        traces=traces,
        left_out=left_out,
        money=cost_table(ordered, names, prices),
    )  # fmt: skip


def _names(ordered: Sequence[Record]) -> list[str]:
    """What to call each record: its experiment, and what tells it apart in that."""
    return [
        f"{experiment}: {name}"
        for experiment, group in rows.by_experiment(ordered).items()
        for name in labels(group)[0]
    ]


def _summary(records: Sequence[Record]) -> str:
    dates = sorted(str(r.environment.get("date", ""))[:10] for r in records)
    machines = list(dict.fromkeys(map(selection.condition_texts("machine", records), records)))
    good = sum(record.status == "ok" for record in records)
    where = "; ".join(machines[:3]) + ("; …" if len(machines) > 3 else "")
    span = dates[0] if dates and dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    others = f", {len(records) - good} failed, refused or wrong" if good < len(records) else ""
    return f"{len(records)} records ({good} good{others}), measured {span} on {where}."


def _marks(found: Sequence[Contest]) -> list[str]:
    marked = any(selection.outside(record) for contest in found for record in contest.records)
    return ["*: measured over a link that calibration found outside tolerance."] if marked else []


def _first(found: Sequence[Contest], command: str) -> PageFigure:
    figure = headline_figure(found)
    records = [record for contest in found for record in contest.records]
    title = "Online time, and online and offline time together"
    source = caption_of(title, [], records, command).partition("\n\n")[2]
    return _page_figure(figure, "headline-figure", title, READING, source, headline_rows(found))


def _figure(chart: Chart, figure: Figure, command: str) -> PageFigure:
    first, _, source = chart_caption(chart, command).partition("\n\n")
    marks = first.partition(f"{chart.common}.")[2].strip()
    title = f"{chart.title}: {chart.common}" if chart.common else chart.title
    reading = " ".join([HOW_TO_READ, marks])
    return _page_figure(figure, chart.name, title, reading, source, chart_rows(chart))


def _page_figure(
    figure: Figure,
    name: str,
    title: str,
    reading: str,
    source: str,
    numbers: Sequence[dict[str, Any]],
) -> PageFigure:
    heads = tuple(dict.fromkeys(key for row in numbers for key in row))
    body = tuple(tuple(_text(row.get(head)) for head in heads) for row in numbers[:MOST_ROWS])
    left = len(numbers) - len(body)
    notes = (f"{left} more rows are in the figure's CSV file.",) if left > 0 else ()
    right = tuple(any(isinstance(row.get(head), int | float) for row in numbers) for head in heads)
    svg = inline_svg(figure, name, title)
    return PageFigure(title, svg, reading, source, TextTable(title, heads, right, body, notes))


def _text(value: object) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
