"""`permbench report`: the figures, from stored records."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from harness.cli.verb_show import HOW_TO, VALUES, add_filters, chosen, split_folder
from harness.errors import ConfigError

EXAMPLES = """\
examples:
  permbench report
  permbench report network=permllm-wan,loopback
  permbench report --value bytes experiment=layer
  permbench report --x network.rtt_ms
  permbench report --x kv_len --value sum model=gpt2
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is drawn along the axes, and filters."""
    parser.description = (
        "Draw argmax against n, a layer against its width, non-linear functions against size and the "
        "time of each token against its position; or with --x anything against any key. Each figure "
        "comes as PNG, SVG and PDF, with its points (.csv) and a caption (.txt), in "
        "<results_dir>/figures. Online times over shaped links have replay's prediction behind them "
        "where the same run was traced on the same machine (shaper=none trace=true)."
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
    add_filters(parser)


def run(args: argparse.Namespace) -> int:
    """Draw, and print the paths."""
    folder, filters = split_folder(args.arguments)
    for line in report(folder, filters, args.x, args.value):
        print(line)
    return 0


def report(
    folder: Path, filters: Sequence[str] = (), x: str | None = None, value: str = "online"
) -> list[str]:
    """Draw the figures of the chosen records; returns the lines to print."""
    from harness.replay.predicted_curves import with_predictions  # noqa: PLC0415 - numpy and
    from harness.report.figure_files import listing, save_chart  # noqa: PLC0415 - matplotlib are
    from harness.report.series import STANDARD, charts_over, standard_charts  # noqa: PLC0415 - slow

    records = chosen(folder, filters)
    if x is not None and not records:
        raise ConfigError("--x", f"no record in {folder} passes the filters; {HOW_TO}")
    charts = charts_over(records, x, value) if x else list(standard_charts(records, value))
    command = _command(folder, filters, x, value)
    paths = [
        save_chart(with_predictions(chart, folder), folder / "figures", command) for chart in charts
    ]
    if not charts:
        return [f"no figure: no correct record of {', '.join(STANDARD)} in {folder}; {HOW_TO}"]
    return [listing(path, chart.left_out) for path, chart in zip(paths, charts, strict=True)]


def _command(folder: Path, filters: Sequence[str], x: str | None, value: str) -> str:
    """What draws the same again."""
    options = [*(["--x", x] if x else []), *(["--value", value] if value != "online" else [])]
    return shlex.join(["permbench", "report", *options, f"results_dir={folder}", *filters])
