"""Records as tables for people."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.config.schema import RunConfig
from harness.records import query as rows
from harness.records.record import OUTSIDE, REMEDY, Record
from harness.records.stats import format_bytes, format_ns
from harness.report import comparison
from harness.report.columns import Column, columns_of, identity_columns, sort_key

STYLES = {"ok": "green", "unsupported": "yellow"}
NOTE = (
    "online: median [min–max] of the samples. bytes: online payload of all roles. offline, "
    "prepare: measured at full speed; in parentheses what their bytes and hops alone would take "
    "on the network (computed). sum: online and offline as measured. error: against the system's own "
    "approximation; exact error: against the exact model. stored: of the model at P0 / P1 / P2."
)


def print_tables(records: Sequence[Record]) -> None:
    """Print one table for each experiment, under it a line for each run that needs a remark, and a
    table that compares systems where there are several."""
    for name, unordered in rows.by_experiment(records).items():
        group = sorted(unordered, key=sort_key)
        print_fitting(list(_layouts(name, columns_of(group), group)))
        for line in _notes(group):
            print(line)
        if any((record.error or "").startswith(OUTSIDE) for record in group):
            print(f" {REMEDY}")
        print()
        _print_comparison(name, group)
    if any(record.phases for record in records):
        print_fitting([Text(NOTE, "dim")])


def _print_comparison(name: str, records: Sequence[Record]) -> None:
    beside = comparison.references(records)
    compared = comparison.in_order(records, beside)
    notes = list(comparison.notes(records, compared))
    if compared:
        columns = comparison.comparison_columns(compared, beside)
        print_fitting([_folded(comparison.title(name, beside), columns, compared)])
    for line in notes:
        print(f" {line}")
    if compared or notes:
        print()


def print_steps(records: Sequence[Record]) -> None:
    """Print what each token of a generation took, one table for each record that has steps."""
    for record in records:
        if record.steps:
            title = f"{record.config['experiment']['name']} {record.config['model']['name']}"
            print_fitting([_steps_table(f"{title} {record.id}, token by token", record)])
            print()


def _steps_table(title: str, record: Record) -> RenderableType:
    table = Table(box=None, padding=(0, 1))
    for head in ("token", "kind", "tokens in", "online", "hops", "bytes", "offline"):
        table.add_column(head, justify="left" if head == "kind" else "right")
    for number, step in enumerate(record.steps, start=1):
        cells = (format_ns(step.wall_ns), str(step.hops), format_bytes(step.payload_bytes))
        offline = format_ns(step.offline_wall_ns)
        table.add_row(str(number), step.kind, str(step.tokens), *cells, offline)
    return Group(Text(title, "bold"), table)


def print_fitting(choices: Sequence[RenderableType]) -> None:
    """Print the first of `choices` that fits the terminal, else the last at its own width.

    Where standard output is no terminal the first is printed whole, without padding.
    """
    console = Console()
    if not console.is_terminal:
        _print_plain(choices[0])
        return
    widths = [Console(width=1000).measure(choice).maximum for choice in choices]
    fits = (index for index, width in enumerate(widths) if width <= console.width)
    index = next(fits, len(choices) - 1)
    if isinstance(choices[index], Text):
        console.print(choices[index])
    else:
        Console(width=max(widths[index], console.width)).print(choices[index])


def _print_plain(what: RenderableType) -> None:
    console = Console(width=400)
    with console.capture() as capture:
        console.print(what)
    print("\n".join(line.rstrip() for line in capture.get().splitlines()))


def _layouts(
    title: str, columns: Sequence[Column], records: Sequence[Record]
) -> Iterator[RenderableType]:
    """The table and narrower ones: constants in the title, no dates, no computed times."""
    yield _table(title, columns, records)
    yield _folded(title, columns, records)
    columns = [column for column in columns if column.head != "date"]
    yield _folded(title, columns, records)
    yield _folded(title, [replace(c, cell=c.short or c.cell) for c in columns], records)


def _folded(title: str, columns: Sequence[Column], records: Sequence[Record]) -> RenderableType:
    constant = [column for column in columns if column.foldable and _is_constant(column, records)]
    head = ", ".join([title, *(_named(column, records[0]) for column in constant)])
    return _table(head, [column for column in columns if column not in constant], records)


def _table(title: str, columns: Sequence[Column], records: Sequence[Record]) -> RenderableType:
    table = Table(box=None, padding=(0, 1))
    for column in columns:
        table.add_column(column.head, justify="right" if column.right else "left", no_wrap=True)
    for record in records:
        table.add_row(*(_cell(column, record) for column in columns))
    return Group(Text(title, "bold"), table)


def _cell(column: Column, record: Record) -> Text:
    style = STYLES.get(record.status, "red") if column.head == "status" else ""
    return Text(column.cell(record), style)


def _notes(records: Sequence[Record]) -> Iterator[str]:
    """Why a run failed, or that its link was not what its network says; with what tells it apart."""
    columns = [c for c in identity_columns(records) if not _is_constant(c, records)]
    for record in records:
        head = " ".join([*(_named(column, record) for column in columns), record.status])
        if record.config.get("key_seed") is not None:
            yield f" {head}: keys from key_seed, for tests: they protect nothing ({record.id})"
        if record.error and record.status != "unsupported":
            yield f" {head}: {record.error} ({show_command(record)})"
        elif record.error:
            yield f" {head}: {record.error} ({record.id})"
        elif record.network.within_tolerance is False:
            yield f" {head}: * calibration found the link outside tolerance ({record.id})"


def show_command(record: Record) -> str:
    """What prints the whole record."""
    folder = record.config["results_dir"]
    where = "" if folder == RunConfig.results_dir else f" results_dir={folder}"
    return f"permbench show {record.id}{where}"


def _is_constant(column: Column, records: Sequence[Record]) -> bool:
    return len({column.cell(record) for record in records}) == 1


def _named(column: Column, record: Record) -> str:
    value = column.cell(record)
    return value if column.head in ("system", "model", "network") else f"{column.head} {value}"
