"""All records as one table: the cells of `permbench show`, whatever the experiment."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from harness.records import query as rows
from harness.records import selection
from harness.records.record import OUTSIDE, REMEDY, Record
from harness.records.sample_verdict import verdict
from harness.report import comparison
from harness.report.columns import Column, columns_of, identity_columns, sort_key
from harness.report.page.run_command import run_command

Cell = Callable[[Record], str]
# Of what tells the runs of one experiment apart these are columns; the rest goes into `WHAT`.
OWN = ("model", "system", "network", "shaper", "runner")
RATIOS = ("× online", "× sum", "× bytes", "× hops")
WHAT, REASON, MACHINE, COMMIT = "what", "reason", "machine", "commit"
SHOWN = (
    "experiment", WHAT, "model", "system", "network", "status", "verdict", "online", "× online",
    "offline", "sum", "× sum", "hops", "bytes", "per token", comparison.LEARNS, REASON,
)  # fmt: skip
LONGEST = 400  # characters of a reason
NARROW = 40  # characters of a cell that stands on one line
NO_NUMBER = "–"


@dataclass(frozen=True)
class PageRow:
    """One record. cells: as tables spell them. command: what measures it again."""

    id: str
    status: str
    command: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class RecordTable:
    """right: for each column, whether its cells are numbers. long: whether they break into lines.
    shown: whether it is unless chosen otherwise. notes: what stands under it."""

    heads: tuple[str, ...]
    right: tuple[bool, ...]
    long: tuple[bool, ...]
    shown: tuple[bool, ...]
    rows: tuple[PageRow, ...]
    notes: tuple[str, ...]


def record_table(records: Sequence[Record]) -> RecordTable:
    """The table of `records`, by experiment; a column stands in it where one record has it."""
    groups = {
        name: sorted(group, key=sort_key) for name, group in rows.by_experiment(records).items()
    }
    made = {name: _columns(group) for name, group in groups.items()}
    right = {c.head for columns in made.values() for c in columns if c.right} | {*RATIOS, "threads"}
    ratios, notes = _ratios(groups)
    ordered = [record for group in groups.values() for record in group]
    conditions = {name: selection.condition_texts(name, records) for name in selection.CONDITIONS}
    varying = selection.varying_conditions(records)
    lines = [
        _texts(record, made[rows.experiment(record)])
        | {head: cell(record) for head, cell in ratios.items()}
        | {name: text(record) for name, text in conditions.items()}
        | {"threads": str(record.config.get("threads")), "date": _date(record), REASON: _reason(record)}
        | {comparison.LEARNS: comparison.learns_text(record)}
        for record in ordered
    ]  # fmt: skip
    heads = _heads(lines)
    table = [tuple(line.get(head, NO_NUMBER) for head in heads) for line in lines]
    return RecordTable(
        heads=heads,
        right=tuple(head in right for head in heads),
        long=tuple(max(map(len, column)) > NARROW for column in zip(*table, strict=True)),
        shown=tuple(head in SHOWN or head in varying for head in heads),
        rows=tuple(
            PageRow(record.id, record.status, run_command(record), cells)
            for record, cells in zip(ordered, table, strict=True)
        ),
        notes=tuple(notes),
    )


def _columns(group: Sequence[Record]) -> list[Column]:
    """The columns of `show`; those of `WHAT` have that in front of their heading."""
    apart = {column.head for column in identity_columns(group)} - set(OWN)
    return [
        replace(column, head=f"{WHAT} {column.head}", right=False)
        if column.head in apart
        else column
        for column in columns_of(group)
        if column.head not in (MACHINE, COMMIT, "date")
    ]


def _texts(record: Record, columns: Sequence[Column]) -> dict[str, str]:
    """The cells of one record by heading; what no column stands for, as key=value."""
    cells = {column.head: column.cell(record) for column in columns}
    own = {head: text for head, text in cells.items() if not head.startswith(f"{WHAT} ")}
    others = {head.partition(" ")[2]: text for head, text in cells.items() if head not in own}
    what = " ".join(f"{head}={text}" for head, text in others.items() if text != NO_NUMBER)
    return {"experiment": rows.experiment(record), WHAT: what} | own


def _heads(lines: Sequence[dict[str, str]]) -> tuple[str, ...]:
    """The columns that some record has more than a dash in, `SHOWN` first in its order."""
    filled = dict.fromkeys(h for line in lines for h, text in line.items() if text not in ("", "–"))
    first = [head for head in SHOWN if head in filled and head != REASON]
    return (*first, *(h for h in filled if h not in SHOWN), *([REASON] if REASON in filled else []))


def _ratios(groups: dict[str, list[Record]]) -> tuple[dict[str, Cell], list[str]]:
    """The columns of `comparison`, by heading, a dash for what is compared with nothing; its notes."""
    cells: dict[str, dict[str, str]] = {head: {} for head in RATIOS}
    notes: list[str] = []
    for group in groups.values():
        beside = comparison.references(group)
        compared = comparison.in_order(group, beside)
        notes += [note for note in comparison.notes(group, compared) if note not in notes]
        for column in comparison.comparison_columns(compared, beside) if compared else ():
            if column.head in RATIOS:
                cells[column.head] |= {
                    selection.handle(record): column.cell(record) for record in compared
                }
    return {head: _found(known) for head, known in cells.items()}, notes


def _found(known: dict[str, str]) -> Cell:
    return lambda record: known.get(selection.handle(record), NO_NUMBER)


def _date(record: Record) -> str:
    return str(record.environment.get("date", NO_NUMBER))[:16].replace("T", " ")


def _reason(record: Record) -> str:
    """Why a run has no number, or one with a mark or a verdict that is not good."""
    if record.error:
        text = " ".join(record.error.split())
        text = text if len(text) <= LONGEST else f"{text[:LONGEST]}… (permbench show {record.id})"
        return f"{text} ({REMEDY})" if text.startswith(OUTSIDE) else text
    outside = [f"* {OUTSIDE}"] if selection.outside(record) else []
    return "; ".join([*outside, *verdict(record).reasons])
