"""`permbench compare`: two sets of records, run by run."""

import argparse
import json
from collections.abc import Sequence

from harness.cli.verb_show import DEFAULT_DIR, DOCUMENTS, export_content, split_folder
from harness.errors import ConfigError
from harness.records import query as rows
from harness.records import selection
from harness.records.paired_records import Matched, load_side, match
from harness.records.record import Record

EXAMPLES = """\
examples:
  permbench compare results/reference/headline results/runs
  permbench compare HEAD~1 HEAD                 records of two commits, in results/runs
  permbench compare 3fa2c1d 3fa2c1d+ experiment=layer
  permbench compare old/layer/0123456789abcdef.json new/layer/0123456789abcdef.json
  permbench compare old new --value offline --format markdown
  permbench compare old new --threshold 1.05    exit code 1 if anything got worse

exit codes: 0 compared; 1 with --threshold, if anything got worse; 2 bad input, or no run in both
"""
TIMES = ("online", "offline", "prepare", "first_token", "per_token")  # harness.report.changes.TIMES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Two sides, format and filters."""
    parser.description = (
        "Compare two sets of records. Runs are matched by their configuration. Times are compared on one "
        "machine alone, as B / A with a 95 % interval; bytes, messages and hops everywhere. Most changed "
        "first; runs of one set alone are listed."
    )
    parser.epilog = EXAMPLES
    parser.add_argument("a", metavar="A", help="a folder of records, a record's file, or a commit")
    parser.add_argument("b", metavar="B", help="the same; a commit with + had other changes")
    parser.add_argument(
        "--value", choices=TIMES, default="online", help="the time to compare. Default: online"
    )
    parser.add_argument(
        "--threshold",
        type=_threshold,
        metavar="RATIO",
        help="exit code 1 if a run takes certainly more than RATIO times as long, sends more, or is no "
        "longer ok",
    )
    parser.add_argument(
        "--format", choices=("table", *DOCUMENTS, "json"), default="table", help="default: table"
    )
    parser.add_argument("--output", metavar="FILE", help="write to a file; not for --format table")
    parser.add_argument(
        "arguments",
        nargs="*",
        metavar="KEY=VALUE",
        help="only records with this value, as of show; "
        f"results_dir=DIR: where records of a commit are looked for, instead of {DEFAULT_DIR}",
    )


def _threshold(text: str) -> float:
    value = float(text)
    if not 1 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"got {text}, must be a number ≥ 1")
    return value


def run(args: argparse.Namespace) -> int:
    """Print or write the comparison."""
    from harness.report.changes import changes, worse  # noqa: PLC0415 - numpy is slow to import

    if args.output is not None and args.format == "table":
        raise ConfigError("--output", f"needs --format {', '.join((*DOCUMENTS, 'json'))}")
    folder, filters = split_folder(args.arguments)
    sides = [load_side(text, folder) for text in (args.a, args.b)]
    parsed = rows.parse_filters(filters, [record for side in sides for record in side])
    before, after = (rows.select(side, parsed) for side in sides)
    matched = match(before, after)
    _show(matched, args, _heads(args, before, after))
    if not matched.pairs:
        raise ConfigError("compare", f"no run is in both {args.a} and {args.b}")
    if args.threshold is None:
        return 0
    return int(any(worse(change, args.threshold) for change in changes(matched.pairs, args.value)))


def _heads(args: argparse.Namespace, before: list[Record], after: list[Record]) -> list[str]:
    """What each side is."""
    return [
        f"{side}: {text}, {_summary(records)}"
        for side, text, records in (("A", args.a, before), ("B", args.b, after))
    ]


def _summary(records: Sequence[Record]) -> str:
    commits = dict.fromkeys(selection.commit_text(record) for record in records)
    count = f"{len(records)} record{'s' * (len(records) != 1)}"
    return f"{count}, commit {', '.join(commits)}" if records else count


def _show(matched: Matched, args: argparse.Namespace, heads: Sequence[str]) -> None:
    from harness.report import changes, text_table  # noqa: PLC0415 - as above
    from harness.report.tables import print_fitting  # noqa: PLC0415

    if args.format == "json":
        data = {"a": args.a, "b": args.b, **changes.change_data(matched, args.value)}
        export_content((json.dumps(data, indent=1) + "\n").encode(), args.output)
        return
    tables = list(changes.change_tables(matched, args.value))
    if args.format != "table":
        text = text_table.written(tables, args.format)
        export_content(text.encode(), args.output)
        return
    print("\n".join(heads), end="\n\n")
    for table in tables:
        print_fitting([text_table.for_terminal(table)])
        for note in table.notes[:-1]:
            print(f" {note}")
        print()
    if matched.pairs:
        from rich.text import Text  # noqa: PLC0415

        print_fitting([Text(changes.NOTE, "dim")])
