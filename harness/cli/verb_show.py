"""`permbench show`: stored records as tables, also in Markdown and LaTeX, as JSON, CSV or Parquet."""

import argparse
import json
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from harness.config.groups import GROUPS, options
from harness.config.schema import RunConfig
from harness.errors import ConfigError, unknown
from harness.records import export, store
from harness.records import query as rows
from harness.records.dataframe import operator_rows
from harness.records.record import Record, Status
from harness.records.selection import newest

if TYPE_CHECKING:
    from harness.report.pivot import Pivot

ID = re.compile("[0-9a-f]{4,16}")
DEFAULT_DIR = str(RunConfig.results_dir)
HOW_TO = "make one with: permbench run, or permbench reproduce --quick"
HOW_TO_TRACE = "make one with: permbench run … trace=true (force=true, if it was made without)"
EXAMPLES = """\
examples:
  permbench show experiment=layer
  permbench show 3f9c2a1b0d4e5f67                one record whole, with its parties' logs
  permbench show system=permllm network=permllm-wan,puma status=ok
  permbench show --pivot system network experiment=layer model=gpt2
  permbench show --pivot model,kv_len system --value bytes
  permbench show --by operator 3f9c               of a traced run: norm, softmax, …, by role
  permbench show --format csv experiment.n=10000 > argmax.csv
  permbench show --format latex --output layer.tex experiment=layer
  permbench show --format parquet --output results.parquet
"""
DOCUMENTS = ("markdown", "latex")  # harness.report.text_table.FORMS, and
# harness.report.values.VALUES, which are slow to import
VALUES = (
    "online", "offline", "prepare", "sum", "steady_state", "first_token", "per_token", "verify_pass",
    "bytes", "offline_bytes", "hops", "slowdown", "error", "exact_error",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Format, pivot and filters."""
    parser.description = "Show stored records, or one of them whole."
    parser.epilog = EXAMPLES
    parser.add_argument(
        "--format",
        choices=("table", *DOCUMENTS, *export.FORMATS),
        default="table",
        help="default: table; latex needs the package booktabs",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="write to a file, whole or not at all; not for --format table",
    )
    parser.add_argument(
        "--all", action="store_true", help="also results that newer ones of the same run replace"
    )
    parser.add_argument("--steps", action="store_true", help="token by token, of whole models")
    parser.add_argument(
        "--by",
        choices=("operator",),
        help="of traced runs (trace=true): time, bytes and hops of each operator and role",
    )
    parser.add_argument(
        "--pivot",
        nargs=2,
        metavar=("ROWS", "COLUMNS"),
        help="one value in rows and columns; each is a key, or several as model,kv_len",
    )
    parser.add_argument(
        "--value",
        choices=VALUES,
        default="online",
        help="of a pivot; times are medians, bytes and hops those of the online phase, offline_bytes of "
        "the offline one; sum: online and offline; steady_state: the longer of these, where offline runs "
        "ahead (computed). Default: online",
    )
    add_filters(parser)


def add_filters(parser: argparse.ArgumentParser) -> None:
    """The key=value arguments that choose records."""
    parser.add_argument(
        "arguments",
        nargs="*",
        metavar="KEY=VALUE",
        help="only records with this value (a comma list: any of them), or the ID of one (or how "
        "it begins); keys are those of run, "
        f"and status; results_dir=DIR reads another folder than {DEFAULT_DIR}",
    )


def run(args: argparse.Namespace) -> int:
    """Print or write the chosen records."""
    _check_output(args.format, args.output)
    folder, filters = split_folder(args.arguments)
    ids = [text for text in filters if ID.fullmatch(text)]
    others = [text for text in filters if text not in ids]
    records = chosen(folder, others, ids, args.all)
    if args.by:
        _check_by(args)
        records = [record for record in records if record.operators is not None]
    if args.format != "table":
        export_content(_content(records, args), args.output)
    elif not records:
        print(empty_message(folder, filters, traced=bool(args.by)))
    elif args.by:
        _print_operators(records)
    elif ids:
        _print_whole(records)
    elif args.pivot:
        _print_pivots(records, args.pivot, args.value)
    else:
        _print_tables(records, args.steps)
    return 0


def _check_output(form: str, output: str | None) -> None:
    if output is None and form == "parquet":
        raise ConfigError("--format", "parquet is not text: it needs --output FILE")
    if output is not None and form == "table":
        raise ConfigError("--output", f"needs --format {', '.join((*DOCUMENTS, *export.FORMATS))}")


def split_folder(arguments: Sequence[str]) -> tuple[Path, list[str]]:
    """The folder that `results_dir=` names, and the other arguments."""
    prefix = "results_dir="
    folders = [
        argument.removeprefix(prefix) for argument in arguments if argument.startswith(prefix)
    ]
    filters = [argument for argument in arguments if not argument.startswith(prefix)]
    return Path(folders[-1] if folders else DEFAULT_DIR), filters


def chosen(
    folder: Path, filters: Sequence[str], ids: Sequence[str] = (), replaced: bool = False
) -> list[Record]:
    """The newest records of `folder` that pass all `filters`, and whose ids begin as one of `ids` where
    there are any; with `replaced` the older ones too. Raises ConfigError."""
    records = store.load_all(folder)
    records = records if replaced else newest(records)
    for text in ids:
        if not any(record.id.startswith(text) for record in records):
            raise ConfigError(text, f"no record in {folder} has an id that begins so")
    parsed = rows.parse_filters(filters, records)
    _check_names(parsed, records)
    named = [record for record in records if not ids or record.id.startswith(tuple(ids))]
    return rows.select(named, parsed)


def _check_names(filters: Mapping[str, Collection[str]], records: Sequence[Record]) -> None:
    """Raise ConfigError for a name that neither an option nor a record has."""
    for key, values in filters.items():
        group = key.removesuffix(".name")
        if key != "status" and not (group in GROUPS and key.endswith(".name")):
            continue
        if key == "status":
            names = dict.fromkeys(get_args(Status))
        else:
            have = (str(record.config[group]["name"]) for record in records)
            names = dict.fromkeys((*options(group), *have))
        for value in values:
            if value not in names:
                raise unknown(group, f"nothing is called {value}", names, of=value)


def _check_by(args: argparse.Namespace) -> None:
    """Raise ConfigError where two forms are asked for."""
    if args.pivot or args.steps:
        raise ConfigError("--by", f"not with --{'pivot' if args.pivot else 'steps'}")


def _print_operators(records: Sequence[Record]) -> None:
    from harness.report.operator_tables import print_operators  # noqa: PLC0415 - as tables

    print_operators(records)


def _print_whole(records: Sequence[Record]) -> None:
    from harness.report.record_page import print_record  # noqa: PLC0415 - not for JSON and CSV

    for record in records:
        print_record(record)
        print()


def _print_tables(records: Sequence[Record], steps: bool) -> None:
    from harness.report.tables import print_steps, print_tables  # noqa: PLC0415 - not for JSON and CSV

    print_tables(records)
    if steps:
        print_steps(records)


def _print_pivots(records: Sequence[Record], keys: Sequence[str], value: str) -> None:
    from harness.report.pivot import table_of  # noqa: PLC0415 - as tables
    from harness.report.tables import print_fitting  # noqa: PLC0415
    from harness.report.text_table import for_terminal  # noqa: PLC0415

    for pivot in _pivots(records, keys):
        table = table_of(pivot, value)
        print_fitting([for_terminal(table)])
        for note in table.notes:
            print(f" {note}")
        print()


def _pivots(records: Sequence[Record], keys: Sequence[str]) -> "list[Pivot]":
    """Raises ConfigError where there is none."""
    from harness.report.pivot import pivots  # noqa: PLC0415 - as tables

    found = pivots(records, *(key.split(",") for key in keys))
    if records and not found:
        raise ConfigError("--pivot", f"no record has {' and '.join(keys)}")
    return found


def _content(records: Sequence[Record], args: argparse.Namespace) -> bytes:
    """The chosen records, or their pivots, in the format asked for."""
    if args.format in DOCUMENTS:
        return _document(records, args).encode()
    if args.by:
        return export.encoded([row for r in records for row in operator_rows(r)], args.format)
    if args.pivot:
        from harness.report.pivot import flat_rows  # noqa: PLC0415

        found = _pivots(records, args.pivot)
        return export.encoded([row for p in found for row in flat_rows(p, args.value)], args.format)
    if args.format == "json":
        return export.encoded([json.loads(record.to_json()) for record in records], "json")
    return export.encoded([rows.flat_row(record) for record in records], args.format)


def _document(records: Sequence[Record], args: argparse.Namespace) -> str:
    """Their tables, in Markdown or LaTeX."""
    from harness.report.operator_tables import operator_tables  # noqa: PLC0415
    from harness.report.pivot import table_of  # noqa: PLC0415
    from harness.report.tables import record_tables  # noqa: PLC0415
    from harness.report.text_table import written  # noqa: PLC0415

    if not records:
        print("no record", file=sys.stderr)
    if args.by:
        found = list(operator_tables(records))
    elif args.pivot:
        found = [table_of(pivot, args.value) for pivot in _pivots(records, args.pivot)]
    else:
        found = list(record_tables(records, args.steps))
    return written(found, args.format)


def export_content(content: bytes, output: str | None) -> None:
    """Print `content`, or write it to a file. Raises ConfigError."""
    if output is None:
        print(content.decode(), end="")
        return
    try:
        store.write_whole(Path(output), content)
    except OSError as error:
        raise ConfigError("--output", f"{output}: {error.strerror}") from None


def empty_message(folder: Path, filters: Collection[str], traced: bool = False) -> str:
    """Why there is nothing to show, and what to do. traced: only records with operators were asked
    for."""
    with_what = f" with {' '.join(filters)}" if filters else ""
    if traced:
        return f"no record in {folder}{with_what} has operators; {HOW_TO_TRACE}"
    return f"no record in {folder}{with_what}; {HOW_TO}"
