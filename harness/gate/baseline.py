"""The baseline: the rows that a gate runs, and what each one must cost.

A row needs a name and the words of its run; a person may write these two, and set `threshold`.
`permbench gate --update` adds the rest and leaves those three alone.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.record import PhaseRecord, Record, Sent
from harness.registry import OURS
from harness.store import write_whole

SCHEMA = 2  # 2: times over the emulated link as it is since records of schema 2
THRESHOLD = 1.05  # a row's, unless it says otherwise
# What makes times comparable: the keys of a record's environment that tell machines apart.
MACHINE_KEYS = ("cpu_model", "cores", "usable_cores", "memory_bytes", "governor", "kernel")
LINK = ("network.rtt_ms=1", "network.rate_mbit=1000", "repeat=10", "warmup=2", "threads=1")
SUBJECTS = {
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


@dataclass(frozen=True)
class Counts:
    """What one phase of one evaluation costs. sent: by ordered pair of roles, "P0>P1"."""

    hops: int
    sent: Mapping[str, Sent]


@dataclass(frozen=True)
class Row:
    """One run of the gate.

    run: words as for `permbench run`. threshold: the ratio of online times, new to old, above which
    it is a regression. phases: the exact counts, by phase; online_ns: wall times on the baseline's
    machine; both are empty before the first update.
    """

    name: str
    run: tuple[str, ...]
    threshold: float = THRESHOLD
    phases: Mapping[str, Counts] = field(default_factory=dict)
    online_ns: tuple[int, ...] = ()

    def words(self, more: Sequence[str]) -> tuple[str, ...]:
        """The row's words, with `more` in the place of those with the same key."""
        keys = {word.partition("=")[0] for word in more}
        return (*(word for word in self.run if word.partition("=")[0] not in keys), *more)


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
    """Everything small, under every system that permbench brings."""
    return tuple(
        Row(f"{subject} {system}", (f"system={system}", *words, *LINK))
        for subject, words in SUBJECTS.items()
        for system in OURS
    )


def machine_of(environment: Mapping[str, Any]) -> dict[str, Any]:
    """The machine of a record's environment, as far as that tells."""
    return {key: environment.get(key) for key in MACHINE_KEYS}


def made_by(environment: Mapping[str, Any]) -> dict[str, Any]:
    """When, and from which commit."""
    return {"date": environment.get("date"), **environment.get("git", {})}


def counts_of(record: Record) -> dict[str, Counts]:
    """The counts of a record, by phase."""
    return {name: _counts_of(phase) for name, phase in record.phases.items()}


def _counts_of(phase: PhaseRecord) -> Counts:
    pairs = {f"{a}>{b}": sent for a, role in phase.roles.items() for b, sent in role.sent.items()}
    return Counts(phase.hops, dict(sorted(pairs.items())))


def _pretty(value: Any, depth: int = 0) -> str:
    """JSON with one line for each phase, list of words and list of times."""
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
