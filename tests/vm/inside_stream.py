"""In the virtual machine: TCP streams over the TCP proxy, over netem, and over no link.

A sender and a receiver that know of no link, in namespaces of their own with netem between them, and on
loopback with the proxy. Prints the seconds of a message of each size there and a byte back, and the ideal, as
JSON. By hand: `python -m tests.vm.uml python -m tests.vm.inside_stream`.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from statistics import median

from netem.namespaces import Namespaces
from netem.profile import LinkProfile
from netem.proxied_pair import ProxiedPair
from netem.shaped_interface import ShapedInterface
from tests.proxy_speed import HOST, connected, serve, trip_s

WAN = LinkProfile.rtt(10e-3, 200e6)  # what one slow processor carries
SIZES = (1, 10_000, 100_000, 1_000_000, 5_000_000)
TIMES = 5
P0, P1 = "P0", "P1"


def ideal_s(size: int) -> float:
    """Bytes over rate, and both delays."""
    return WAN.transfer_s(size) + WAN.delay_s


def times(host: str, port: int) -> list[float]:
    """The median of each size, on a connection that is warm."""
    with connected(port, host) as sock:
        trip_s(sock, SIZES[-1], 1)
        return [median(trip_s(sock, size, 1) for _ in range(TIMES)) for size in SIZES]


def live(role: str, addresses: Mapping[str, str], port: int) -> None:
    """One end over netem: P1 receives until it is killed; P0 sends, and prints its times."""
    peer = P0 if role == P1 else P1
    with ShapedInterface.set_up(role, addresses, {peer: WAN}) as line:
        line.switch(True)
        if role == P1:
            serve(addresses[P1])
        else:
            print(json.dumps(times(addresses[P1], port)))


def over_netem() -> list[float]:
    """Both ends in namespaces."""
    with Namespaces.create((P0, P1)) as homes, ExitStack() as stack:
        addresses = {role: home.address for role, home in homes.homes.items()}

        def start(role: str, port: int = 0) -> "subprocess.Popen[str]":
            words = [role, json.dumps(addresses), str(port)]
            argv = homes.command(role, [sys.executable, "-m", __spec__.name, *words])
            started = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
            stack.callback(started.kill)
            return started

        receiver = start(P1)
        assert receiver.stdout is not None
        sender = start(P0, int(receiver.stdout.readline()))
        found: list[float] = json.loads(sender.communicate(timeout=100)[0])
        return found


def over_proxy(profile: LinkProfile) -> list[float]:
    """Both ends on loopback; a profile that shapes nothing: without the proxy."""
    argv = [sys.executable, "-m", "tests.proxy_speed", "serve"]
    pair = ProxiedPair(P0, P1)
    with closing(pair), subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as receiver:
        assert receiver.stdout is not None
        port = int(receiver.stdout.readline())
        pair.shape(dict.fromkeys(pair.directions, profile))
        pair.switch(True)
        found = times(HOST, pair.listen(P0, HOST, port) if profile.shaped else port)
        receiver.kill()
        return found


def main() -> None:
    """Measure all three."""
    rows: dict[str, Sequence[float]] = {
        "bytes": SIZES,
        "ideal": [ideal_s(size) for size in SIZES],
        "proxy": over_proxy(WAN),
        "tc": over_netem(),
        "none": over_proxy(LinkProfile()),
    }
    print(json.dumps(rows))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        live(sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
