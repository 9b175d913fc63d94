"""`permbench show`: stored records as tables, JSON or CSV."""

import argparse
import json
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from harness import rows, store
from harness.config.schema import RunConfig
from harness.record import Record

DEFAULT_DIR = str(RunConfig.results_dir)
HOW_TO = "make one with: permbench run, or permbench demo"
EXAMPLES = """\
examples:
  permbench show experiment=layer
  permbench show system=permllm network=permllm-wan,puma status=ok
  permbench show --format csv experiment.n=10000 > argmax.csv
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Format and filters."""
    parser.description = "Show stored records."
    parser.epilog = EXAMPLES
    parser.add_argument(
        "--format", choices=("table", "json", "csv"), default="table", help="default: table"
    )
    parser.add_argument("--steps", action="store_true", help="token by token, of whole models")
    add_filters(parser)


def add_filters(parser: argparse.ArgumentParser) -> None:
    """The key=value words that choose records."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar="KEY=VALUE",
        help="only records with this value (a comma list: any of them); keys are those of run, "
        f"and status; results_dir=DIR reads another folder than {DEFAULT_DIR}",
    )


def run(args: argparse.Namespace) -> int:
    """Print the chosen records."""
    folder, filters = split_folder(args.words)
    records = chosen(folder, filters)
    if args.format == "table":
        code = _print_table(records, folder, filters)
        if args.steps:
            _print_steps(records)
        return code
    print(_as_json(records) if args.format == "json" else _as_csv(records), end="")
    return 0


def split_folder(words: Sequence[str]) -> tuple[Path, list[str]]:
    """The folder that `results_dir=` names, and the other words."""
    prefix = "results_dir="
    folders = [word.removeprefix(prefix) for word in words if word.startswith(prefix)]
    filters = [word for word in words if not word.startswith(prefix)]
    return Path(folders[-1] if folders else DEFAULT_DIR), filters


def chosen(folder: Path, filters: Sequence[str]) -> list[Record]:
    """The records of `folder` that pass all `filters`. Raises ConfigError."""
    records = store.load_all(folder)
    return rows.select(records, rows.parse_filters(filters, records))


def _print_steps(records: Sequence[Record]) -> None:
    from harness.table import print_steps  # noqa: PLC0415 - as print_tables

    print_steps(records)


def _print_table(records: Sequence[Record], folder: Path, filters: Collection[str]) -> int:
    if not records:
        print(empty_message(folder, filters))
        return 0
    from harness.table import print_tables  # noqa: PLC0415 - not for JSON and CSV

    print_tables(records)
    return 0


def empty_message(folder: Path, filters: Collection[str]) -> str:
    """Why there is nothing to show, and what to do."""
    with_what = f" with {' '.join(filters)}" if filters else ""
    return f"no record in {folder}{with_what}; {HOW_TO}"


def _as_json(records: Sequence[Record]) -> str:
    whole = [json.loads(record.to_json()) for record in records]
    return json.dumps(whole, indent=1) + "\n"


def _as_csv(records: Sequence[Record]) -> str:
    if not records:
        print("no record", file=sys.stderr)
        return ""
    import pandas as pd  # noqa: PLC0415 - slow to import

    # Whole numbers stay whole in a column where some rows have none.
    table = pd.DataFrame([rows.flat_row(record) for record in records]).convert_dtypes()
    return table.to_csv(index=False)
