"""A paper's figures: each of the records that its filters choose, with predictions and published numbers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.records import query as rows
from harness.records.record import Record
from harness.replay.predicted_curves import TracedFolder, with_predictions
from harness.report.extrapolation import with_extrapolations
from harness.report.figure_files import listing, save_chart
from harness.report.figures import draw
from harness.report.published_points import with_published
from harness.report.series import standard_charts
from harness.reproduce.claims import Paper


@dataclass(frozen=True)
class PaperFigure:
    """One figure. show: filters, as of `permbench show`; value: along y."""

    name: str
    show: tuple[str, ...]
    value: str = "online"


def save_figures(paper: Paper, records: Sequence[Record], folder: Path) -> Iterator[str]:
    """Draw the paper's figures of `records` into `folder`/figures; yields a line for each."""
    traced = TracedFolder(folder)
    for figure in figures_of(paper):
        chosen = rows.select(records, rows.parse_filters(figure.show, records))
        for number, chart in enumerate(standard_charts(chosen, figure.value)):
            name = figure.name if number == 0 else f"{figure.name}-{chart.name}"
            drawn = with_published(with_predictions(replace(chart, name=name), traced))
            drawn = with_extrapolations(drawn)
            command = f"permbench reproduce {paper.name} results_dir={folder}"
            path = save_chart(drawn, draw(drawn), folder / "figures", command)
            yield listing(path, drawn.left_out)


def figures_of(paper: Paper) -> list[PaperFigure]:
    """The figures that the file names."""
    return [PaperFigure(**{**figure, "show": tuple(figure["show"])}) for figure in paper.figures]
