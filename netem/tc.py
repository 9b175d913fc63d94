"""What `tc` is told, as data: pure functions, nothing is run here.

On a party's interface, whose egress alone is shaped:

    root prio 1:         everything goes to the first band, unless a filter says otherwise
      1:1  pfifo         unshaped: the harness, ARP, and all phases that are not shaped
      1:2  netem         to the first shaped peer: delay, jitter, loss, rate, limit
      1:3  netem         to the second

The filters send what is addressed to a peer into its band. They alone come and go with the phases
that are shaped; the queues and their counters stay.

The rate is netem's own: a token bucket saves up tokens while parties compute and then lets whole
messages through at full speed. It counts whole Ethernet frames (`goodput`). The limit is what TCP may
ever have on its way, so that nothing is dropped which the profile does not lose.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from netem import tcp
from netem.command import Argv
from netem.profile import LinkProfile

FRAME_BYTES = 1514
SMALLEST_BUFFER_BYTES = 768  # that the kernel charges a TCP sender for one packet
# netem puts packets into the order of their departure, so that jitter would reorder them; but with a
# rate none leaves before an earlier one. This one is out of reach.
ORDERING_BIT_S = 1e12
BANDS = 16  # of a prio qdisc


@dataclass(frozen=True)
class Peer:
    """Another role as this one sees it: its IPv4 address, and what the link to it is to be like.

    seed: of netem's randomness; None where tc and the kernel cannot set it.
    """

    role: str
    address: str
    profile: LinkProfile
    seed: int | None = None


@dataclass(frozen=True)
class Band:
    """The queue of one peer, as tc must have it. classid: of the class in the root qdisc."""

    role: str
    address: str
    classid: str
    handle: str
    delay_s: float
    jitter_s: float
    loss: float
    rate_bit_s: int | None
    limit_packets: int
    seed: int | None


@dataclass(frozen=True)
class Plan:
    """Commands for one interface, in order; `undo` undoes them once the first has succeeded. on, off:
    whether the bands are used. All empty where no peer is shaped.

    by_packet: whether TCP must hand over single packets. By default it hands over bundles of up to
    64 kB, which have their right time on the line, but would be lost, or find the queue full, whole.
    """

    interface: str
    bands: tuple[Band, ...] = ()
    apply: tuple[Argv, ...] = ()
    undo: tuple[Argv, ...] = ()
    on: tuple[Argv, ...] = ()
    off: tuple[Argv, ...] = ()
    by_packet: bool = False

    def lines(self) -> list[str]:
        """The commands that set up and switch on, as a shell would take them."""
        return [shlex.join(argv) for argv in (*self.apply, *self.on)]


def plan(interface: str, peers: Sequence[Peer]) -> Plan:
    """How to shape what leaves by `interface`. Unshaped peers stay in the first band.

    Raises ValueError where there are more shaped peers than bands.
    """
    shaped = [peer for peer in peers if peer.profile.shaped]
    if not shaped:
        return Plan(interface)
    if len(shaped) >= BANDS:
        raise ValueError(f"at most {BANDS - 1} peers can be shaped, got {len(shaped)}")
    bands = tuple(_band(i, peer) for i, peer in enumerate(shaped, start=2))
    qdisc = ("tc", "qdisc", "add", "dev", interface)
    map_all = ("priomap", *["0"] * 16)
    return Plan(
        interface,
        bands,
        apply=(
            (*qdisc, "root", "handle", "1:", "prio", "bands", str(len(bands) + 1), *map_all),
            (*qdisc, "parent", "1:1", "handle", "11:", "pfifo", "limit", "100000"),
            *((*qdisc, "parent", b.classid, "handle", b.handle, *_netem(b)) for b in bands),
        ),
        undo=(("tc", "qdisc", "del", "dev", interface, "root"),),
        on=tuple(_filter(interface, band) for band in bands),
        off=(("tc", "filter", "del", "dev", interface, "parent", "1:", "prio", "1"),),
        by_packet=any(_needs_packets(peer.profile) for peer in shaped),
    )


def limit_packets(profile: LinkProfile) -> int:
    """netem's limit: packets on their way (a delayed packet counts) and waiting.

    From `queue_bytes` where the profile has it; else all that a TCP sender can have sent and not
    had acknowledged, be it in the smallest of packets.
    """
    bdp = tcp.bdp_bytes(profile)
    if profile.queue_bytes is not None:
        return max(1, ceil((bdp / 2 + profile.queue_bytes) / FRAME_BYTES))
    return ceil(max(tcp.buffer_bytes(profile), bdp) / SMALLEST_BUFFER_BYTES)


def goodput(mtu: int = 1500) -> float:
    """Share of a rate that is left for TCP's payload: Ethernet, IP and TCP headers are counted."""
    headers = 20 + 32  # IP, and TCP with time stamps
    return (mtu - headers) / (mtu + 14)


def _band(number: int, peer: Peer) -> Band:
    profile = peer.profile
    rate = profile.rate_bit_s
    if rate is None and profile.jitter_s:
        rate = ORDERING_BIT_S
    return Band(
        peer.role,
        peer.address,
        classid=f"1:{number:x}",
        handle=f"{0x10 + number:x}:",
        delay_s=profile.delay_s,
        jitter_s=profile.jitter_s,
        loss=profile.loss,
        rate_bit_s=None if rate is None else round(rate),
        limit_packets=limit_packets(profile),
        seed=peer.seed,
    )


def _needs_packets(profile: LinkProfile) -> bool:
    return profile.loss > 0 or profile.queue_bytes is not None


def _netem(band: Band) -> Argv:
    jitter = (_us(band.jitter_s),) if band.jitter_s else ()
    words: list[str] = ["netem", "limit", str(band.limit_packets)]
    words += ["delay", _us(band.delay_s), *jitter]
    if band.loss:
        words += ["loss", "random", f"{band.loss * 100:.8g}%"]
    if band.rate_bit_s is not None:
        words += ["rate", f"{band.rate_bit_s}bit"]
    if band.seed is not None:
        words += ["seed", str(band.seed)]
    return tuple(words)


def _filter(interface: str, band: Band) -> Argv:
    where = ("dev", interface, "parent", "1:", "protocol", "ip", "prio", "1")
    match = ("u32", "match", "ip", "dst", f"{band.address}/32", "flowid", band.classid)
    return ("tc", "filter", "add", *where, *match)


def _us(seconds: float) -> str:
    return f"{round(seconds * 1e6)}us"
