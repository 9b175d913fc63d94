"""What the page's bars show of each record: phases, roles and operators, as plain data."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from harness.records.record import PhaseRecord, Record, by_number

PHASES = ("online", "offline", "input", "prepare")
OPERATOR = ("compute_wall_ns", "wait_ns", "payload_bytes", "messages", "hops")


def bar_data(records: Sequence[Record], names: Sequence[str]) -> list[dict[str, Any]]:
    """An entry for each record that was measured; times are medians, in ns.

    phases: name, wall time, hops, then by role its processor time, payload bytes and
    messages sent. operators: role, name, then `OPERATOR`; empty where the run was not traced.
    """
    return [
        {
            "id": record.id,
            "name": name,
            "phases": [_phase(p, record.phases[p]) for p in PHASES if p in record.phases],
            "operators": _operators(record),
        }
        for record, name in zip(records, names, strict=True)
        if record.phases
    ]


def _phase(name: str, phase: PhaseRecord) -> list[Any]:
    roles = [
        [
            role,
            round(median(own.cpu_ns)) if own.cpu_ns else 0,
            sum(traffic.payload_bytes for traffic in own.sent.values()),
            sum(traffic.messages for traffic in own.sent.values()),
        ]
        for role, own in sorted(phase.roles.items(), key=lambda item: by_number(item[0]))
    ]
    wall_ns = round(median(phase.wall_ns)) if phase.wall_ns else 0
    return [name, wall_ns, phase.hops, roles]


def _operators(record: Record) -> list[list[Any]]:
    return [
        [one.role, one.operator, *(getattr(one, key) for key in OPERATOR)]
        for one in record.operators or []
    ]
