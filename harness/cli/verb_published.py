"""`permbench published`: published numbers, as printed, and on another network where that can be computed."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.records import export
from harness.records.published import COLUMNS, Published, load_published, select_published

if TYPE_CHECKING:
    from harness.config.network import NetworkConfig

DOCUMENTS = ("markdown", "latex")  # harness.report.text_table.FORMS, which is slow to import
EXAMPLES = """\
examples:
  permbench published system=permllm,mpcformer
  permbench published workload=bert-base metric=time evidence=paper
  permbench published system=shaft workload=bert-base --network permllm-wan
  permbench published --format csv > published.csv
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Filters, a network, the format."""
    parser.description = (
        "Show published numbers of private inference: who measured or projected them, over which "
        "network, and where we read them. Those that contradict their own network are marked."
    )
    parser.epilog = EXAMPLES
    parser.add_argument(
        "arguments",
        nargs="*",
        metavar="COLUMN=TEXT",
        help="only numbers with this text in a column (a comma list: any of them), whatever the case; "
        f"columns: {', '.join(COLUMNS)}",
    )
    parser.add_argument(
        "--network",
        metavar="NAME",
        help="only times that can be recomputed on this network, and what they would be there",
    )
    parser.add_argument(
        "--format",
        choices=("table", *DOCUMENTS, "json", "csv"),
        default="table",
        help="default: table",
    )


def run(args: argparse.Namespace) -> int:
    """Print the chosen numbers."""
    published = load_published()
    chosen = select_published(published, args.arguments)
    if args.format in ("json", "csv"):
        from harness.report.published_tables import published_rows  # noqa: PLC0415 - Hydra is slow

        rows = published_rows(chosen, published, _network(args.network))
        print(export.encoded(rows, args.format).decode(), end="")
    elif not chosen:
        print(f"no published number with {' '.join(args.arguments)}")
    else:
        _print(args, chosen, published)
    return 0


def _print(
    args: argparse.Namespace, chosen: Sequence[Published], published: Sequence[Published]
) -> None:
    from harness.report.published_tables import published_table  # noqa: PLC0415 - rich and
    from harness.report.tables import print_fitting  # noqa: PLC0415 - Hydra are slow to import
    from harness.report.text_table import for_terminal, written  # noqa: PLC0415

    network = _network(args.network)
    whole = published_table(chosen, published, network)
    if args.format != "table":
        print(written([whole], args.format), end="")
        return
    narrow = published_table(chosen, published, network, sources=False)
    print_fitting([for_terminal(whole), for_terminal(narrow)])
    for note in whole.notes:
        print(f" {note}")


def _network(name: str | None) -> "NetworkConfig | None":
    """The network of this name. Raises ConfigError."""
    if name is None:
        return None
    from harness.config.compose import compose_run  # noqa: PLC0415 - Hydra is slow to import
    from harness.config.groups import check_option  # noqa: PLC0415

    check_option("network", name)
    return compose_run([f"network={name}"]).network
