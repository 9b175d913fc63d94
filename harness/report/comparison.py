"""Systems beside one another: runs that differ in nothing but the system, as ratios to one of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from math import inf

from harness.records import query as rows
from harness.records.record import Record
from harness.records.stats import digits, format_ns
from harness.registry import OURS
from harness.report.columns import Column, identity_columns, sort_key, uses_model

LEADER = "permllm"
# Keys in which runs that are compared may differ, besides the system and its options.
FREE = (*rows.QUIET_KEYS, "repeat", "warmup", "trace")


def references(records: Sequence[Record]) -> dict[str, Record]:
    """What each run is compared with, by its id: PermLLM's run with the fewest options changed, else that
    of the first system. Runs without another system beside them, and all but good ones, are left out."""
    good = sorted((r for r in records if r.status == "ok" and _time(r)), key=_circumstances)
    groups = [list(group) for _, group in groupby(good, key=_circumstances)]
    compared = [group for group in groups if len({_system(r) for r in group}) > 1]
    return {record.id: _reference(group) for group in compared for record in group}


def comparison_columns(records: Sequence[Record], beside: Mapping[str, Record]) -> list[Column]:
    """What is computed and by whom; online time; time, bytes and hops as multiples of the reference's."""

    def ratio(head: str, value: Callable[[Record], float]) -> Column:
        return Column(head, lambda r: _ratio(value(r), value(beside[r.id])), right=True)

    return [
        *(column for column in identity_columns(records) if column.head not in FREE),
        Column("online", _online, right=True),
        ratio("× time", _time),
        ratio("× bytes", lambda record: rows.payload_bytes(record, "online")),
        ratio("× hops", lambda record: record.phases["online"].hops),
    ]


def in_order(records: Sequence[Record], beside: Mapping[str, Record]) -> list[Record]:
    """The compared records: group after group, each with its reference first."""

    def key(record: Record) -> tuple[object, ...]:
        reference = beside[record.id]
        return sort_key(reference), reference.id, record.id != reference.id, sort_key(record)

    return sorted((record for record in records if record.id in beside), key=key)


def title(name: str, beside: Mapping[str, Record]) -> str:
    """The experiment, and whose values the ratios are multiples of."""
    systems = {_system(record) for record in beside.values()}
    return f"{name} relative to {systems.pop() if len(systems) == 1 else 'the first of each group'}"


def _circumstances(record: Record) -> list[tuple[str, str]]:
    """Everything that must be alike."""
    flat = rows.flatten(record.config)
    groups = ("system",) if uses_model(rows.experiment(record)) else ("system", "model")
    return sorted(
        (key, repr(value))
        for key, value in flat.items()
        if key not in FREE and key.partition(".")[0] not in groups
    )


def _reference(group: Sequence[Record]) -> Record:
    ordered = sorted(group, key=lambda record: (sort_key(record), record.id))
    own = [record for record in ordered if _system(record) == LEADER] or ordered
    return min(own, key=_options_changed)


def _options_changed(record: Record) -> int:
    name = _system(record)
    defaults = asdict(OURS[name][1]()) if name in OURS else {}
    return sum(record.config["system"].get(key) != value for key, value in defaults.items())


def _system(record: Record) -> str:
    return str(record.config["system"]["name"])


def _time(record: Record) -> float:
    times = rows.phase_spread(record, "online")
    return times.median if times else 0.0


def _online(record: Record) -> str:
    return format_ns(_time(record)) + "*" * (record.network.within_tolerance is False)


def _ratio(value: float, reference: float) -> str:
    if value == reference:
        return digits(1.0)
    factor = value / reference if reference else inf
    return "∞" if factor == inf else digits(factor)
