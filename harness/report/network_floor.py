"""What the network alone takes."""

from collections.abc import Mapping
from typing import Any

from harness.records.record import Record


def floor_ns(record: Record) -> float:
    """What the network alone takes: hops × delay + bytes/rate, in ns.

    A bound from below whatever the schedule, also where hops are not known: the shortest delay of the
    links used, and the wire bytes of the busiest direction, since directions are independent.
    """
    online = record.phases["online"]
    if record.config["shaper"]["name"] == "none":
        return 0.0
    used = [
        (record.network.profile.get(f"{role}>{peer}", {}), traffic.wire_bytes)
        for role, phase in online.roles.items()
        for peer, traffic in phase.sent.items()
        if traffic.messages
    ]
    delay = min((_least_delay_s(link) for link, _ in used), default=0.0)
    serial = max((_serial_s(link, size) for link, size in used), default=0.0)
    return ((online.hops or 0) * delay + serial) * 1e9


def _least_delay_s(link: Mapping[str, Any]) -> float:
    return float(link.get("delay_s", 0.0)) - float(link.get("jitter_s", 0.0))


def _serial_s(link: Mapping[str, Any], size_bytes: int) -> float:
    rate = link.get("rate_bit_s")
    return size_bytes * 8 / rate if rate else 0.0
