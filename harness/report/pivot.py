"""Records as tables of one value, with the values of keys as rows and columns."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import ConfigError
from harness.records import query as rows
from harness.records import selection
from harness.records.record import Record
from harness.records.selection import handle, newest
from harness.report.columns import HIDDEN, RUNNER, plain, sort_key, uses_model
from harness.report.text_table import TextTable
from harness.report.values import VALUES, Value

NAMES = ("model.name", "system.name", "network.name", "shaper.name")
OUTSIDE_NOTE = "*: calibration found the link outside tolerance"
Point = tuple[Any, ...]  # values of the keys of rows, or of columns


@dataclass(frozen=True)
class Pivot:
    """One table. fixed: what its records have in common, by key; machine, commit and runner are among
    that where other tables have others."""

    experiment: str
    fixed: dict[str, Any]
    row_keys: tuple[str, ...]
    column_keys: tuple[str, ...]
    rows: list[Point]
    columns: list[Point]
    cells: dict[tuple[Point, Point], Record]


def pivots(
    records: Sequence[Record], row_keys: Sequence[str], column_keys: Sequence[str]
) -> list[Pivot]:
    """One table for each experiment that has the keys, and for each way in which the records of one
    cell would otherwise differ. Raises ConfigError for a key that is none of a configuration."""
    known = rows.known_keys(records)
    at, over = (tuple(rows.full_key(key, known) for key in k) for k in (row_keys, column_keys))
    if bad := [key for key in (*at, *over) if key in ("status", "id")]:
        raise ConfigError("--pivot", f"{bad[0]} is no key of a configuration")
    return [
        pivot
        for name, group in rows.by_experiment(newest(records)).items()
        for pivot in _of_experiment(name, sorted(group, key=sort_key), at, over)
    ]


def _of_experiment(
    name: str, records: Sequence[Record], row_keys: Point, column_keys: Point
) -> Iterator[Pivot]:
    flats = {handle(record): flat for record, flat in zip(records, _flats(records), strict=True)}
    keys = (*row_keys, *column_keys)
    if any(not _has(name, flats.values(), key) for key in keys):
        return
    apart = _splitting_keys(name, list(flats.values()), keys)
    groups: dict[Point, list[Record]] = {}
    for record in records:
        groups.setdefault(_point(flats[handle(record)], apart), []).append(record)
    for group in (groups[point] for point in _in_order(list(groups))):
        of_rows = [_point(flats[handle(record)], row_keys) for record in group]
        of_columns = [_point(flats[handle(record)], column_keys) for record in group]
        yield Pivot(
            experiment=name,
            fixed=_fixed(name, [flats[handle(record)] for record in group], keys, apart),
            row_keys=row_keys,
            column_keys=column_keys,
            rows=_in_order(of_rows),
            columns=_in_order(of_columns),
            cells=dict(zip(zip(of_rows, of_columns, strict=True), group, strict=True)),
        )


def _flats(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Flat configurations, with the conditions in which the records differ."""
    names = selection.varying_conditions(records)
    texts = {name: selection.condition_texts(name, records) for name in names}
    return [
        record.flat | {name: text(record) for name, text in texts.items()} for record in records
    ]


def _has(name: str, flats: Iterable[Mapping[str, Any]], key: str) -> bool:
    """Whether a key plays a part in an experiment."""
    return any(key in flat for flat in flats) and (uses_model(name) or not key.startswith("model."))


def _splitting_keys(
    name: str, flats: Sequence[Mapping[str, Any]], keys: Sequence[str]
) -> list[str]:
    """The conditions and the runner where they vary, then keys in which the records of one cell differ;
    a name first, which may account for others."""
    chosen = [name for name in selection.CONDITIONS if name in flats[0]]
    if RUNNER not in keys and len({flat.get(RUNNER) for flat in flats}) > 1:
        chosen.append(RUNNER)
    for key in (*NAMES, *dict.fromkeys(key for flat in flats for key in flat)):
        if not selection.matters(key) or key in (*keys, *chosen) or not _has(name, flats, key):
            continue
        seen: dict[str, str] = {}
        cells = [(repr(_point(flat, (*keys, *chosen))), repr(flat.get(key))) for flat in flats]
        if any(value != seen.setdefault(cell, value) for cell, value in cells):
            chosen.append(key)
    return chosen


