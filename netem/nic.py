"""One network interface of this network namespace, and TCP in it: found, looked at, changed.

Everything raises TcError where a tool is absent or refuses, or where a value cannot be set.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netem.command import TcError, run
from netem.tcp import RECORDED, WINDOW_PACKETS

IPV4 = Path("/proc/sys/net/ipv4")
NOWHERE = "192.0.2.254"  # an address of no host, kept for documentation
OFFLOADS = {
    "tso": "tcp-segmentation-offload",
    "gso": "generic-segmentation-offload",
    "gro": "generic-receive-offload",
}


@dataclass(frozen=True)
class Interface:
    """name, mtu in bytes, gso_max_segs: packets in the largest bundle that it takes."""

    name: str
    mtu: int
    gso_max_segs: int


def interface_of(address: str) -> Interface:
    """The interface with this IPv4 address; it must be one that no other role shares."""
    rows = json.loads(run(("ip", "-d", "-j", "-4", "address", "show")))
    for row in rows:
        if any(info.get("local") == address for info in row.get("addr_info", ())):
            if "LOOPBACK" in row["flags"]:
                text = f"{address} is on {row['ifname']}, one queue for all roles and directions"
                raise TcError(f"{text}: parties need an interface each (runner=netns or docker)")
            return Interface(row["ifname"], row["mtu"], row["gso_max_segs"])
    raise TcError(f"no interface of this machine has the address {address}")


def qdiscs(name: str, counters: bool = False) -> str:
    """The JSON that tc prints about an interface's qdiscs."""
    return run(("tc", *(("-s",) if counters else ()), "-j", "qdisc", "show", "dev", name))


def offloads(name: str) -> dict[str, bool]:
    """Which of `OFFLOADS` are on."""
    lines = run(("ethtool", "-k", name)).splitlines()
    state = dict(line.strip().split(": ", 1) for line in lines if ": " in line)
    return {short: state.get(long, "off").startswith("on") for short, long in OFFLOADS.items()}


def set_offloads(name: str, wanted: Mapping[str, bool]) -> None:
    """Turn offloads on and off, and check that they are."""
    words = [word for short, on in wanted.items() for word in (short, "on" if on else "off")]
    run(("ethtool", "-K", name, *words))
    if (found := offloads(name)) != dict(wanted):
        raise TcError(f"{name}: offloads are {found}, and should be {dict(wanted)}")


def set_bundles(name: str, gso_max_segs: int) -> None:
    """How many packets TCP may hand over as one, on open connections too.

    Turning offloads off does not do it: TCP bundles all the same, and the bundle is taken apart only
    after the qdisc. Connections remember the limit with their route, until any route changes.
    """
    run(("ip", "link", "set", "dev", name, "gso_max_segs", str(gso_max_segs)))
    for verb in ("add", "del"):
        run(("ip", "route", verb, "blackhole", NOWHERE))


def neighbours(name: str, addresses: Collection[str]) -> dict[str, str]:
    """MAC addresses that are known of `addresses`, which may have none: they are behind a router."""
    rows = json.loads(run(("ip", "-j", "-4", "neigh", "show", "dev", name)) or "[]")
    return {
        row["dst"]: row["lladdr"] for row in rows if row["dst"] in addresses and "lladdr" in row
    }


def pin_neighbours(name: str, macs: Mapping[str, str], state: str = "permanent") -> None:
    """Never ask for these addresses again: an answer may be late, and a question delayed."""
    for address, mac in macs.items():
        where = ("ip", "neigh", "replace", address, "lladdr", mac, "dev", name)
        run((*where, "nud", state))


def open_windows(name: str) -> None:
    """Let connections to this network that open from now on begin with a full window."""
    for row in routes(name):
        if "gateway" not in row:
            source = ("src", row["prefsrc"]) if "prefsrc" in row else ()
            where = (row["dst"], "dev", name, *source)
            run(("ip", "route", "replace", *where, "initcwnd", str(WINDOW_PACKETS)))


def routes(name: str) -> list[dict[str, Any]]:
    """IPv4 routes through an interface, as `ip -j route` has them."""
    rows: list[dict[str, Any]] = json.loads(
        run(("ip", "-j", "-4", "route", "show", "dev", name)) or "[]"
    )
    return rows


def sysctls() -> dict[str, str]:
    """Those of net.ipv4's that say how TCP behaves on a link; of this network namespace."""
    values = {name: IPV4 / name for name in RECORDED}
    return {n: " ".join(p.read_text().split()) for n, p in values.items() if p.exists()}


def set_sysctls(values: Mapping[str, str]) -> None:
    """Set sysctls of net.ipv4 in this network namespace."""
    for name, value in values.items():
        _write(IPV4 / name, value)


def tool_versions() -> tuple[str, str]:
    """(`tc -V`, the kernel's release)."""
    return run(("tc", "-V")).strip(), Path("/proc/sys/kernel/osrelease").read_text().strip()


def _write(path: Path, value: str) -> None:
    try:
        path.write_text(value)
    except OSError as error:
        name = ".".join(path.relative_to("/proc/sys").parts)
        raise TcError(f"{name} cannot be set to '{value}': {error.strerror}") from None
