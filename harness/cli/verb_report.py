"""`permbench report`: the figures, from stored records."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from harness.cli.verb_show import HOW_TO, add_filters, chosen, split_folder

EXAMPLES = """\
examples:
  permbench report
  permbench report network=permllm-wan,loopback
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Filters."""
    parser.description = (
        "Draw argmax time against n and layer time against d, as PNG and SVG in "
        "<results_dir>/figures."
    )
    parser.epilog = EXAMPLES
    add_filters(parser)


def run(args: argparse.Namespace) -> int:
    """Draw, and print the paths."""
    folder, filters = split_folder(args.arguments)
    for line in report(folder, filters):
        print(line)
    return 0


def report(folder: Path, filters: Sequence[str] = ()) -> list[str]:
    """Draw the figures of the chosen records; returns the lines to print."""
    from harness.report.figures import FIGURES, save_figures  # noqa: PLC0415 - matplotlib is slow to import

    paths = save_figures(chosen(folder, filters), folder / "figures")
    drawn = {path.stem for path in paths}
    missing = [
        f"no {name} figure: no correct {name} record in {folder}; {HOW_TO}"
        for name in FIGURES
        if name not in drawn
    ]
    return [*map(str, paths), *missing]
