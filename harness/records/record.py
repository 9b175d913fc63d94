"""The record of one run: what was asked, what happened, and where. One JSON file each.

Times are in ns, sizes in bytes. Counts are those of one evaluation; that they are equal in every
sample is checked while the run is measured.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Self, get_args

from harness.errors import RecordError
from harness.records.migrate import SCHEMA, migrated

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
    """One phase. `wall_ns`: one per sample.

    computed_ns: for a phase that ran unshaped, what its bytes and hops alone would take on the
    profile (computed, not measured); None for a phase that was shaped.
    """

    wall_ns: list[int]
    warmup_wall_ns: list[int]
    hops: int
    roles: dict[str, RolePhase]
    computed_ns: int | None = None


@dataclass(frozen=True)
class StepRecord:
    """Online work of one step of one evaluation that has several (the tokens of a model).

    tokens: how many went in at once. offline_wall_ns: of the same step.
    """

    evaluation: int
    kind: Literal["whole", "prefill", "decode"]
    tokens: int
    wall_ns: int
    offline_wall_ns: int
    hops: int
    payload_bytes: int


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
    from `prepare` on, as the system declares it; None where it does not.
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
    schema: int = SCHEMA

    def to_json(self) -> str:
        """The record as JSON. A number that JSON lacks is written as text: "nan", "inf"."""
        return json.dumps(_writable(asdict(self)), indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`. Raises RecordError."""
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise RecordError(f"not JSON: {error}") from None
        return cls.from_dict(data)

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """A record from parsed JSON of this schema or an older one. Raises RecordError."""
        if not isinstance(data, dict):
            raise RecordError(f"not a record: {type(data).__name__}")
        try:
            return cls(**_record_fields(migrated(data)))
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise RecordError(f"not a record: {error}") from None


def _record_fields(data: Mapping[str, Any]) -> dict[str, Any]:
    missing = {f.name for f in fields(Record)} - data.keys()
    if missing:
        raise KeyError(f"missing {', '.join(sorted(missing))}")
    if data["status"] not in get_args(Status):
        raise ValueError(f"status {data['status']!r}")
    return {
        **data,
        "network": NetworkRecord(**data["network"]),
        "phases": {name: _phase(phase) for name, phase in data["phases"].items()},
        "steps": [StepRecord(**step) for step in data["steps"]],
        "correctness": data["correctness"] and _correctness(data["correctness"]),
    }


def _phase(data: Mapping[str, Any]) -> PhaseRecord:
    roles = {name: _role(role) for name, role in data["roles"].items()}
    return PhaseRecord(**{**data, "roles": roles})


def _role(data: Mapping[str, Any]) -> RolePhase:
    sent = {peer: Sent(**traffic) for peer, traffic in data["sent"].items()}
    return RolePhase(**{**data, "sent": sent})


def _correctness(data: Mapping[str, Any]) -> Correctness:
    keys = ("value", "tolerance", "exact")
    numbers = {key: float(data[key]) for key in keys if data[key] is not None}
    return Correctness(**{**data, **numbers})


def _writable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _writable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_writable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
