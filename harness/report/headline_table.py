"""The table that a reader looks for first: systems side by side, in times and as multiples of PermLLM's."""

from collections import Counter
from collections.abc import Iterator, Sequence

from harness.records import query as rows
from harness.records import selection
from harness.records.record import Record
from harness.records.stats import digits, format_bytes, format_ns
from harness.report import comparison
from harness.report.approximation_table import approximation_of
from harness.report.columns import hops_text, plain, uses_model
from harness.report.labels import link_text
from harness.report.series import TITLES
from harness.report.styles import REUSED, name_of, rank_of, system_of
from harness.report.text_table import TextTable

HEADS = ("online", "offline", "sum", "× online", "× sum", "bytes online", "hops")


def headline_tables(records: Sequence[Record]) -> Iterator[TextTable]:
    """A table for each experiment with several systems: those runs that stand beside one another, by what
    is computed and over which network."""
    for name, group in rows.by_experiment(records).items():
        beside = comparison.references(group)
        compared = comparison.in_order(group, beside)
        if compared:
            yield _table(name, _by_system(compared, beside), beside)


def _by_system(records: Sequence[Record], beside: comparison.Beside) -> list[Record]:
    """Compared records in their order, but those beside one another by system."""
    groups = list(dict.fromkeys(selection.handle(beside[selection.handle(r)]) for r in records))
    return sorted(
        records,
        key=lambda r: (
            groups.index(selection.handle(beside[selection.handle(r)])),
            rank_of(system_of(r)),
        ),
    )


def _table(name: str, records: Sequence[Record], beside: comparison.Beside) -> TextTable:
    keys = _what_keys(name, records)
    common = {
        key: texts.pop() for key in keys if len(texts := {_text(r, key) for r in records}) == 1
    }
    varying = [key for key in keys if key not in common]
    title = ", ".join([TITLES.get(name, name), *(_named(k, v) for k, v in common.items())])
    off = any(selection.outside(record) for record in records)
    several = _with_several_approximations(records)
    return TextTable(
        title=title,
        heads=(*map(_head, varying), "system", *HEADS),
        right=(
            *(key not in ("network", "model.name") for key in varying),
            False,
            *(True for _ in HEADS),
        ),
        rows=tuple(
            (*(_text(record, key) for key in varying), *_cells(record, beside, several))
            for record in records
        ),
        notes=("*: its link was outside tolerance",) if off else (),
    )


def _what_keys(name: str, records: Sequence[Record]) -> list[str]:
    """What is computed, and over which network."""
    own = dict.fromkeys(
        f"experiment.{key}"
        for record in records
        for key, value in record.config["experiment"].items()
        if key != "name" and value is not None
    )
    return [*(["model.name"] if uses_model(name) else []), *own, "network"]


def _text(record: Record, key: str) -> str:
    flat = record.flat
    return link_text(flat) if key == "network" else plain(flat.get(key))


def _head(key: str) -> str:
    return key.removesuffix(".name").removeprefix("experiment.")


def _named(key: str, text: str) -> str:
    return text if key in ("network", "model.name") else f"{_head(key)} {text}"


def _with_several_approximations(records: Sequence[Record]) -> set[str]:
    """The systems of which rows would bear one name for different functions."""
    counts = Counter(system for system, _ in {(system_of(r), approximation_of(r)) for r in records})
    return {system for system, count in counts.items() if count > 1}


def _cells(record: Record, beside: comparison.Beside, several: set[str]) -> tuple[str, ...]:
    reference = beside[selection.handle(record)]
    online, whole = _times(record)
    of_online, of_whole = _times(reference)
    mark = "*" if selection.outside(record) or selection.outside(reference) else ""
    approx = f", {approximation_of(record)}" if system_of(record) in several else ""
    return (
        *(system_text(record) + approx, format_ns(online) + mark, format_ns(whole - online)),
        *(format_ns(whole), _ratio(online, of_online) + mark, _ratio(whole, of_whole) + mark),
        format_bytes(rows.payload_bytes(record, "online")),
        hops_text(record),
    )


def _times(record: Record) -> tuple[float, float]:
    """Online time, and with offline time, ns; only measured runs are compared."""
    online, offline = rows.online_and_offline_ns(record) or (0.0, 0.0)
    return online, online + offline


def _ratio(value: float, reference: float) -> str:
    return "1" if value == reference else digits(value / reference) if reference else "–"


def system_text(record: Record) -> str:
    """A system's name; MPCFormer's is that of its two variants where weights are opened."""
    published = record.flat.get(REUSED) is False
    published &= uses_model(rows.experiment(record))
    return f"{name_of(record)}{', as published' if published else ''}"
