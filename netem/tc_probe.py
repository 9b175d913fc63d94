"""What this machine can do with namespaces and tc, found out by doing it once, in a corner."""

import os

from netem.command import TcError, find, run
from netem.namespaces import INTERFACE, Namespaces
from netem.profile import LinkProfile
from netem.shaped_interface import missing_module
from netem.tc import Peer, plan

TC_PROGRAMS = {"ip": "iproute2", "tc": "iproute2", "ethtool": "ethtool"}
_ROLE = "probe"


def namespaces_missing() -> str | None:
    """Why no roles can live in namespaces here; None where they can."""
    if find("ip") is None:
        return "ip not found"
    if os.geteuid() != 0:
        return "network namespaces need root"
    try:
        Namespaces.create((_ROLE,)).close()
    except TcError as error:
        return str(error)
    return None


def tc_missing() -> str | None:
    """Why tc cannot make a WAN between namespaces here; None where it can."""
    if absent := [name for name in TC_PROGRAMS if find(name) is None]:
        return f"{', '.join(absent)} not found"
    if os.geteuid() != 0:
        return "tc needs root"
    try:
        with Namespaces.create((_ROLE,)) as corner:
            _shape(corner)
    except TcError as error:
        return missing_module(error)
    return None


def _shape(corner: Namespaces) -> None:
    peer = Peer("peer", str(corner.network[2]), LinkProfile.rtt(10e-3, 1e9))
    planned = plan(INTERFACE, [peer])
    for argv in (*planned.apply, *planned.on):
        run(corner.command(_ROLE, argv))
