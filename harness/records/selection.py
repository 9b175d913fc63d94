"""Which records stand in a table, a comparison or a figure, and which may stand side by side.

1. Of the records of one run on one machine the newest stands. One run: equal in every key that
   `matters`. Results that were replaced are kept in their folder, for `show --all`.
2. Machine and code change a number and are no keys (`CONDITIONS`); neither is the runner ever left
   unsaid. Where one varies among the records of a table, it is a column; a comparison, a pivot and a
   series hold records of one machine, one code and one runner alone, and name it where there are several.
   The code of a system of another package is a condition of its own, the version. It varies only where
   one system has several: systems are compared whatever packages they are of.
3. Numbers over a link outside tolerance stand where they would stand, marked: with * in tables, hollow
   in figures.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from harness.config.config_hash import is_quiet
from harness.records.environment import MACHINE_KEYS, machine_of
from harness.records.record import Record

SAMPLING = ("repeat",)  # how often is measured, and not what
Labels = dict[Hashable, str]


def matters(key: str) -> bool:
    """Whether records that differ in a key are of different runs."""
    return key not in SAMPLING and not is_quiet(key)


def newest(records: Sequence[Record]) -> list[Record]:
    """The newest record of each run on each machine, in the order given."""
    best: dict[Hashable, Record] = {}
    keys = [_run_key(record) for record in records]
    for key, record in zip(keys, records, strict=True):
        if key not in best or _date(record) >= _date(best[key]):
            best[key] = record
    return [record for key, record in zip(keys, records, strict=True) if best[key] is record]


def handle(record: Record) -> str:
    """What tells one of the `newest` records from all others."""
    return f"{record.id} {machine_key(record)}"


def outside(record: Record) -> bool:
    """Whether calibration found its link outside tolerance."""
    return record.network.within_tolerance is False


def machine_key(record: Record) -> str:
    """All that tells a record's machine from others."""
    return repr(tuple(machine_of(record.environment).values()))


def code_key(record: Record) -> str:
    """The digest of the code that made a record; of records of before, their commit."""
    sources, git = record.environment.get("sources"), record.environment.get("git") or {}
    return str(sources["code"]) if sources else repr((git.get("commit"), git.get("dirty")))


def version_key(record: Record) -> str:
    """The digest of the package that its system is of; empty for ours, which `code_key` counts."""
    sources = record.environment.get("sources")
    return str(sources["system"] or "") if sources else ""


COMMON: dict[str, Callable[[Record], str]] = {"machine": machine_key, "commit": code_key}
VERSION = "version"
CONDITIONS = COMMON | {VERSION: version_key}  # COMMON: alike in all records of a comparison


def varying_conditions(records: Iterable[Record]) -> list[str]:
    """The conditions in which `records` differ."""
    known = list(records)
    common = [name for name, key in COMMON.items() if len({key(r) for r in known}) > 1]
    versions = {(system_name(record), version_key(record)) for record in known}
    several = len(versions) > len({system for system, _ in versions})
    return [*common, VERSION] if several else common


def system_name(record: Record) -> str:
    """The name of its system."""
    return str(record.config["system"]["name"])


def of_last_versions(records: Sequence[Record]) -> list[Record]:
    """Those of `records` that the newest version of their system has made."""
    last = {system_name(record): version_key(record) for record in sorted(records, key=_date)}
    return [record for record in records if version_key(record) == last[system_name(record)]]


def differences(records: Iterable[Record]) -> str:
    """In which conditions `records` differ, as "machine and commit differ"; empty where in none."""
    names = varying_conditions(records)
    return f"{' and '.join(names)} differ{'s' * (len(names) == 1)}" if names else ""


def condition_texts(name: str, records: Iterable[Record]) -> Callable[[Record], str]:
    """How to name a condition of each of `records`, differently where it differs."""
    key, known = CONDITIONS[name], {CONDITIONS[name](record): record for record in records}
    labels = {"machine": _machines, "commit": _commits, VERSION: _versions}[name](known)
    return lambda record: labels[key(record)]


def _machines(known: dict[str, Record]) -> Labels:
    machines = {key: machine_of(record.environment) for key, record in known.items()}
    differing = [key for key in MACHINE_KEYS if len({repr(m[key]) for m in machines.values()}) > 1]
    return {key: _machine(machine, differing) for key, machine in machines.items()}


def _machine(machine: dict[str, Any], differing: Sequence[str]) -> str:
    cores = machine["usable_cores"]
    more = [key for key in differing if key not in ("cpu_model", "usable_cores")]
    parts = [machine["cpu_model"] or "unknown", *([f"{cores} cores"] if cores else [])]
    return ", ".join([*parts, *(f"{key} {machine[key]}" for key in more)])


def _commits(known: dict[str, Record]) -> Labels:
    names = {key: commit_text(record) for key, record in known.items()}
    plain = list(names.values())
    return {
        key: name if plain.count(name) == 1 else f"{name} ({key[:6]})"
        for key, name in names.items()
    }


def _versions(known: dict[str, Record]) -> Labels:
    return {key: key[:6] or "–" for key in known}


def commit_text(record: Record) -> str:
    """A record's commit, with + where the checkout held other changes."""
    git = record.environment.get("git") or {}
    if git.get("commit"):
        return f"{git['commit'][:7]}{'+' if git.get('dirty') else ''}"
    return "unknown"


def _run_key(record: Record) -> Hashable:
    flat = record.flat
    # A key that is newer than a record is as one that is not set.
    given = ((k, v) for k, v in flat.items() if v is not None and v is not False)
    run = sorted((k, repr(v)) for k, v in given if matters(k))
    return tuple(run), machine_key(record)


def _date(record: Record) -> str:
    return str(record.environment.get("date"))
