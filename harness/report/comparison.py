"""Systems beside one another: runs that differ in nothing but the system, as ratios to one of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from itertools import groupby
from math import inf
from operator import itemgetter
from textwrap import fill

from harness.errors import ConfigError
from harness.records import query as rows
from harness.records import selection
from harness.records.record import Record
from harness.records.selection import handle, newest
from harness.records.stats import digits, format_bytes, format_ns
from harness.registry import OPERATORS, OURS, learns, options_class
from harness.report.columns import (
    Column,
    config_column,
    error_columns,
    hops_text,
    identity_columns,
    plain,
    sort_key,
    stored_columns,
    sum_text,
    uses_model,
)
from protocols.options import SIDE_BY_SIDE

LEADER = "permllm"
LEARNS = "who learns what"
LEARNS_WIDTH = 16  # columns, where there is little room
# Left out where there is little room.
WIDE = ("× online", "× sum", "× bytes", "× hops", "exact error", "stored")
WITHOUT_WEIGHTS = ("argmax", "nonlinear", "attention")  # experiments
Beside = Mapping[str, Record]  # by `handle`, what a record is compared with
Circumstances = list[tuple[str, str]]


def references(records: Sequence[Record]) -> dict[str, Record]:
    """What each run is compared with: PermLLM's run with the fewest options changed, else that of the
    first system. Compared are the newest good runs of one machine and one code, of each system's last
    version; those without another system beside them are left out."""
    groups = map(selection.of_last_versions, _groups(_good(records), alike))
    compared = [group for group in groups if _systems(group) > 1]
    return {handle(record): _reference(group) for group in compared for record in group}


def comparison_columns(records: Sequence[Record], beside: Beside) -> list[Column]:
    """What is computed and by whom; times, the online phase's bytes and hops, and what they are as
    multiples of the reference's; errors; what is stored; who learns what."""

    def ratio(head: str, value: Callable[[Record], float | None], timed: bool = False) -> Column:
        def cell(record: Record) -> str:
            reference = beside[handle(record)]
            off = timed and (selection.outside(record) or selection.outside(reference))
            return _ratio(value(record), value(reference)) + "*" * off

        return Column(head, cell, right=True)

    return [
        *_identity(records),
        Column("online", _online, right=True),
        Column("offline", _offline, right=True),
        Column("sum", sum_text, right=True),
        ratio("× online", _time, timed=True),
        ratio("× sum", rows.sum_ns, timed=True),
        Column("bytes", _bytes, right=True),
        ratio("× bytes", lambda record: rows.payload_bytes(record, "online")),
        Column("hops", hops_text, right=True),
        ratio("× hops", lambda record: record.phases["online"].hops),
        *error_columns(records),
        *stored_columns(records),
        Column(LEARNS, learns_text, short=_learns_in_lines),
    ]


def narrow(columns: Sequence[Column]) -> list[Column]:
    """Those of `comparison_columns` that matter most, for a terminal of 100 columns."""
    return [
        replace(column, head=column.head.removeprefix("system."), cell=column.short or column.cell)
        for column in columns
        if column.head not in WIDE
    ]


def in_order(records: Sequence[Record], beside: Beside) -> list[Record]:
    """The compared records: group after group, each with its reference first."""

    def key(record: Record) -> tuple[object, ...]:
        reference = beside[handle(record)]
        return (
            *(sort_key(reference), handle(reference)),
            *(handle(record) != handle(reference), sort_key(record)),
        )

    return sorted((record for record in newest(records) if handle(record) in beside), key=key)


def title(name: str, beside: Beside) -> str:
    """The experiment, and whose values the ratios are multiples of."""
    systems = {selection.system_name(record) for record in beside.values()}
    return f"{name} relative to {systems.pop() if len(systems) == 1 else 'the first of each group'}"


def notes(records: Sequence[Record], compared: Sequence[Record]) -> Iterator[str]:
    """What stands under a comparison: which variant of a system is fair, and which of `records` are not
    compared since their machines or codes differ."""
    for system in dict.fromkeys(selection.system_name(record) for record in compared):
        own = [record for record in compared if selection.system_name(record) == system]
        for option, sentence in _variants(own[0]).items():
            seen = {record.config["system"].get(option) for record in own}
            missing = [plain(value) for value in (False, True) if value not in seen]
            more = f" Not measured here: system.{option}={missing[0]}." if missing else ""
            yield f"{system}, {option}: {sentence}{more}"
    yield from _apart(records, {handle(record) for record in compared})


