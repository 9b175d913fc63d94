"""`permbench report`: the figures and the page, from stored records."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.verb_show import HOW_TO, VALUES, add_filters, chosen, split_folder
from harness.config.prices import Prices, prices_of
from harness.errors import ConfigError
from harness.records import query as rows
from harness.records import store
from harness.records.stats import format_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from harness.records.record import Record
    from harness.replay.predicted_curves import TracedFolder
    from harness.report.series import Chart
    from harness.report.text_table import TextTable

PAGE = "report.html"

EXAMPLES = """\
examples:
  permbench report
  permbench report network=permllm-wan,loopback
  permbench report --value bytes experiment=layer
  permbench report --x network.rtt_ms
  permbench report --x kv_len --value sum model=gpt2
  permbench report --against results/reference/headline experiment=layer
  permbench report --output page.html prices.per_gb=0.05 prices.date=2027-01
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is drawn along the axes, and filters."""
    parser.description = (
        "Draw argmax against n, a layer against its width, non-linear functions against size, slowdown "
        "against width and the time of each token against its position; or with --x anything against any "
        "key. Each figure "
        "comes as PNG, SVG and PDF, with its points (.csv) and a caption (.txt), in "
        "<results_dir>/figures. Online times over shaped links have replay's prediction behind them "
        "where the same run was traced on the same machine (shaper=none trace=true). The page, "
        "report.html, shows all of it and more in one file that loads nothing."
    )
    parser.epilog = EXAMPLES
    parser.add_argument(
        "--x", metavar="KEY", help="a key with numbers, as network.rtt_ms, threads or kv_len"
    )
    parser.add_argument(
        "--value",
        choices=VALUES,
        default="online",
        help="along y; as of show --pivot. Default: online",
    )
    parser.add_argument(
        "--output",
        metavar="PATH",
        help=f"the page's file, written whole or not at all. Default: <results_dir>/{PAGE}",
    )
    parser.add_argument(
        "--against",
        metavar="OTHER",
        help="another set of records, as of compare: the page then has a table of what changed since",
    )
    add_filters(parser)


def run(args: argparse.Namespace) -> int:
    """Draw and write, and print the paths."""
    output = Path(args.output) if args.output else None
    folder, filters = split_folder(args.arguments)
    for line in report(folder, filters, args.x, args.value, output, args.against):
        print(line)
    return 0


def report(
    folder: Path,
    filters: Sequence[str] = (),
    x: str | None = None,
    value: str = "online",
    output: Path | None = None,
    against: str | None = None,
) -> list[str]:
    """Draw the figures of the chosen records and write the page, as `output` or `PAGE` in the folder, with
    what changed since `against`, a side of compare; returns the lines to print."""
    from harness.replay.predicted_curves import TracedFolder, with_predictions  # noqa: PLC0415 -
    from harness.report.extrapolation import with_extrapolations  # noqa: PLC0415
    from harness.report.figure_files import listing, save_chart  # noqa: PLC0415 - numpy and
    from harness.report.figures import draw  # noqa: PLC0415 - matplotlib are slow
    from harness.report.published_points import with_published  # noqa: PLC0415
    from harness.report.series import STANDARD, charts_over, standard_charts  # noqa: PLC0415

    asked = filters
    prices, filters = prices_of(asked)
    records = chosen(folder, filters)
    if x is not None and not records:
        raise ConfigError("--x", f"no record in {folder} passes the filters; {HOW_TO}")
    store.check_writable(folder / "figures")
    charts = charts_over(records, x, value) if x else list(standard_charts(records, value))
    traced = TracedFolder(folder)
    charts = [
        with_extrapolations(with_published(with_predictions(chart, traced))) for chart in charts
    ]
    command = _command(folder, asked, x, value, against)
    drawn = [(chart, draw(chart)) for chart in charts]
    paths = [save_chart(chart, figure, folder / "figures", command) for chart, figure in drawn]
    lines = [listing(path, chart.left_out) for path, chart in zip(paths, charts, strict=True)]
    if not charts:
        lines = [f"no figure: no correct record of {', '.join(STANDARD)} in {folder}; {HOW_TO}"]
    if records:
        changed = _changed(against, folder, filters, records) if against else ()
        page = _page(folder, records, drawn, traced, changed, prices, command)
        lines.append(_written(output or folder / PAGE, page, len(records)))
    return lines


def _page(
    folder: Path,
    records: "Sequence[Record]",
    drawn: "Sequence[tuple[Chart, Figure]]",
    traced: "TracedFolder",
    changed: "Sequence[TextTable]",
    prices: Prices,
    command: str,
) -> bytes:
    from harness.replay.page_traces import page_traces, turns  # noqa: PLC0415 - slow, as above
    from harness.report.page.html_page import html_page  # noqa: PLC0415
    from harness.report.page.page_content import page_content  # noqa: PLC0415
    from harness.reproduce.outcomes import load_outcomes  # noqa: PLC0415

    traces, turning = page_traces(records, traced), turns(records, traced)
    shown = (drawn, traces.runs, traces.left_out, turning, load_outcomes(folder), changed)
    return html_page(page_content(records, *shown, prices, command))


def _changed(
    against: str, folder: Path, filters: Sequence[str], records: "Sequence[Record]"
) -> "Sequence[TextTable]":
    """What changed since another set of records. Raises ConfigError."""
    from harness.records.paired_records import load_side, match  # noqa: PLC0415 - numpy, as above
    from harness.report.changes import change_tables  # noqa: PLC0415

    before = load_side(against, folder)
    parsed = rows.parse_filters(filters, [*before, *records])
    return list(change_tables(match(rows.select(before, parsed), records)))


def _written(output: Path, page: bytes, count: int) -> str:
    """Write the page, whole or not at all; its path, for people. Raises ConfigError."""
    try:
        store.write_whole(output, page)
    except OSError as error:
        raise ConfigError("--output", f"{output}: {error.strerror}") from None
    return f"{output} (the page: {count} records, {format_bytes(len(page))})"


def _command(
    folder: Path, arguments: Sequence[str], x: str | None, value: str, against: str | None
) -> str:
    """What draws the same again."""
    options = [
        *(["--x", x] if x else []),
        *(["--value", value] if value != "online" else []),
        *(["--against", against] if against else []),
    ]
    return shlex.join(["permbench", "report", *options, f"results_dir={folder}", *arguments])
