"""Records as flat rows, and selections of them: pure functions over records."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from itertools import groupby
from math import log10
from typing import Any

from harness.config.config_hash import flatten, is_quiet
from harness.config.experiments import EXPERIMENTS
from harness.config.groups import GROUPS
from harness.errors import ConfigError, unknown
from harness.records import draft_gain
from harness.records.environment import MACHINE_KEYS
from harness.records.record import PhaseRecord, Record
from harness.records.sample_verdict import verdict
from harness.records.stats import Spread, spread
from harness.registry import BROUGHT
from protocols.party import ROLES

TIMED_PHASES = ("online", "offline", "prepare")


def experiment(record: Record) -> str:
    """The experiment's name."""
    return str(record.config["experiment"]["name"])


def by_experiment(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records by experiment, both sorted by name."""
    ordered = sorted(records, key=experiment)
    return {name: list(group) for name, group in groupby(ordered, key=experiment)}


def phase_spread(record: Record, phase: str) -> Spread | None:
    """Wall time of a phase over its samples; None if it was not measured."""
    found = record.phases.get(phase)
    return None if found is None else spread(found.wall_ns)


def online_and_offline_ns(record: Record) -> tuple[float, float] | None:
    """Median times, each as it was measured: a phase that was not shaped at full speed. None if either
    was not."""
    online, offline = phase_spread(record, "online"), phase_spread(record, "offline")
    return (online.median, offline.median) if online and offline else None


def sum_ns(record: Record) -> float | None:
    """Median online and offline time together."""
    times = online_and_offline_ns(record)
    return None if times is None else sum(times)


def steady_ns(record: Record) -> float | None:
    """What an evaluation takes where the offline work of the next ones runs ahead: computed as the
    longer of median online and offline time; of a run that did run ahead, measured, as their sum."""
    times = online_and_offline_ns(record)
    if times is None:
        return None
    return sum(times) if record.config["system"].get("offline_ahead") else max(times)


def slowdown(record: Record, online_ns: float | None = None) -> float | None:
    """By how many orders of magnitude (log10) online time, or `online_ns`, is longer than what PyTorch took
    in the clear, medians; None where one of them was not measured."""
    clear, times = spread(record.pytorch_ns or []), phase_spread(record, "online")
    if clear is None or times is None or min(clear.median, times.low) <= 0:
        return None
    return log10((times.median if online_ns is None else online_ns) / clear.median)


def payload_bytes(record: Record, phase: str) -> int:
    """Payload bytes of all roles in one evaluation's phase."""
    return sum(traffic.payload_bytes for traffic in _traffic(record.phases.get(phase)))


def phase_counts(record: Record, phase: str) -> dict[str, int]:
    """Payload bytes, messages and hops of one evaluation's phase, all roles together; empty where it was
    not measured."""
    found = record.phases.get(phase)
    if found is None:
        return {}
    traffic = _traffic(found)
    return {
        "bytes": sum(t.payload_bytes for t in traffic),
        "messages": sum(t.messages for t in traffic),
        "hops": found.hops,
    }


def flat_row(record: Record) -> dict[str, Any]:
    """Everything of a record that fits one row of a CSV file; times in ns, sizes in bytes."""
    row: dict[str, Any] = {"id": record.id, "status": record.status, "error": record.error}
    row |= {key: value for key, value in record.flat.items() if value != {}}
    for name in TIMED_PHASES:
        row |= {f"{name}.{key}": value for key, value in _phase_row(record, name).items()}
    if record.correctness is not None:
        keys = ("metric", "value", "exact", "tolerance", "ok")
        row |= {f"correctness.{key}": getattr(record.correctness, key) for key in keys}
    judged = verdict(record)
    row |= {"verdict": str(judged), "verdict_reason": "; ".join(judged.reasons)}
    row |= {f"verify.{key}": value for key, value in draft_gain.columns(record).items()}
    clear = spread(record.pytorch_ns or [])
    row |= {"pytorch.median_ns": clear and clear.median, "slowdown": slowdown(record)}
    row["within_tolerance"] = record.network.within_tolerance
    stored = dict.fromkeys(map(str, ROLES)) | (record.stored_bytes or {})
    row |= {f"stored_bytes.{role}": size for role, size in stored.items()}
    keep = (*MACHINE_KEYS, "date", "python", "git.commit", "git.dirty", "sources.code")
    environment = flatten(record.environment)
    return row | {f"environment.{key}": environment.get(key) for key in keep}


def varying_keys(records: Sequence[Record]) -> list[str]:
    """Configuration keys that differ between records and that no shown name accounts for.

    A group's key counts only where two records name the same option and yet differ in it: the
    rate of two networks follows from their names, a rate overridden on the command line does not.
    """
    return varying([record.flat for record in records])


def varying(flats: Sequence[Mapping[str, Any]]) -> list[str]:
    """`varying_keys` of flat configurations."""
    keys = dict.fromkeys(key for flat in flats for key in flat)
    return [key for key in keys if _counts(key) and _varies(key, flats)]


def select(records: Iterable[Record], filters: Mapping[str, Collection[str]]) -> list[Record]:
    """The records whose value at every key of `filters` is among those given, compared as text."""
    return [
        record for record in records if all(_matches(record, *item) for item in filters.items())
    ]


def parse_filters(
    arguments: Sequence[str], records: Sequence[Record]
) -> dict[str, Collection[str]]:
    """`key=value` arguments as filters; a value may be a comma list.

    A key is a dotted configuration key, `status`, `id`, a group (for its name), or the last part of
    an experiment's or plain key. Raises ConfigError for what is none of these.
    """
    keys = known_keys(records)
    filters: dict[str, Collection[str]] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or not key:
            raise ConfigError(argument, "must look like key=value")
        filters[full_key(key, keys)] = [value] if value.startswith("[") else value.split(",")
    return filters


def known_keys(records: Iterable[Record]) -> set[str]:
    """The full names of all keys, those that only some of `records` have among them."""
    named = {f"{group}.name" for group in GROUPS}
    named |= {f"experiment.{f.name}" for kind in EXPERIMENTS.values() for f in fields(kind)}
    named |= {f"system.{f.name}" for _, kind in BROUGHT.values() for f in fields(kind)}
    return {"status", "id"} | named | {key for r in records for key in r.flat}


def full_key(key: str, keys: Collection[str]) -> str:
    """The full name of a key that may be given by a group or its last part. Raises ConfigError."""
    candidates = (key, f"{key}.name", f"experiment.{key}")
    found = next((name for name in candidates if name in keys), None)
    if found is None:
        short = [*GROUPS, *sorted(name for name in keys if name.rpartition(".")[2] != "name")]
        raise unknown(key, "unknown key", short)
    return found


def _matches(record: Record, key: str, values: Collection[str]) -> bool:
    given = {"status": record.status, "id": record.id}.get(key)
    value = record.flat.get(key) if given is None else given
    return any(_same(value, text) for text in values)


def _same(value: object, text: str) -> bool:
    if value is None or isinstance(value, bool):
        return {"null": None, "true": True, "false": False}.get(text.lower(), text) is value
    if isinstance(value, int | float):
        try:
            return float(text) == value
        except ValueError:
            return False
    return str(value).replace(" ", "") == text.replace(" ", "")


def _traffic(phase: PhaseRecord | None) -> list[Any]:
    roles = phase.roles.values() if phase is not None else ()
    return [traffic for role in roles for traffic in role.sent.values()]


def _phase_row(record: Record, name: str) -> dict[str, Any]:
    phase, times = record.phases.get(name), phase_spread(record, name)
    if phase is None or times is None:
        return {}
    traffic = _traffic(phase)
    return {
        "median_ns": times.median,
        "min_ns": times.low,
        "max_ns": times.high,
        "q1_ns": times.q1,
        "q3_ns": times.q3,
        "p95_ns": times.p95,
        "samples": times.samples,
        "computed_ns": phase.computed_ns,
        "hops": phase.hops,
        "messages": sum(t.messages for t in traffic),
        "payload_bytes": sum(t.payload_bytes for t in traffic),
        "wire_bytes": sum(t.wire_bytes for t in traffic),
    }


def _counts(key: str) -> bool:
    return not is_quiet(key) and not key.startswith("experiment.")


def _varies(key: str, flats: Sequence[Mapping[str, Any]]) -> bool:
    group = key.partition(".")[0]
    if key == f"{group}.name":
        return False
    seen: dict[object, object] = {}
    name_key = f"{group}.name"
    return any(
        repr(flat.get(key)) != seen.setdefault(flat.get(name_key), repr(flat.get(key)))
        for flat in flats
    )
