"""Runs inside the virtual machine: three roles in namespaces of their own, netem between them.

Prints, as JSON, what was measured in each scenario; test_netem.py says what it should be.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from typing import Any, Self

from netem import cleanup
from netem.command import run
from netem.namespaces import Namespaces
from netem.profile import LinkProfile
from netem.tc_probe import tc_missing

WAN = LinkProfile.rtt(10e-3, 1e9)
BULK = 20_000_000
BULK_S = BULK * 8 / 1e9
Settings = dict[str, Any]


class Remote:
    """A `tests.vm.party` in its namespace; calling it tells it what to do."""

    def __init__(self, namespaces: Namespaces, role: str) -> None:
        addresses = {role: home.address for role, home in namespaces.homes.items()}
        argv = [sys.executable, "-m", "tests.vm.party", role, json.dumps(addresses)]
        self._process = subprocess.Popen(
            namespaces.command(role, argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *command: Any) -> Any:
        self.send_all(*command)
        return self.answer()

    def send_all(self, *command: Any) -> None:
        assert self._process.stdin is not None
        print(json.dumps(command), file=self._process.stdin, flush=True)

    def answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def __enter__(self) -> Self:
        assert self.answer() == "ready"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


class Network:
    """The three roles, and the shaping of P0's and P1's ends."""

    def __init__(self, p0: Remote, p1: Remote) -> None:
        self.p0, self.p1 = p0, p1

    @contextmanager
    def shaped(self, profiles: Mapping[str, LinkProfile]) -> Iterator[list[Settings]]:
        """With both ends set up and switched on; gives their settings."""
        links = {pair: asdict(profile) for pair, profile in profiles.items()}
        settings = self.both("set_up", links)
        self.both("switch", True)
        yield settings
        self.both("take_down")

    def both(self, *command: Any) -> list[Any]:
        for role in (self.p0, self.p1):
            role.send_all(*command)
        return [role.answer() for role in (self.p0, self.p1)]


def unshaped(net: Network) -> Settings:
    """What this kernel can do without netem."""
    return {
        "pings": net.p0("ping", "P1", 30, 0.01),
        "bulk_bit_s": max(_bulk_bit_s(net, 0.0) for _ in range(4)),
    }


def wan(net: Network) -> Settings:
    """1 Gbit/s, 10 ms; and the same link while it is switched off."""
    with net.shaped({"P0>P1": WAN, "P1>P0": WAN}) as settings:
        before = net.p0("counters")
        found: Settings = {
            "settings": settings[0],
            "pings": net.p0("ping", "P1", 40, 0.02),
            "dealer_pings": net.p0("ping", "P2", 10, 0.01),
            "bulk_bit_s": [_bulk_bit_s(net, 10e-3) for _ in range(5)],
            "back_bit_s": [_bulk_bit_s(net, 10e-3, back=True) for _ in range(5)],
        }
        found["counters"] = [before, net.p0("counters")]
        net.both("switch", False)
        found["off_pings"] = net.p0("ping", "P1", 20, 0.01)
        found["off_bulk_bit_s"] = _bulk_bit_s(net, 0.0)
        found["counters"].append(net.p0("counters"))
    return found


def asymmetric(net: Network) -> Settings:
    """A fast way there, a slow way back, and a third role that is further away."""
    there = LinkProfile(delay_s=2e-3, rate_bit_s=400e6)
    back = LinkProfile(delay_s=18e-3, rate_bit_s=40e6)
    far = LinkProfile(delay_s=30e-3)
    with net.shaped({"P0>P1": there, "P1>P0": back, "P0>P2": far}):
        size = 2_000_000
        net.p0("trip", "P1", size, size)  # opens TCP's windows
        return {
            "pings": net.p0("ping", "P1", 20, 0.03),
            "far_pings": net.p0("ping", "P2", 20, 0.03),
            "there_s": min(net.p0("trip", "P1", size) for _ in range(3)),
            "back_s": min(net.p0("trip", "P1", 8, size) for _ in range(3)),
        }


def lossy(net: Network) -> Settings:
    """Single packets are lost, of a stream too."""
    with net.shaped({"P0>P1": replace(WAN, loss=0.05), "P1>P0": WAN}) as settings:
        found: Settings = {"settings": settings[0], "counters": [net.p0("counters")]}
        found["pings"] = net.p0("ping", "P1", 400, 0.002)
        found["counters"].append(net.p0("counters"))
        net.p0("trip", "P1", 1_000_000)
        found["counters"].append(net.p0("counters"))
    return found


def jittery(net: Network) -> Settings:
    """The delay varies, and the order stays, also where there is no rate."""
    jitter = LinkProfile(delay_s=5e-3, jitter_s=2e-3)
    with net.shaped({"P0>P1": jitter, "P1>P0": LinkProfile(delay_s=5e-3)}):
        return {
            "pings": net.p0("ping", "P1", 100, 0.01),
            "order": net.p0("order", "P1", 60),
        }


def short_queue(net: Network) -> Settings:
    """A queue that the profile makes too short for what is sent."""
    short = LinkProfile(delay_s=5e-3, rate_bit_s=20e6, queue_bytes=15_000)
    with net.shaped({"P0>P1": short, "P1>P0": LinkProfile()}):
        before = net.p0("counters")
        net.p0("trip", "P1", 500_000)
        return {"counters": [before, net.p0("counters")]}


def remains(namespaces: Namespaces) -> Settings:
    """An interface after it was shaped, and when somebody else shapes it."""
    p0 = ("ip", "netns", "exec", namespaces.homes["P0"].namespace)
    return {
        "qdiscs": json.loads(run((*p0, "tc", "-j", "qdisc", "show", "dev", "eth0"))),
        "sysctl": run((*p0, "cat", "/proc/sys/net/ipv4/tcp_rmem")),
        "link": json.loads(run((*p0, "ip", "-d", "-j", "link", "show", "dev", "eth0"))),
        "offloads": run((*p0, "ethtool", "-k", "eth0")),
    }


def foreign(net: Network, namespaces: Namespaces) -> Settings:
    """Somebody else's qdisc is neither overwritten nor removed."""
    p0 = ("ip", "netns", "exec", namespaces.homes["P0"].namespace)
    run((*p0, "tc", "qdisc", "add", "dev", "eth0", "root", "handle", "7:", "pfifo"))
    links = {"P0>P1": asdict(WAN)}
    found = {"error": net.p0("refused", links), **remains(namespaces)}
    run((*p0, "tc", "qdisc", "del", "dev", "eth0", "root"))
    return found


def _bulk_bit_s(net: Network, rtt_s: float, back: bool = False) -> float:
    sizes = (8, BULK) if back else (BULK, 1)
    return BULK * 8 / (float(net.p0("trip", "P1", *sizes)) - rtt_s)


def main() -> None:
    with ExitStack() as stack:
        namespaces = stack.enter_context(Namespaces.create(["P0", "P1", "P2"]))
        remotes = [Remote(namespaces, role) for role in namespaces.homes]
        p0, p1, _ = (stack.enter_context(remote) for remote in remotes)
        net = Network(p0, p1)
        found: dict[str, Any] = {"before": remains(namespaces)}
        scenarios = (unshaped, wan, asymmetric, lossy, jittery, short_queue)
        found |= {scenario.__name__: scenario(net) for scenario in scenarios}
        found["after"] = remains(namespaces)
        found["foreign"] = foreign(net, namespaces)
    found["links"] = json.loads(run(("ip", "-j", "link", "show")))
    found["names"] = [name for name in run(("ip", "netns", "list")).splitlines() if name]
    found["stale"] = cleanup.stale()
    found["missing"] = tc_missing()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
