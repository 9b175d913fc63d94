"""In the virtual machine: 200 messages of a PermLLM layer over the emulated link, netem, and no link.

The same two parties, namespaces and transport; only the shaper differs. Twice: "waiting", one message after
the other to a receiver that waits for it, and "computing", both ways at once while the receivers compute.
Prints the seconds of each walk and the ideal of the first kind, as JSON.
By hand: `python -m tests.vm.uml python -m tests.vm.inside_pattern`.
"""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import product

import torch

from harness.transport import Connection, SocketParty
from netem.emulated_link import EmulatedLink
from netem.namespaces import Namespaces
from netem.profile import LinkProfile
from netem.shaped_interface import ShapedInterface
from protocols.party import P0, P1, Phase, Role

WAN = LinkProfile.rtt(10e-3, 1e9)
MESSAGES, WALKS, PORT = 200, 5, 7100
NUMBERS, PRODUCTS = 1 << 16, 40
PHASE: Phase = "online"
# Payload bytes of a decode layer's 12 hops, P0 → P1 and back in turn: d 4096, 32 heads, 128 keys.
LAYER = (16384, 32768, 98304, 32768, 16384, 32768, 32768, 32768, 16384, 32768, 65536, 131072)


def sizes() -> Iterator[int]:
    """Of all messages."""
    return (LAYER[i % len(LAYER)] for i in range(MESSAGES))


def ideal_s() -> float:
    """Bytes over rate, and a delay for each message."""
    return sum(WAN.transfer_s(size) for size in sizes())


def waiting(party: SocketParty, peer: Role) -> float:
    """Seconds of all messages, one after the other; P1 answers what P0 sends. Only those of P0, which sends
    the first and receives the last, are of all."""
    filling = [torch.zeros(size, dtype=torch.uint8) for size in sizes()]
    with party.phase(PHASE):
        party.exchange(peer, filling[0])  # both are here
        begin = time.monotonic()
        for i, tensor in enumerate(filling):
            if (i % 2 == 0) == (party.role == P0):
                party.send(peer, tensor)
            else:
                party.recv(peer)
        return time.monotonic() - begin


def computing(party: SocketParty, peer: Role) -> float:
    """Seconds of half as many exchanges. While the peer's message comes in, this party computes."""
    filling = [torch.zeros(size, dtype=torch.uint8) for size in sizes()][: MESSAGES // 2]
    numbers = torch.ones(NUMBERS, dtype=torch.int64)
    with party.phase(PHASE):
        party.exchange(peer, filling[0])
        begin = time.monotonic()
        for tensor in filling:
            party.send(peer, tensor)
            for _ in range(PRODUCTS):
                numbers = numbers * 3
            party.recv(peer)
        return time.monotonic() - begin


def live(role: Role, addresses: dict[str, str]) -> None:
    """One party: walks over both kinds of link in turn, and prints the times."""
    peer = P1 if role == P0 else P0
    walks = {"waiting": waiting, "computing": computing}
    times: dict[str, dict[str, list[float]]] = {
        kind: {"emulated": [], "tc": [], "none": []} for kind in walks
    }
    with ExitStack() as stack:
        party = stack.enter_context(
            SocketParty(role, {peer: Connection(_connect(role, addresses))}, 30)
        )
        line = stack.enter_context(ShapedInterface.set_up(role, addresses, {peer: WAN}))
        for _, kind, shaper in product(range(WALKS + 1), walks, times["waiting"]):
            line.switch(shaper == "tc")
            emulated = {peer: EmulatedLink(WAN, 1)} if shaper == "emulated" else None
            party.shape(emulated, {PHASE})
            with party.phase("calibrate"):
                party.exchange(peer)  # both have the new link
            times[kind][shaper].append(walks[kind](party, peer))
    # The first walks open TCP's window and touch memory.
    print(json.dumps({k: {s: t[1:] for s, t in of.items()} for k, of in times.items()}))


def _connect(role: Role, addresses: dict[str, str]) -> socket.socket:
    if role == P1:
        with socket.create_server((addresses[P1], PORT)) as listener:
            return listener.accept()[0]
    for _ in range(300):
        try:
            return socket.create_connection((addresses[P1], PORT))
        except ConnectionRefusedError:
            time.sleep(0.1)
    raise TimeoutError("P1 does not listen")


def main() -> None:
    """Let two parties walk."""
    with Namespaces.create((P0, P1)) as homes:
        addresses = json.dumps({role: home.address for role, home in homes.homes.items()})
        parties = [
            subprocess.Popen(
                homes.command(role, [sys.executable, "-m", __spec__.name, role, addresses]),
                stdout=subprocess.PIPE,
                text=True,
            )
            for role in (P0, P1)
        ]
        texts = [party.communicate(timeout=120)[0] for party in parties]
    print(json.dumps({"ideal_s": ideal_s(), **json.loads(texts[0])}))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        live(sys.argv[1], json.loads(sys.argv[2]))  # type: ignore[arg-type]
    else:
        main()
