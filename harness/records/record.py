"""The record of one run: what was asked, what happened, and where. One JSON file each.

Times are in ns, sizes in bytes. Counts are those of one evaluation; that they are equal in every
sample is checked while the run is measured.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal, Self

from harness.config.config_hash import flatten
from harness.errors import RecordError
from harness.records.json_check import problem
from harness.records.migrate import SCHEMA, migrated
from harness.records.record_schema import record_schema

PHASES = ("prepare", "offline", "input", "online")
OUTSIDE = "link outside tolerance"  # how the error of a refused run begins
REMEDY = (
    "wait until other programs are done (permbench doctor), choose a network that this machine carries "
    "(permbench calibrate network=…), or measure all the same and mark it: calibration.strict=false"
)
Status = Literal["ok", "unsupported", "failed", "timeout", "incorrect"]


@dataclass(frozen=True)
class Sent:
    """Traffic of one ordered pair of roles in one phase. Wire bytes include framing."""

    messages: int
    payload_bytes: int
    wire_bytes: int


@dataclass(frozen=True)
class RolePhase:
    """One role in one phase. `cpu_ns`: one per sample, without time spent waiting for messages."""

    cpu_ns: list[int]
    peak_rss_bytes: int
    sent: dict[str, Sent]


@dataclass(frozen=True)
class PhaseRecord:
    """One phase. `wall_ns`: one per sample. `started_ns`: when each of these began, in ns of Unix time,
    so that samples of several records can be put in order; empty in records from before that key.

    computed_ns: for a phase that ran unshaped, what its bytes and hops alone would take on the
    profile (computed, not measured); None for a phase that was shaped. hops: None where `no_hops` says why
    they are not known.
    """

    wall_ns: list[int]
    warmup_wall_ns: list[int]
    hops: int | None
    roles: dict[str, RolePhase]
    computed_ns: int | None = None
    started_ns: list[int] = field(default_factory=list)
    no_hops: str | None = None


@dataclass(frozen=True)
class StepRecord:
    """Online work of one step of one evaluation that has several (the tokens of a model).

    tokens: how many went in at once. offline_wall_ns: of the same step.
    """

    evaluation: int
    kind: Literal["whole", "prefill", "decode", "verify"]
    tokens: int
    wall_ns: int
    offline_wall_ns: int
    hops: int
    payload_bytes: int


@dataclass(frozen=True)
class OperatorRecord:
    """Online work of one role for one operator, as "layer/softmax", in a traced run.

    Medians of one evaluation; of a generation, medians of one token over its decode steps. wait_ns:
    for messages. messages, payload_bytes: of those that this role sent. hops: how many messages of
    the critical path are among them.
    """

    role: str
    operator: str
    compute_wall_ns: int
    compute_cpu_ns: int
    wait_ns: int
    messages: int
    payload_bytes: int
    hops: int


@dataclass(frozen=True)
class Correctness:
    """The answer against plaintext: `ok` is value ≤ tolerance, over all samples.

    value: against what the system says it computes, with its own approximations. exact: the same metric
    against the exact model in float64; None where it was not measured.
    """

    metric: str
    value: float
    tolerance: float
    ok: bool
    exact: float | None = None


@dataclass(frozen=True)
class NetworkRecord:
    """The profile asked for, per ordered pair "P0>P1", and what calibration measured of it.

    calibrated_at: when, perhaps before an earlier run over the same links. interfaces: with shaper=tc,
    by role, its interface's settings and what its queues counted.
    """

    name: str
    profile: dict[str, dict[str, Any]]
    measured: dict[str, Any] = field(default_factory=dict)
    within_tolerance: bool | None = None
    interfaces: dict[str, Any] = field(default_factory=dict)
    calibrated_at: str | None = None


@dataclass(frozen=True)
class Record:
    """One run, finished or failed.

    generated: of `generate`, prompt, tokens and text. stored_bytes: by role, what it keeps of the model
    from `prepare` on, as the system declares it; None where it does not. operators: of a traced run, by
    role and operator; None of any other. markers: of external programs, by name, when each was heard, one
    for each sample, since all were ready; None of any other. parameters: what the system chose for the
    workload, in a line; None where it chose nothing, and in records from before that key. pytorch_ns: of
    `slowdown`, what PyTorch took for the same work in the clear, one for each sample; None of any other.
    """

    id: str
    config: dict[str, Any]
    status: Status
    error: str | None
    network: NetworkRecord
    phases: dict[str, PhaseRecord]
    steps: list[StepRecord]
    correctness: Correctness | None
    environment: dict[str, Any]
    logs: dict[str, list[str]] = field(default_factory=dict)
    generated: dict[str, Any] | None = None
    stored_bytes: dict[str, int] | None = None
    operators: list[OperatorRecord] | None = None
    markers: dict[str, list[int]] | None = None
    parameters: str | None = None
    pytorch_ns: list[int] | None = None
    schema: int = SCHEMA

    @cached_property
    def flat(self) -> dict[str, Any]:
        """The configuration with dotted keys; not to be changed."""
        return flatten(self.config)

    def to_json(self) -> str:
        """The record as JSON, its keys always in the same order. A number that JSON lacks is written as
        text: "nan", "inf"."""
        return json.dumps(_writable(_ordered(asdict(self))), indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`. Raises RecordError."""
        try:
            data = json.loads(text, parse_constant=_no_json)
        except (ValueError, RecursionError) as error:
            raise RecordError(f"not JSON: {error}") from None
        return cls.from_dict(data)

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """A record from parsed JSON of this schema or an older one. Raises RecordError, which names the
        first key that does not keep the JSON Schema (`harness.records.record_schema`)."""
        try:
            current = migrated(data)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            wrong = problem(data, MIGRATED)
            raise RecordError(f"not a record: {wrong or error}") from None
        if wrong := problem(current, record_schema(Record)):
            raise RecordError(f"not a record: {wrong}")
        return cls(**_record_fields(current))


