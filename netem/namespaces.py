"""A network namespace for each role, joined by a bridge that has a namespace of its own too.

    this machine            hub                   a role's namespace
    pb… 10.x.y.1  ───veth───  up ─┐
                                  bridge
                            P0 ───┘  ───veth───   eth0 10.x.y.10

No rule of this machine's firewall, and no interface of its network but pb…, has to do with what
roles send to each other. Each thing has the run's label from its first moment: a namespace in its
name, a link by having an end in such a namespace, without which it cannot be. Needs root.
"""

import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from types import TracebackType
from typing import Self

from netem import cleanup
from netem.command import Argv, TcError, run
from netem.process_labels import run_label
from netem.tcp import SYSCTLS, WINDOW_PACKETS

# Private, and that for tests of networks, where all of the first is taken.
RANGES = (IPv4Network("10.0.0.0/8"), IPv4Network("198.18.0.0/15"))
INTERFACE = "eth0"  # in a role's namespace
_FIRST = 10  # last byte of the first role's address


@dataclass(frozen=True)
class Home:
    """Where one role lives: its namespace's name, its IPv4 address, its interface's MAC."""

    namespace: str
    address: str
    mac: str


class Namespaces:
    """Homes by role, and `address`, where they reach this machine. A context manager."""

    def __init__(self, name: str, network: IPv4Network, roles: Sequence[str]) -> None:
        self.name = name  # what all of it begins with
        self.network = network
        self.address = str(network[1])
        self.homes = {
            role: Home(f"{name}-{role}", str(network[i]), _mac(network[i]))
            for i, role in enumerate(roles, start=_FIRST)
        }
        self._hub = f"{name}-hub"
        self._link = f"pb{secrets.token_hex(4)}"

    @classmethod
    def create(cls, roles: Sequence[str], mtu: int = 1500) -> Self:
        """Make it all. Raises TcError; then, or when interrupted, nothing of it is left."""
        made = cls(f"{run_label()}-{secrets.token_hex(3)}", free_network(), roles)
        try:
            made._make(mtu)
        except BaseException:
            made.close()
            raise
        return made

    def command(self, role: str, argv: Sequence[str]) -> Argv:
        """`argv`, to run as `role`."""
        return _inside(self.homes[role].namespace, *argv)

    def close(self) -> None:
        """End what still runs in the namespaces, and remove them. Does nothing twice."""
        cleanup.remove(lambda name: name == self.name or name.startswith(f"{self.name}-"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _make(self, mtu: int) -> None:
        for argv in self._hub_commands(mtu):
            run(argv)
        for role, home in self.homes.items():
            for argv in self._home_commands(role, home, mtu):
                run(argv)

    def _hub_commands(self, mtu: int) -> Iterator[Argv]:
        here, hub = ("ip",), ("ip", "-n", self._hub)
        veth = ("type", "veth", "peer", "name", "up", "mtu", str(mtu), "netns", self._hub)
        yield *here, "netns", "add", self._hub
        yield *hub, "link", "add", "bridge", "type", "bridge"
        yield *hub, "link", "set", "dev", "bridge", "up"
        yield *here, "link", "add", self._link, "mtu", str(mtu), *veth
        yield *here, "link", "set", "dev", self._link, "alias", self.name, "up"
        yield *hub, "link", "set", "dev", "up", "master", "bridge", "up"
        yield *here, "address", "add", f"{self.address}/{self.network.prefixlen}", "dev", self._link

    def _home_commands(self, role: str, home: Home, mtu: int) -> Iterator[Argv]:
        hub, inside = ("ip", "-n", self._hub), ("ip", "-n", home.namespace)
        there = ("name", INTERFACE, "netns", home.namespace, "address", home.mac, "mtu", str(mtu))
        yield "ip", "netns", "add", home.namespace
        yield *hub, "link", "add", role, "mtu", str(mtu), "type", "veth", "peer", *there
        yield *hub, "link", "set", "dev", role, "master", "bridge", "up"
        yield *inside, "link", "set", "dev", "lo", "up"
        yield *inside, "link", "set", "dev", INTERFACE, "up"
        size = self.network.prefixlen
        yield *inside, "address", "add", f"{home.address}/{size}", "dev", INTERFACE
        route = (str(self.network), "dev", INTERFACE, "src", home.address)
        yield *inside, "route", "replace", *route, "initcwnd", str(WINDOW_PACKETS)
        for other in self.homes.values():
            if other != home:
                mac = ("lladdr", other.mac, "dev", INTERFACE, "nud", "permanent")
                yield *inside, "neigh", "replace", other.address, *mac
        # Before any connection is made, which would have a smaller window for good.
        sets = [f"echo {value} > /proc/sys/net/ipv4/{key}" for key, value in SYSCTLS.items()]
        yield _inside(home.namespace, "sh", "-ec", "; ".join(sets))


def free_network() -> IPv4Network:
    """A /24 that nothing on this machine has an address in or a route to. Raises TcError."""
    taken = _routes()
    for whole in RANGES:
        size = 1 << (24 - whole.prefixlen)
        start = secrets.randbelow(size)
        for i in range(size):
            base = int(whole.network_address) + ((start + i) % size << 8)
            network = IPv4Network((base, 24))
            if not any(network.overlaps(other) for other in taken):
                return network
    raise TcError(f"no free network in {' or '.join(map(str, RANGES))}: all are routed already")


def _routes() -> list[IPv4Network]:
    """What this machine has addresses in or routes to; its default routes do not count."""
    routes = json.loads(run(("ip", "-j", "-4", "route", "show", "table", "all")) or "[]")
    rows = json.loads(run(("ip", "-j", "-4", "address", "show")) or "[]")
    found = [row["dst"] for row in routes if row["dst"] != "default"]
    for row in rows:
        found += [f"{i['local']}/{i['prefixlen']}" for i in row["addr_info"] if "local" in i]
    networks = [IPv4Network(text, strict=False) for text in found]
    return [network for network in networks if network.prefixlen > 1]


def _inside(namespace: str, *argv: str) -> Argv:
    return ("ip", "netns", "exec", namespace, *argv)


def _mac(address: IPv4Address) -> str:
    """A locally administered one, of which the address tells the rest."""
    return ":".join(f"{byte:02x}" for byte in (0x02, 0x00, *address.packed))