def _apart(records: Sequence[Record], compared: set[str]) -> Iterator[str]:
    for group in _groups(_good(records), circumstances):
        left = [record for record in group if handle(record) not in compared]
        if not left or _systems(group) < 2:
            continue
        names = selection.varying_conditions(group)
        texts = [selection.condition_texts(name, group) for name in names]
        who = [f"{selection.system_name(r)} ({'; '.join(text(r) for text in texts)})" for r in left]
        why = selection.differences(group)
        yield f"not compared, since {why}: {', '.join(dict.fromkeys(who))}"


def _identity(records: Sequence[Record]) -> list[Column]:
    """What tells the records apart, with the options whose variants stand side by side."""
    columns = identity_columns(records)
    heads = {column.head for column in columns}
    options = dict.fromkeys(f"system.{key}" for record in records for key in _variants(record))
    return [*columns, *(config_column(key, key) for key in options if key not in heads)]


def _variants(record: Record) -> dict[str, str]:
    """The options of a record's system both of whose values belong in a comparison, and why."""
    if rows.experiment(record) in WITHOUT_WEIGHTS:
        return {}
    try:
        options = fields(options_class(selection.system_name(record)))
    except (ConfigError, KeyError):  # of a package that is not here
        return {}
    return {f.name: f.metadata[SIDE_BY_SIDE] for f in options if f.metadata.get(SIDE_BY_SIDE)}


def _good(records: Sequence[Record]) -> list[Record]:
    return [r for r in newest(records) if r.status == "ok" and _time(r)]


def _groups(
    records: Sequence[Record], key: Callable[[Record], Circumstances]
) -> Iterator[list[Record]]:
    keyed = sorted([(key(record), place) for place, record in enumerate(records)])
    for _, group in groupby(keyed, key=itemgetter(0)):
        yield [records[place] for _, place in group]


def alike(record: Record) -> Circumstances:
    """Everything that must be alike: all keys, machine and code."""
    own = [(name, key(record)) for name, key in selection.COMMON.items()]
    return [*circumstances(record), *own]


def circumstances(record: Record) -> Circumstances:
    """All keys that must be alike."""
    flat = record.flat
    groups = ("system",) if uses_model(rows.experiment(record)) else ("system", "model")
    return sorted(
        (key, repr(value))
        for key, value in flat.items()
        if value is not None and selection.matters(key) and key.partition(".")[0] not in groups
    )


def _reference(group: Sequence[Record]) -> Record:
    ordered = sorted(group, key=lambda record: (sort_key(record), record.id))
    own = [record for record in ordered if selection.system_name(record) == LEADER] or ordered
    return min(own, key=_options_changed)


def _options_changed(record: Record) -> int:
    name = selection.system_name(record)
    ours = OURS | OPERATORS
    defaults = asdict(ours[name][1]()) if name in ours else {}
    return sum(record.config["system"].get(key) != value for key, value in defaults.items())


def _systems(group: Sequence[Record]) -> int:
    return len({selection.system_name(record) for record in group})


def _time(record: Record) -> float:
    times = rows.phase_spread(record, "online")
    return times.median if times else 0.0


def _online(record: Record) -> str:
    return format_ns(_time(record)) + "*" * selection.outside(record)


def _bytes(record: Record) -> str:
    return format_bytes(rows.payload_bytes(record, "online"))


def learns_text(record: Record) -> str:
    """Who learns what, beyond its own input and answer, as the record's system says it."""
    return learns(selection.system_name(record))


def _learns_in_lines(record: Record) -> str:
    return fill(learns_text(record), LEARNS_WIDTH)


def _offline(record: Record) -> str:
    times = rows.phase_spread(record, "offline")
    return "–" if times is None else format_ns(times.median)


def _ratio(value: float | None, reference: float | None) -> str:
    if value is None or reference is None:
        return "–"
    if value == reference:
        return digits(1.0)
    factor = value / reference if reference else inf
    return "∞" if factor == inf else digits(factor)
