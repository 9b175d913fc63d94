"""Two sets of records beside one another: what each run of both took, and what has changed.

Times are compared on one machine alone, as the ratio B / A of medians with its 95 % interval
(`harness.records.ratio`); counts are compared everywhere.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf, log
from typing import Any, Literal

from harness.records import query as rows
from harness.records import selection
from harness.records.paired_records import Matched, Pair
from harness.records.query import phase_counts
from harness.records.ratio import Interval, unpaired
from harness.records.record import Record
from harness.records.stats import LEAST, format_bytes
from harness.report.columns import Column, identity_columns, sort_key
from harness.report.tables import folded
from harness.report.text_table import TextTable
from harness.report.values import VALUES, Value

TIMES = {  # and the phase whose counts go with each
    "online": "online",
    "offline": "offline",
    "prepare": "prepare",
    "first_token": "online",
    "per_token": "online",
}
Said = Literal[
    "slower", "faster", "not told apart", "too few samples", "other machine", "not measured"
]
NOTE = (
    "B / A: ratio of the medians with its 95 % interval (bootstrap); rows whose interval is farthest from 1 "
    f"come first. Fewer than {LEAST} samples have no interval. Two sittings on one machine differ by more "
    "than their samples show: permbench gate --against measures two checkouts in turns. Counts are those "
    "of one evaluation, of all roles. *: calibration found a link outside tolerance."
)


@dataclass(frozen=True)
class Change:
    """One run of both sets. interval: of its time, B / A; None where that is not compared. counts: of
    A and of B."""

    pair: Pair
    said: Said
    interval: Interval | None
    counts: Mapping[str, tuple[int, int]]

    @property
    def counts_differ(self) -> bool:
        """Whether bytes, messages or hops are not the same."""
        return any(before != after for before, after in self.counts.values())

    @property
    def sort_key(self) -> tuple[object, ...]:
        """First what ends otherwise, then by how far the interval is from 1, then by the ratio; counts
        that differ come before those that do not."""
        before, after = self.pair.before, self.pair.after
        ratio = self.interval.ratio if self.interval else 1.0
        certain = _distance(self.interval) if self.interval else 0.0
        ended = before.status == after.status
        return ended, -certain, not self.counts_differ, -abs(log(ratio)), sort_key(after)


def changes(pairs: Sequence[Pair], value: str = "online") -> list[Change]:
    """How each run has changed, most changed first. value: one of `TIMES`."""
    return sorted((_change(pair, value) for pair in pairs), key=lambda change: change.sort_key)


def _change(pair: Pair, value: str) -> Change:
    said, interval = _compared(pair, VALUES[value])
    before, after = (phase_counts(r, TIMES[value]) for r in (pair.before, pair.after))
    shared = {name: (before[name], after[name]) for name in before.keys() & after.keys()}
    ordered = {name: shared[name] for name in before if name in shared}
    return Change(pair, said, interval, ordered)


def _compared(pair: Pair, value: Value) -> tuple[Said, Interval | None]:
    old, new = value.samples(pair.before), value.samples(pair.after)
    if not old or not new or min(*old, *new) <= 0:
        return "not measured", None
    if not pair.same_machine:
        return "other machine", None
    interval = unpaired(old, new)
    if interval.samples < LEAST:
        return "too few samples", interval
    if interval.low > 1:
        return "slower", interval
    return ("faster" if interval.high < 1 else "not told apart"), interval


def _distance(interval: Interval) -> float:
    """How far from 1 all of an interval is, in ln; 0 where it holds 1."""
    if interval.samples < LEAST or interval.low <= 1 <= interval.high:
        return 0.0
    return min(abs(log(interval.low)), abs(log(interval.high)))


def worse(change: Change, threshold: float) -> bool:
    """Whether B is certainly slower than `threshold` times A, sends more, or was good in A alone."""
    if change.pair.before.status == "ok" != change.pair.after.status:
        return True
    grown = any(after > before for before, after in change.counts.values())
    return grown or (change.interval is not None and change.interval.low > threshold)


def change_tables(matched: Matched, value: str = "online") -> Iterator[TextTable]:
    """A table for each experiment, most changed first; then the runs of one set alone."""
    found = changes(matched.pairs, value)
    experiments = dict.fromkeys(rows.experiment(change.pair.after) for change in found)
    for name in sorted(experiments):
        own = [change for change in found if rows.experiment(change.pair.after) == name]
        yield _table(name, own, value)
    yield from _alone("A", matched.only_before)
    yield from _alone("B", matched.only_after)


def _table(name: str, own: Sequence[Change], value: str) -> TextTable:
    records = [change.pair.after for change in own]
    by = {selection.handle(change.pair.after): change for change in own}

    def column(head: str, cell: Callable[[Change], str], right: bool = True) -> Column:
        return Column(head, lambda record: cell(by[selection.handle(record)]), right)

    title = f"{name}, {value.replace('_', ' ')} time, B against A"
    columns = [
        *_identity(records),
        *(column(head, _status, False) for head in ("status",) if _any_bad(own)),
        column("A", lambda change: _time(change.pair.before, value)),
        column("B", lambda change: _time(change.pair.after, value)),
        column("B / A", _ratio),
        column("change", lambda change: change.said, False),
        *(column(head, partial(_count, name=head)) for head in _counted(own)),
    ]
    return replace(folded(title, columns, records), notes=(*_machine_notes(own), NOTE))


def _counted(own: Sequence[Change]) -> list[str]:
    return list(dict.fromkeys(name for change in own for name in change.counts))


def _identity(records: Sequence[Record]) -> list[Column]:
    """What tells runs apart; machines are said in notes, commits by the call."""
    columns = identity_columns(records)
    return [column for column in columns if column.head not in selection.CONDITIONS]


def _any_bad(own: Sequence[Change]) -> bool:
    return any(r.status != "ok" for c in own for r in (c.pair.before, c.pair.after))


def _status(change: Change) -> str:
    before, after = change.pair.before.status, change.pair.after.status
    return before if before == after else f"{before} → {after}"


def _time(record: Record, value: str) -> str:
    number = VALUES[value].number(record)
    mark = "*" * selection.outside(record)
    return record.status if number is None else VALUES[value].text(number) + mark


def _ratio(change: Change) -> str:
    interval = change.interval
    if interval is None:
        return "–"
    if interval.samples < LEAST:
        return f"{interval.ratio:.3f}"
    return str(interval)


def _count(change: Change, name: str) -> str:
    """One number where both are equal, else both."""
    if name not in change.counts:
        return "–"
    before, after = change.counts[name]
    text: Callable[[float], str] = format_bytes if name == "bytes" else "{:.0f}".format
    if before == after:
        return text(before)
    if text(before) == text(after):
        return f"{before:,} → {after:,}"
    return f"{text(before)} → {text(after)}"


def _machine_notes(own: Sequence[Change]) -> Iterator[str]:
    """Which machines the times that are not compared are of."""
    apart = [change.pair for change in own if not change.pair.same_machine]
    both = [record for pair in apart for record in (pair.before, pair.after)]
    name = selection.condition_texts("machine", both)
    for line in dict.fromkeys(f"A on {name(p.before)}, B on {name(p.after)}" for p in apart):
        yield f"times not compared, only counts, since machines differ: {line}"


def _alone(side: str, records: Sequence[Record]) -> Iterator[TextTable]:
    for name, group in rows.by_experiment(records).items():
        ordered = sorted(group, key=sort_key)
        columns = [
            *_identity(ordered),
            Column("status", lambda record: record.status),
            Column("record", lambda record: record.id),
        ]
        yield folded(f"{name}, only in {side}", columns, ordered)


def change_data(matched: Matched, value: str = "online") -> dict[str, Any]:
    """The same as plain data, for JSON and the page: `changes`, most changed first, times in ns; and
    the ids of runs in one set alone. An interval without bounds has null ones."""
    return {
        "value": value,
        "changes": [_as_data(change, value) for change in changes(matched.pairs, value)],
        "only_a": [_whose(record) for record in matched.only_before],
        "only_b": [_whose(record) for record in matched.only_after],
    }


def _as_data(change: Change, value: str) -> dict[str, Any]:
    pair, interval = change.pair, change.interval
    bounded = interval is not None and interval.high < inf
    return {
        **_whose(pair.after),
        "change": change.said,
        "same_machine": pair.same_machine,
        "status": [pair.before.status, pair.after.status],
        "ids": [pair.before.id, pair.after.id],
        "time_ns": [VALUES[value].number(record) for record in (pair.before, pair.after)],
        "ratio": interval.ratio if interval else None,
        "interval": [interval.low, interval.high] if interval and bounded else None,
        "counts": {name: list(both) for name, both in change.counts.items()},
    }


def _whose(record: Record) -> dict[str, Any]:
    config = record.config
    return {
        "id": record.id,
        "experiment": dict(config["experiment"]),
        "system": config["system"]["name"],
        "model": config["model"]["name"],
        "network": config["network"]["name"],
    }
