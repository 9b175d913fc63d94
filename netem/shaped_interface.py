"""A role's end of a WAN made by tc: set up on its own interface, switched, counted, taken down."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from hashlib import blake2b
from typing import Any, Self

from netem import nic, tc_show
from netem.command import Argv, TcError, run
from netem.profile import LinkProfile
from netem.tc import Peer, Plan, plan
from netem.tc_show import Count
from netem.tcp import sysctl_changes

MODULES = "sch_prio, sch_netem or cls_u32"
UNKNOWN = ("kind is unknown", "classifier not found", "No such file or directory")


def missing_module(error: TcError) -> str:
    """What went wrong; it has a simpler name where the kernel does not know what tc talks about."""
    unknown = any(text in error.reason for text in UNKNOWN)
    return f"this kernel lacks {MODULES} (tc: {error.reason})" if unknown else str(error)


class ShapedInterface:
    """What one role sends to its peers, as `profiles` say. Used as a context manager, or taken down."""

    def __init__(self, planned: Plan, undo: ExitStack, settings: dict[str, Any]) -> None:
        self.plan = planned
        self._undo = undo
        self._settings = settings

    @classmethod
    def set_up(
        cls,
        role: str,
        addresses: Mapping[str, str],
        profiles: Mapping[str, LinkProfile],
        seed: int = 0,
    ) -> Self:
        """Shape the interface of this process's network namespace that has the address of `role`.

        Nothing is slowed down before `switch`. addresses: IPv4, of all roles. profiles: of the links
        from here, by receiving role; one without is unshaped. seed: of jitter and loss, where tc and
        the kernel take one. Raises TcError, and then leaves everything as it was.
        """
        tc_version, kernel = nic.tool_versions()
        seeded = tc_show.knows_seed(tc_version, kernel)
        peers = [
            Peer(
                peer,
                address,
                profiles.get(peer, LinkProfile()),
                _seed(seed, f"{role}>{peer}") if seeded else None,
            )
            for peer, address in addresses.items()
            if peer != role
        ]
        where = nic.interface_of(addresses[role])
        with ExitStack() as undo:
            planned = plan(where.name, peers)
            settings = _prepare(undo, where, planned, peers)
            settings |= {"tc": tc_version, "kernel": kernel, **_apply(undo, planned)}
            return cls(planned, undo.pop_all(), settings)

    def switch(self, on: bool) -> None:
        """Let what is sent from now on go through the shaped queues, or not. Raises TcError."""
        if on != self._settings["on"]:
            _run_all(self.plan.on if on else self.plan.off)
            self._settings["on"] = on

    def counters(self) -> dict[str, Count]:
        """What each shaped queue sent and dropped since `set_up`, by role. Raises TcError."""
        text = nic.qdiscs(self.plan.interface, counters=True)
        try:
            return tc_show.counters(self.plan, text)
        except ValueError as error:
            raise TcError(str(error)) from None

    def settings(self) -> dict[str, Any]:
        """All that was set or found, for a JSON record."""
        return dict(self._settings)

    def take_down(self) -> None:
        """Undo everything that `set_up` did. Raises TcError."""
        self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.take_down()


def _prepare(
    undo: ExitStack, where: nic.Interface, planned: Plan, peers: list[Peer]
) -> dict[str, Any]:
    """Set what is around the queues: TCP, neighbours, bundles of packets."""
    before, offloads = nic.sysctls(), nic.offloads(where.name)
    macs = nic.neighbours(where.name, [peer.address for peer in peers])
    changes: dict[str, str] = {}
    if planned.bands:
        changes = sysctl_changes(before, [peer.profile for peer in peers])
        undo.callback(nic.set_sysctls, {name: before[name] for name in changes})
        nic.set_sysctls(changes)
        undo.callback(nic.pin_neighbours, where.name, macs, "reachable")
        nic.pin_neighbours(where.name, macs)
    if planned.by_packet:
        undo.callback(nic.set_bundles, where.name, where.gso_max_segs)
        nic.set_bundles(where.name, 1)
        undo.callback(nic.set_offloads, where.name, offloads)
        nic.set_offloads(where.name, dict.fromkeys(offloads, False))
    return {
        "interface": where.name,
        "mtu": where.mtu,
        "by_packet": planned.by_packet,
        "offloads": {"before": offloads, "now": nic.offloads(where.name)},
        "sysctls": {"before": before, "now": nic.sysctls()},
        "neighbours": macs,
        "routes": nic.routes(where.name),
    }


def _apply(undo: ExitStack, planned: Plan) -> dict[str, Any]:
    """Make the queues, and check that the kernel has what it was told."""
    name = planned.interface
    if strangers := tc_show.differences(Plan(name), nic.qdiscs(name)):
        raise TcError(f"somebody else shapes {name}: {'; '.join(strangers)}")
    if planned.apply:
        _run_all(planned.apply[:1])
        undo.callback(partial(_run_all, planned.undo))
        _run_all((*planned.apply[1:], *planned.on, *planned.off))  # it can be switched, too
    text = nic.qdiscs(name)
    if wrong := tc_show.differences(planned, text):
        raise TcError("; ".join(wrong))
    return {
        "on": False,
        "commands": planned.lines(),
        "bands": [asdict(band) for band in planned.bands],
        "seeds": tc_show.applied_seeds(planned, text),
        "qdiscs": tc_show.read_qdiscs(text),
    }


def _run_all(commands: tuple[Argv, ...]) -> None:
    for argv in commands:
        try:
            run(argv)
        except TcError as error:
            raise TcError(missing_module(error)) from None


def _seed(seed: int, direction: str) -> int:
    """A seed for one direction, of 64 bits."""
    return int.from_bytes(blake2b(f"{seed} {direction}".encode(), digest_size=8).digest(), "big")
