"""The baseline: the rows that a gate runs, and what each one must cost.

A row needs a name and the arguments of its run; a person may write these two, and set `threshold` and
`counts_only`. `permbench gate --update` adds the rest and leaves those four alone.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from harness.errors import ConfigError, GateFailure, close_match, spell
from harness.records.record import PhaseRecord, Record, Sent
from harness.records.store import write_whole
from harness.registry import OPERATORS, OURS

SCHEMA = 2  # 2: times over the emulated link as it is since records of schema 2
THRESHOLD = 1.05  # a row's, unless it says otherwise
LINK = ("network.rtt_ms=1", "network.rate_mbit=1000", "repeat=10", "warmup=2", "threads=1")
WORKLOADS = {
    "argmax": ("experiment=argmax", "experiment.n=1000"),
    "nonlinear": ("experiment=nonlinear", "experiment.op=gelu", "experiment.shape=[16,64]"),
    "layer": ("experiment=layer", "model=tiny", "experiment.q_len=1", "experiment.kv_len=16"),
    "model": (
        "experiment=model",
        "model=tiny",
        "experiment.prompt_len=2",
        "experiment.new_tokens=2",
    ),
}
OPERATOR_WORKLOADS = {
    "linear": ("experiment=linear", "experiment.d_in=64", "experiment.d_out=64"),
    "nonlinear": WORKLOADS["nonlinear"],
    "attention": ("experiment=attention", "experiment.d_head=16", "experiment.kv_len=16"),
}
# Options that put other messages on the wire than the default: the workload, the system, the option.
CHOICES = (("layer", "he_linear", "scheme=ckks"),)
TIMED = ("permllm", "mpcformer", "puma", "plaintext")  # systems


@dataclass(frozen=True)
class Counts:
    """What one phase of one evaluation costs. sent: by ordered pair of roles, "P0>P1"."""

    hops: int
    sent: Mapping[str, Sent]


@dataclass(frozen=True)
class Row:
    """One run of the gate.

    run: arguments as for `permbench run`. threshold: the ratio of online times, new to old, above which
    it is a regression. phases: the exact counts, by phase; online_ns: wall times on the baseline's
    machine; both are empty before the first update. counts_only: its times are neither kept nor compared.
    """

    name: str
    run: tuple[str, ...]
    threshold: float = THRESHOLD
    phases: Mapping[str, Counts] = field(default_factory=dict)
    online_ns: tuple[int, ...] = ()
    counts_only: bool = False

    def arguments(self, more: Sequence[str]) -> tuple[str, ...]:
        """The row's arguments, with `more` in the place of those with the same key."""
        keys = {argument.partition("=")[0] for argument in more}
        return (
            *(argument for argument in self.run if argument.partition("=")[0] not in keys),
            *more,
        )