# What a migration needs of a record of any schema.
MIGRATED = {
    "type": "object",
    "properties": {
        "config": {"type": "object"},
        "network": {"type": "object"},
        "environment": {"type": "object"},
        "correctness": {"anyOf": [{"type": "object"}, {"type": "null"}]},
    },
    "required": ["config", "network", "environment", "correctness"],
}


def _no_json(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _ordered(data: dict[str, Any]) -> dict[str, Any]:
    """The same with phases in the order of a run, and with what is by role or pair sorted."""
    names = [*(name for name in PHASES if name in data["phases"]), *sorted(data["phases"])]
    phases = {name: dict(data["phases"][name]) for name in dict.fromkeys(names)}
    for phase in phases.values():
        roles = _sorted(phase["roles"]).items()
        phase["roles"] = {role: {**r, "sent": _sorted(r["sent"])} for role, r in roles}
    network = {k: _sorted(v) if isinstance(v, dict) else v for k, v in data["network"].items()}
    stored = data["stored_bytes"] and _sorted(data["stored_bytes"])
    more = {"network": network, "logs": _sorted(data["logs"]), "stored_bytes": stored}
    return {**data, "phases": phases, **more}


def _sorted(data: dict[str, Any]) -> dict[str, Any]:
    return dict(sorted(data.items(), key=lambda item: by_number(item[0])))


def by_number(name: str) -> list[str | int]:
    """What sorts names such as P2, P10 and P2>P10 by their numbers."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _record_fields(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **data,
        "network": NetworkRecord(**data["network"]),
        "phases": {name: _phase(phase) for name, phase in data["phases"].items()},
        "steps": [StepRecord(**step) for step in data["steps"]],
        "correctness": data["correctness"] and _correctness(data["correctness"]),
        "operators": _operators(data.get("operators")),
    }


def _operators(data: Sequence[Mapping[str, Any]] | None) -> list[OperatorRecord] | None:
    return None if data is None else [OperatorRecord(**operator) for operator in data]


def _phase(data: Mapping[str, Any]) -> PhaseRecord:
    roles = {name: _role(role) for name, role in data["roles"].items()}
    return PhaseRecord(**{**data, "roles": roles})


def _role(data: Mapping[str, Any]) -> RolePhase:
    sent = {peer: Sent(**traffic) for peer, traffic in data["sent"].items()}
    return RolePhase(**{**data, "sent": sent})


def _correctness(data: Mapping[str, Any]) -> Correctness:
    keys = ("value", "tolerance", "exact")
    numbers = {key: float(data[key]) for key in keys if data.get(key) is not None}
    return Correctness(**{**data, **numbers})


def _writable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _writable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_writable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
