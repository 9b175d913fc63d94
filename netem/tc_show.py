"""What tc says an interface has and did: read, compared with a plan, counted. Pure functions.

tc prints delays in seconds as decimal fractions (a microsecond may be lost), rates in bytes a second,
losses as fractions, whatever units it was told them in.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from netem.tc import Band, Plan

REST = "11:"  # the unshaped band
SEED_RELEASE = (6, 6)  # first of both iproute2 and Linux with netem's `seed`

Qdisc = dict[str, Any]


@dataclass(frozen=True)
class Count:
    """What a queue sent and dropped. bytes: of whole Ethernet frames."""

    bytes: int = 0
    packets: int = 0
    dropped: int = 0

    def since(self, before: "Count") -> "Count":
        """What was counted between two readings."""
        return Count(
            self.bytes - before.bytes,
            self.packets - before.packets,
            self.dropped - before.dropped,
        )


def read_qdiscs(text: str) -> dict[str, Qdisc]:
    """Qdiscs by handle, from `tc [-s] -j qdisc show dev IF`. Raises ValueError."""
    rows = json.loads(text or "[]")
    return {row["handle"]: row for row in rows if row.get("kind") not in (None, "noqueue")}


def differences(plan: Plan, text: str) -> list[str]:
    """How the qdiscs in `text` (`tc -j qdisc show dev IF`) differ from the plan's; none is good."""
    found = read_qdiscs(text)
    wanted = {band.handle for band in plan.bands} | ({"1:", REST} if plan.bands else set())
    strangers = [f"{found[h]['kind']} {h}" for h in found if h not in wanted and h != "0:"]
    lines = [f"{plan.interface} has {name}, which is not in the plan" for name in strangers]
    for band in plan.bands:
        qdisc = found.get(band.handle)
        if qdisc is None or qdisc["kind"] != "netem" or qdisc.get("parent") != band.classid:
            lines.append(f"to {band.role}: no netem {band.handle} in class {band.classid}")
        else:
            lines += _unlike(band, qdisc["options"])
    if plan.bands:
        lines += _root_unlike(plan, found.get("1:"))
    return lines


def applied_seeds(plan: Plan, text: str) -> dict[str, int | None]:
    """The seed of each peer's netem as the kernel has it; None: it has none, and draws its own."""
    found = read_qdiscs(text)
    return {b.role: found.get(b.handle, {}).get("options", {}).get("seed") for b in plan.bands}


def counters(plan: Plan, text: str) -> dict[str, Count]:
    """What each band counted since it was made, by role, from `tc -s -j qdisc show dev IF`.

    Raises ValueError where a band is gone.
    """
    found = read_qdiscs(text)
    if missing := [band.role for band in plan.bands if band.handle not in found]:
        raise ValueError(f"{plan.interface} has no queue to {', '.join(missing)} any more")
    return {band.role: _count(found[band.handle]) for band in plan.bands}


def knows_seed(tc_version: str, kernel_release: str) -> bool:
    """Whether netem can be seeded, from `tc -V` and the kernel's release."""
    return all(
        (found := re.search(r"(\d+)\.(\d+)", text)) is not None
        and (int(found[1]), int(found[2])) >= SEED_RELEASE
        for text in (tc_version.rpartition("iproute2-")[2], kernel_release)
    )


def _root_unlike(plan: Plan, root: Qdisc | None) -> Iterator[str]:
    if root is None or root["kind"] != "prio" or not root.get("root"):
        yield f"{plan.interface}: the root qdisc is not prio 1:"
    elif any(root["options"]["priomap"]) or root["options"]["bands"] != len(plan.bands) + 1:
        yield f"{plan.interface}: the root qdisc's bands are {root['options']}"


def _unlike(band: Band, options: Mapping[str, Any]) -> Iterator[str]:
    delay = options.get("delay", {})
    rate = options.get("rate", {}).get("rate")
    pairs = {
        "delay_s": (delay.get("delay", 0.0), band.delay_s, 2e-6),
        "jitter_s": (delay.get("jitter", 0.0), band.jitter_s, 2e-6),
        "loss": (options.get("loss-random", {}).get("loss", 0.0), band.loss, 1e-3 * band.loss),
        "rate_bit_s": (rate and rate * 8, band.rate_bit_s, 8),
        "limit_packets": (options.get("limit"), band.limit_packets, 0),
    }
    for name, (found, wanted, tolerance) in pairs.items():
        if (found or 0) == (wanted or 0):
            continue
        if found is None or abs(found - (wanted or 0)) > tolerance:
            yield f"to {band.role}: {name} is {found}, and should be {wanted}"
    for name in ("reorder", "duplicate", "corrupt", "loss-state", "loss-gemodel", "slot"):
        if name in options:
            yield f"to {band.role}: {name} is {options[name]}, and should not be"


def _count(qdisc: Qdisc) -> Count:
    return Count(qdisc["bytes"], qdisc["packets"], qdisc["drops"])