@dataclass(frozen=True)
class Baseline:
    """All rows of one file. machine: that of their times. made: date and commit, for people."""

    rows: tuple[Row, ...]
    machine: Mapping[str, Any] = field(default_factory=dict)
    made: Mapping[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        data = asdict(self)
        ordered = {key: data[key] for key in ("schema", "made", "machine", "rows")}
        write_whole(path, f"{_pretty(ordered)}\n".encode())


def default_rows() -> tuple[Row, ...]:
    """Everything small, under every system that permbench brings, and `CHOICES`; timed under those of the
    paper and in the clear."""
    plain = [
        (f"{workload} {system}", system, arguments)
        for workloads, systems in ((WORKLOADS, OURS), (OPERATOR_WORKLOADS, OPERATORS))
        for workload, arguments in workloads.items()
        for system in systems
    ]
    chosen = [
        (f"{workload} {system} {option}", system, (*WORKLOADS[workload], f"system.{option}"))
        for workload, system, option in CHOICES
    ]
    return tuple(
        Row(name, (f"system={system}", *arguments, *LINK), counts_only=system not in TIMED)
        for name, system, arguments in (*plain, *chosen)
    )


def made_by(environment: Mapping[str, Any]) -> dict[str, Any]:
    """When, and from which commit."""
    return {"date": environment.get("date"), **environment.get("git", {})}


def counts_of(record: Record) -> dict[str, Counts]:
    """The counts of a record, by phase. Raises GateFailure where hops are not known."""
    return {name: _counts_of(phase) for name, phase in record.phases.items()}


def _counts_of(phase: PhaseRecord) -> Counts:
    pairs = {f"{a}>{b}": sent for a, role in phase.roles.items() for b, sent in role.sent.items()}
    if phase.hops is None:
        raise GateFailure(f"the gate holds runs whose hops are known: {phase.no_hops}")
    return Counts(phase.hops, dict(sorted(pairs.items())))


def _pretty(value: Any, depth: int = 0) -> str:
    """JSON with one line for each phase, list of arguments and list of times."""
    children = value.values() if isinstance(value, dict) else value
    if depth == 4 or not any(isinstance(child, dict | list | tuple) for child in children):
        return json.dumps(value, ensure_ascii=False)
    heads = (
        [f"{json.dumps(key)}: " for key in value] if isinstance(value, dict) else [""] * len(value)
    )
    lines = [
        head + (_pretty(c, depth + 1) if isinstance(c, dict | list | tuple) else json.dumps(c))
        for head, c in zip(heads, children, strict=True)
    ]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    pad = "\n" + " " * (depth + 1)
    return f"{opening}{pad}{f',{pad}'.join(lines)}{pad[:-1]}{closing}"


SHOWN = 80  # characters of a wrong value


def load(path: Path) -> Baseline:
    """The baseline in a file. Raises ConfigError."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(str(path), "no such file; permbench gate --update makes it") from None
    except (OSError, ValueError) as error:
        raise ConfigError(str(path), f"cannot be read as JSON: {error}") from None
    return parse(data, str(path))


def parse(data: Any, file: str) -> Baseline:
    """The baseline that is parsed JSON. Raises ConfigError, which names `file`."""
    place = _Place(file)
    values = place.keys(data, [f.name for f in fields(Baseline)], ("schema", "rows"))
    if values["schema"] != SCHEMA:
        raise place.error("schema", values["schema"], f"{SCHEMA} in this version")
    rows = tuple(_row(place, i, row) for i, row in enumerate(place.sequence(values, "rows")))
    names = [row.name for row in rows]
    if twice := [name for name in names if names.count(name) > 1]:
        raise place.error("rows", twice[0], "a list of rows with distinct names")
    return Baseline(rows, place.mapping(values, "machine"), place.mapping(values, "made"))


@dataclass(frozen=True)
class _Place:
    """A place inside a file of parsed JSON."""

    file: str
    path: str = ""

    def inside(self, key: str) -> "_Place":
        """The place `key` in this one."""
        return _Place(self.file, f"{self.path}.{key}" if self.path else key)

    def error(self, key: str, given: object, allowed: str) -> ConfigError:
        """What is wrong at `key`; with no key, here."""
        place = (self.inside(key) if key else self).path or "the file"
        found = spell(given)
        found = found if len(found) <= SHOWN else f"{found[:SHOWN]}…"
        return ConfigError(self.file, f"{place} is {found}, must be {allowed}")

    def keys(self, data: Any, known: Sequence[str], needed: Sequence[str]) -> dict[str, Any]:
        """`data` as a mapping with no key but `known` ones, and with all that are `needed`."""
        if not isinstance(data, dict):
            raise self.error("", data, "a JSON object")
        for key in data:
            if key not in known:
                guess = close_match(str(key), known)
                hint = f"did you mean {guess}? " if guess else ""
                text = (
                    f"unknown key {self.inside(str(key)).path}; {hint}allowed: {', '.join(known)}"
                )
                raise ConfigError(self.file, text)
        for key in needed:
            if key not in data:
                raise ConfigError(self.file, f"{self.inside(key).path} is missing")
        return data

    def mapping(self, values: Mapping[str, Any], key: str) -> dict[str, Any]:
        """An optional JSON object."""
        value = values.get(key, {})
        if not isinstance(value, dict):
            raise self.error(key, value, "a JSON object")
        return value

    def sequence(self, values: Mapping[str, Any], key: str) -> list[Any]:
        """An optional list."""
        value = values.get(key, [])
        if not isinstance(value, list):
            raise self.error(key, value, "a list")
        return value

    def count(self, values: Mapping[str, Any], key: str) -> int:
        """A whole number ≥ 0."""
        value = values[key]
        if not _whole(value) or value < 0:
            raise self.error(key, value, "a whole number ≥ 0")
        return int(value)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _row(file: _Place, index: int, data: Any) -> Row:
    place = file.inside(f"rows[{index}]")
    values = place.keys(data, [f.name for f in fields(Row)], ("name", "run"))
    name, threshold = values["name"], values.get("threshold", THRESHOLD)
    if not isinstance(name, str) or not name:
        raise place.error("name", name, "a name")
    place = file.inside(f"rows[{index}] ({name})")
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not threshold > 1:
        raise place.error("threshold", threshold, "a number > 1: 1.05 allows 5 % more time")
    counts_only = values.get("counts_only", False)
    if not isinstance(counts_only, bool):
        raise place.error("counts_only", counts_only, "true or false")
    run = place.sequence(values, "run")
    if not all(isinstance(argument, str) for argument in run):
        raise place.error("run", run, 'a list of arguments, as ["experiment.n=1000"]')
    times = place.sequence(values, "online_ns")
    if not all(_whole(ns) and ns > 0 for ns in times):
        raise place.error("online_ns", times, "a list of whole numbers > 0")
    inner = place.inside("phases")
    phases = place.mapping(values, "phases").items()
    counts = {phase: _counts(inner.inside(phase), data) for phase, data in phases}
    return Row(name, tuple(run), float(threshold), counts, tuple(times), counts_only)


def _counts(place: _Place, data: Any) -> Counts:
    values = place.keys(data, ("hops", "sent"), ("hops", "sent"))
    inner, pairs = place.inside("sent"), place.mapping(values, "sent").items()
    return Counts(
        place.count(values, "hops"), {pair: _sent(inner.inside(pair), t) for pair, t in pairs}
    )


def _sent(place: _Place, data: Any) -> Sent:
    keys = [f.name for f in fields(Sent)]
    values = place.keys(data, keys, keys)
    return Sent(*(place.count(values, key) for key in keys))
