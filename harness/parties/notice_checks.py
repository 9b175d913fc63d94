"""What a party reports is taken for what it can be: the right types, and values that are possible.

A party that has proved who it is may still be wrong, or of another mind. Every function raises PartyFailure,
in one line that names the party and the field.
"""

import time
from collections.abc import Collection, Mapping
from ipaddress import ip_address
from typing import Any, NoReturn

from harness.errors import PartyFailure
from harness.parties.control import MAX_INTEGER, VERSION
from protocols.party import Phase, Role

MAX_HOPS = (1 << 32) - 1  # what a message can carry
AHEAD_NS = 1_000_000_000  # of the harness's clock, at most: clocks of hosts are compared to some ms
SHORT = 200  # of what a party says, for people: characters
SENT = ("messages", "payload_bytes", "wire_bytes")
COUNTED = ("bytes", "packets", "dropped", "wire_bytes")


def refuse(role: Role, name: str, value: object) -> NoReturn:
    """Raise PartyFailure for a value that cannot be."""
    raise PartyFailure(f"{role} reports {name} {str(value)[:SHORT]!r}, which cannot be")


def text_of(fields: Mapping[str, Any], name: str = "text", most: int = SHORT) -> str:
    """A text for people, cut to its length."""
    return str(fields.get(name, ""))[:most]


def integer(
    role: Role, fields: Mapping[str, Any], name: str, high: int = MAX_INTEGER, low: int = 0
) -> int:
    """The whole number in a field, from `low` to `high`."""
    value = fields.get(name)
    if type(value) is not int or not low <= value <= high:
        refuse(role, name, value)
    return value


def mapping(role: Role, fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The object in a field."""
    value = fields.get(name)
    if not isinstance(value, dict):
        refuse(role, name, value)
    return value


def address(role: Role, fields: Mapping[str, Any]) -> tuple[str, int]:
    """Where a party's peers find it, from its first notice."""
    if (found := fields.get("version")) != VERSION:
        text = f"{role} is of another version of permbench (control channel {str(found)[:SHORT]}"
        raise PartyFailure(f"{text}, the harness's {VERSION})")
    host = fields.get("host")
    try:
        ip_address(host if isinstance(host, str) else "")
    except ValueError:
        refuse(role, "host", host)
    return str(host), integer(role, fields, "port", 65535, 1)


def check_calibrated(role: Role, fields: Mapping[str, Any]) -> None:
    """Of a link: what was measured, and in what it is not its profile."""
    measured, outside = mapping(role, fields, "measured"), fields.get("outside")
    rtt_s = measured.get("rtt_s")
    if not isinstance(rtt_s, int | float) or rtt_s < 0:
        refuse(role, "rtt_s", rtt_s)
    if not isinstance(outside, list):
        refuse(role, "outside", outside)
    for each in outside:
        known = isinstance(each, dict) and each.keys() == {"direction", "text", "excess"}
        if not known or not isinstance(each["excess"], int | float):
            refuse(role, "outside", each)


def check_result(
    role: Role, fields: Mapping[str, Any], expected: Mapping[Phase, int], roles: Collection[Role]
) -> None:
    """Of a job among `roles`: the counts of each occurrence of each phase, of which there are as many as
    `expected`."""
    phases = mapping(role, fields, "phases")
    peaks, interface = mapping(role, fields, "peak_rss_bytes"), mapping(role, fields, "interface")
    now_ns = time.monotonic_ns() + AHEAD_NS
    for phase, count in expected.items():
        seen = phases.get(phase)
        if not isinstance(seen, list) or len(seen) != count:
            size = len(seen) if isinstance(seen, list) else seen
            refuse(role, f"occurrences of {phase}", size)
        integer(role, peaks, phase)
        for each in seen:
            _check_occurrence(role, each, now_ns, roles)
    for to in interface:
        for name in COUNTED:
            integer(role, mapping(role, interface, to), name)


def counted(role: Role, fields: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Of an interface: the bytes, packets and drops that its queues have counted, by receiving role."""
    interface = mapping(role, fields, "interface")
    return {
        to: {name: integer(role, mapping(role, interface, to), name) for name in COUNTED[:3]}
        for to in interface
    }


def _check_occurrence(role: Role, fields: Any, now_ns: int, roles: Collection[Role]) -> None:
    if not isinstance(fields, dict):
        refuse(role, "a phase", fields)
    integer(role, fields, "end_ns", now_ns)
    integer(role, fields, "cpu_ns")
    integer(role, fields, "depth", MAX_HOPS)
    sent = mapping(role, fields, "sent")
    if not sent.keys() <= set(roles) - {role}:
        refuse(role, "messages to", ", ".join(sent))
    for to in sent:
        traffic = mapping(role, sent, to)
        if traffic.keys() != set(SENT):
            refuse(role, "traffic", traffic)
        for name in SENT:
            integer(role, traffic, name)
