"""Systems in rows, approximations in columns: what each takes, and how far it is from the exact model."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from harness.records import selection
from harness.records.record import Record
from harness.records.stats import digits
from harness.report.columns import sort_key
from harness.report.comparison import alike
from harness.report.labels import labels
from harness.report.series import TITLES
from harness.report.text_table import TextTable
from harness.report.values import VALUES

APPROX = "approx"  # an option of systems
FAITHFUL = ("exact", "puma", "fourier")  # those that follow the exact functions, the closest first
FRIENDLY = "friendly"
SHOWN = ("online", "sum", "bytes", "hops", "exact_error")
TIMED = ("online", "sum")
SAVES = "÷ friendly"
NOTE = (
    f"{SAVES}: the value of the first column that the system has, of {', '.join(FAITHFUL)}, divided by that "
    "of friendly: 5 is 5 times as fast, or −80 % of the bytes. exact error: against the exact model; "
    "functions that a model was not trained with are other functions, and their error says so."
)
Cells = Mapping[str, Record]  # of one system, by approximation


def approximation_tables(records: Sequence[Record]) -> Iterator[TextTable]:
    """A table for each kind of work in which a system ran with several approximations, made alike."""
    able = [r for r in selection.newest(records) if r.status == "ok" and approximation_of(r)]
    keyed = sorted(able, key=lambda record: (repr(alike(record)), sort_key(record)))
    for _, group in groupby(keyed, key=alike):
        systems = [cells for cells in _systems(list(group)) if len(cells) > 1]
        if systems:
            yield _table(systems)


def approximation_of(record: Record) -> str | None:
    """Of what its system computes; None where it has no choice."""
    found = record.config["system"].get(APPROX)
    return None if found is None else str(found)


def _systems(records: Sequence[Record]) -> list[Cells]:
    """The records of each system with the same other options."""
    found: dict[str, dict[str, Record]] = {}
    for record in records:
        others = {key: value for key, value in record.config["system"].items() if key != APPROX}
        found.setdefault(repr(others), {})[str(approximation_of(record))] = record
    return list(found.values())


def _table(systems: Sequence[Cells]) -> TextTable:
    firsts = [next(iter(cells.values())) for cells in systems]
    names, common = labels(firsts, lambda key: key == f"system.{APPROX}")
    have = {approx for cells in systems for approx in cells}
    columns = [*(a for a in FAITHFUL if a in have), *sorted(have - {*FAITHFUL, FRIENDLY})]
    columns += [FRIENDLY] if FRIENDLY in have else []
    what = str(firsts[0].config["experiment"]["name"])
    return TextTable(
        title=", ".join(filter(None, [f"{TITLES.get(what, what)}, by approximation", common])),
        heads=("system", "", *columns, SAVES),
        right=(False, False, *(True for _ in columns), True),
        rows=tuple(
            (name, value.replace("_", " "), *(_cell(cells, a, value) for a in columns), _saves(cells, value))
            for name, cells in zip(names, systems, strict=True)
            for value in SHOWN
        ),
        notes=(NOTE,),
    )  # fmt: skip


def _cell(cells: Cells, approx: str, value: str) -> str:
    record = cells.get(approx)
    number = VALUES[value].number(record) if record else None
    if record is None or number is None:
        return "–"
    return VALUES[value].text(number) + _mark(value, record)


def _saves(cells: Cells, value: str) -> str:
    faithful = next((cells[approx] for approx in FAITHFUL if approx in cells), None)
    friendly = cells.get(FRIENDLY)
    if value == "exact_error" or faithful is None or friendly is None:
        return "–"
    before, after = (VALUES[value].number(record) for record in (faithful, friendly))
    if before is None or not after:
        return "–"
    return digits(before / after) + (_mark(value, faithful) or _mark(value, friendly))


def _mark(value: str, record: Record) -> str:
    return "*" if value in TIMED and selection.outside(record) else ""
