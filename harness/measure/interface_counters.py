"""What the parties' interfaces say about a run over kernel links (shaper=tc)."""

from collections.abc import Iterator, Mapping
from typing import Any

from harness.parties.job import Shaping
from protocols.party import Role

Reports = Mapping[Role, Mapping[str, Any]]


def interface_problems(reports: Reports, shaping: Shaping) -> list[str]:
    """Why a run's traffic cannot have gone through its links as profiled; empty if it did.

    reports: each role's result; its `interface` holds, by receiving role, what the queue counted during the
    evaluations (bytes, packets, dropped) and the protocol's own wire_bytes of the shaped phases.
    """
    return [
        f"{role}>{to}: {problem}"
        for role, report in reports.items()
        for to, counted in report["interface"].items()
        for problem in _problems(counted, shaping.profile(role, to).loss)
    ]


def _problems(counted: Mapping[str, int], loss: float) -> Iterator[str]:
    if counted["dropped"] and not loss:
        yield f"{counted['dropped']} packets dropped on a link without loss"
    if counted["bytes"] < counted["wire_bytes"]:
        yield (
            f"{counted['bytes']} bytes crossed the interface's queue, "
            f"but the protocol sent {counted['wire_bytes']}: its traffic went another way"
        )