def _fixed(
    name: str, flats: Sequence[Mapping[str, Any]], keys: Sequence[str], apart: Sequence[str]
) -> dict[str, Any]:
    """What is computed, and what tells this table from its neighbours."""
    model = ["model.name"] if uses_model(name) else []
    inner = [f"experiment.{key}" for key in HIDDEN]
    what = [key for key in flats[0] if key.startswith("experiment.") and key not in inner]
    shown = dict.fromkeys([*model, *what, *apart])
    values = {key: flats[0].get(key) for key in shown if key not in keys}
    return {
        key: value
        for key, value in values.items()
        if value is not None and all(flat.get(key) == value for flat in flats)
    }


def _point(flat: Mapping[str, Any], keys: Sequence[str]) -> Point:
    values = (flat.get(key) for key in keys)
    return tuple(tuple(value) if isinstance(value, list) else value for value in values)


def _in_order(points: Sequence[Point]) -> list[Point]:
    """Distinct points, key by key: numbers by size, all other values as the records come."""
    distinct = list(dict.fromkeys(points))
    ranks = []
    for values in zip(*distinct, strict=True):
        numeric = all(isinstance(value, int | float) for value in values)
        ordered = sorted(set(values)) if numeric else list(dict.fromkeys(values))
        ranks.append({value: rank for rank, value in enumerate(ordered)})
    return sorted(distinct, key=lambda point: [r[v] for r, v in zip(ranks, point, strict=True)])


def table_of(pivot: Pivot, value: str) -> TextTable:
    """A pivot for people."""
    fixed = [f"{_short(key)} {plain(held)}" for key, held in pivot.fixed.items()]
    heads = [_short(key) for key in pivot.row_keys]
    cells = [
        [_cell(pivot.cells.get((row, column)), VALUES[value]) for column in pivot.columns]
        for row in pivot.rows
    ]
    marked = any("*" in cell for row in cells for cell in row)
    return TextTable(
        title=f"{', '.join([pivot.experiment, *fixed])}: {value.replace('_', ' ')}",
        heads=(*heads, *(_label(column) for column in pivot.columns)),
        right=(*(False for _ in heads), *(True for _ in pivot.columns)),
        rows=tuple(
            (*(_label((part,)) for part in row), *line)
            for row, line in zip(pivot.rows, cells, strict=True)
        ),
        notes=(OUTSIDE_NOTE,) if marked else (),
    )


def flat_rows(pivot: Pivot, value: str) -> list[dict[str, Any]]:
    """A pivot's rows as plain data; times in ns, sizes in bytes."""
    number = VALUES[value].number
    head = {"experiment": pivot.experiment, "value": value, **pivot.fixed}
    return [
        head
        | dict(zip(pivot.row_keys, row, strict=True))
        | {
            _label(column): None
            if (found := pivot.cells.get((row, column))) is None
            else number(found)
            for column in pivot.columns
        }
        for row in pivot.rows
    ]


def _cell(record: Record | None, value: Value) -> str:
    if record is None:
        return "–"
    number = value.number(record)
    if number is None:
        return "–" if record.status == "ok" else record.status
    wrong = " (incorrect)" if record.status == "incorrect" else ""
    return value.text(number) + "*" * selection.outside(record) + wrong


def _label(point: Point) -> str:
    return " ".join(plain(list(v) if isinstance(v, tuple) else v) for v in point)


def _short(key: str) -> str:
    """A key as tables name it: the group of a name, the last part of an experiment's."""
    return key.removesuffix(".name").removeprefix("experiment.")
