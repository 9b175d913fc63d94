"""Records as tables for people."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from rich.console import Console, Group, RenderableType
from rich.text import Text

from harness.config.schema import RunConfig
from harness.records import draft_gain
from harness.records import query as rows
from harness.records.record import OUTSIDE, REMEDY, Record
from harness.records.stats import format_bytes, format_ns
from harness.report import comparison
from harness.report.approximation_table import approximation_tables
from harness.report.columns import Column, columns_of, identity_columns, sort_key
from harness.report.nexus_split import nexus_note
from harness.report.text_table import TextTable, for_terminal

NOTE = (
    "online: median [min–max] of the samples; verdict: what they say of it (one record shown alone says "
    "why). bytes: online payload of all roles. offline, "
    "prepare: measured at full speed; in parentheses what their bytes and hops alone would take "
    "on the network (computed). sum: online and offline as measured. error: against the system's own "
    "approximation; exact error: against the exact model. stored: of the model at P0 / P1 / P2. "
    "who learns what: beyond its own input and answer."
)
GAIN_NOTE = (
    "gain at a: online, tokens a pass × time per token / time of a verify pass; tokens a pass (in "
    "parentheses) 1 + a + … + a^drafted, where a drafted token is right with probability a (assumed)."
)


def print_tables(records: Sequence[Record]) -> None:
    """Print one table for each experiment, under it a line for each run that needs a remark, a table that
    compares systems where there are several, and one of their approximations."""
    for name, unordered in rows.by_experiment(records).items():
        group = sorted(unordered, key=sort_key)
        print_fitting([for_terminal(t) for t in _layouts(name, columns_of(group), group)])
        for line in _notes(group):
            print(line)
        print()
        _print_comparison(name, group)
        _print_approximations(group)
    if any(record.phases for record in records):
        print_fitting([Text(NOTE, "dim")])


def record_tables(records: Sequence[Record], steps: bool = False) -> Iterator[TextTable]:
    """The same tables for a document: what is constant in the title, no dates, remarks as notes; with
    `steps` also those of tokens."""
    for name, unordered in rows.by_experiment(records).items():
        group = sorted(unordered, key=sort_key)
        columns = [column for column in columns_of(group) if column.head != "date"]
        measured = any(record.phases for record in group)
        remarks = (*_notes(group), *([NOTE] if measured else []))
        yield replace(folded(name, columns, group), notes=tuple(map(str.strip, remarks)))
        compared, notes = comparison_tables(name, group)
        if compared:
            yield replace(compared[0], notes=notes)
        yield from approximation_tables(group)
    if steps:
        yield from (_steps_table(record) for record in records if record.steps)


def _print_comparison(name: str, records: Sequence[Record]) -> None:
    tables, notes = comparison_tables(name, records)
    if tables:
        print_fitting([for_terminal(table) for table in tables])
    for line in notes:
        print(f" {line}")
    if tables or notes:
        print()


def _print_approximations(records: Sequence[Record]) -> None:
    for table in approximation_tables(records):
        print_fitting([for_terminal(table)])
        for note in table.notes:
            print(f" {note}")
        print()


def comparison_tables(
    name: str, records: Sequence[Record]
) -> tuple[list[TextTable], tuple[str, ...]]:
    """The table that compares systems, if there is one, and a narrower one; what stands under it."""
    beside = comparison.references(records)
    compared = comparison.in_order(records, beside)
    notes = tuple(comparison.notes(records, compared))
    if not compared:
        return [], notes
    title = comparison.title(name, beside)
    columns = comparison.comparison_columns(compared, beside)
    return [folded(title, c, compared) for c in (columns, comparison.narrow(columns))], notes


def print_steps(records: Sequence[Record]) -> None:
    """Print what each token of a generation took, one table for each record that has steps."""
    for record in records:
        if record.steps:
            print_fitting([for_terminal(_steps_table(record))])
            print()


def _steps_table(record: Record) -> TextTable:
    heads = ("token", "kind", "tokens in", "online", "hops", "bytes", "offline")
    cells = tuple(
        (
            *(str(number), step.kind, str(step.tokens), format_ns(step.wall_ns), str(step.hops)),
            *(format_bytes(step.payload_bytes), format_ns(step.offline_wall_ns)),
        )
        for number, step in enumerate(record.steps, start=1)
    )
    title = f"{record.config['experiment']['name']} {record.config['model']['name']}"
    right = tuple(head != "kind" for head in heads)
    return TextTable(f"{title} {record.id}, token by token", heads, right, cells)


def print_fitting(choices: Sequence[RenderableType]) -> None:
    """Print the first of `choices` that fits the terminal, else the last at its own width. A table's
    title, which can be broken into lines, does not count.

    Where standard output is no terminal the first is printed whole, without padding.
    """
    console = Console()
    if not console.is_terminal:
        _print_plain(choices[0])
        return
    bodies = [c.renderables[-1] if isinstance(c, Group) else c for c in choices]
    widths = [Console(width=1000).measure(body).maximum for body in bodies]
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
) -> Iterator[TextTable]:
    """The table and narrower ones: constants in the title, no dates, no computed times."""
    yield _table(title, columns, records)
    yield folded(title, columns, records)
    columns = [column for column in columns if column.head != "date"]
    yield folded(title, columns, records)
    yield folded(title, [replace(c, cell=c.short or c.cell) for c in columns], records)


def folded(title: str, columns: Sequence[Column], records: Sequence[Record]) -> TextTable:
    """A table of `records`, with columns that are constant and may move there in its title."""
    constant = [column for column in columns if column.foldable and _is_constant(column, records)]
    head = ", ".join([title, *(_named(column, records[0]) for column in constant)])
    return _table(head, [column for column in columns if column not in constant], records)


def _table(title: str, columns: Sequence[Column], records: Sequence[Record]) -> TextTable:
    return TextTable(
        title=title,
        heads=tuple(column.head for column in columns),
        right=tuple(column.right for column in columns),
        rows=tuple(tuple(column.cell(record) for column in columns) for record in records),
    )


def _notes(records: Sequence[Record]) -> Iterator[str]:
    """Why a run failed, or that its link was not what its network says; with what tells it apart."""
    columns = [c for c in identity_columns(records) if not _is_constant(c, records)]
    for record in records:
        head = " ".join([*(_named(column, record) for column in columns), record.status])
        if record.config.get("key_seed") is not None:
            yield f" {head}: keys from key_seed, for tests: they protect nothing ({record.id})"
        system = record.config["system"]
        if (system.get("variant"), system.get("refresh")) == ("fused", "bounded"):
            yield f" {head}: refresh=bounded: P1 can line up scores of several tokens ({record.id})"
        if note := nexus_note(record):
            yield f" {head}: {note} ({record.id})"
        if record.error and record.status != "unsupported":
            yield f" {head}: {record.error} ({show_command(record)})"
        elif record.error:
            yield f" {head}: {record.error} ({record.id})"
        elif record.network.within_tolerance is False:
            yield f" {head}: * calibration found the link outside tolerance ({record.id})"
    if any((record.error or "").startswith(OUTSIDE) for record in records):
        yield f" {REMEDY}"
    if any(draft_gain.gains(record) for record in records):
        yield f" {GAIN_NOTE}"


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
