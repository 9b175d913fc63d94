"""What tc is told, and how what it answers is read. No root, no tc: the answers are Linux 6.1's."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netem import tcp
from netem.profile import LinkProfile
from netem.tc import FRAME_BYTES, Peer, goodput, limit_packets, plan
from netem.tc_show import Count, applied_seeds, counters, differences, knows_seed

WAN = LinkProfile.rtt(10e-3, 1e9)
FAR = LinkProfile(delay_s=12.345e-3, jitter_s=1e-3, loss=0.015)
NONE = LinkProfile()
PEERS = [Peer("P1", "10.1.2.11", WAN), Peer("P2", "10.1.2.12", FAR)]
NETEM = {
    "kind": "netem",
    "handle": "12:",
    "parent": "1:2",
    "options": {
        "limit": 87382,
        "delay": {"delay": 0.005, "jitter": 0, "correlation": 0},
        "rate": {"rate": 125000000, "packetoverhead": 0, "cellsize": 0, "celloverhead": 0},
        "ecn": False,
        "gap": 0,
    },
}
FAR_NETEM = {
    "kind": "netem",
    "handle": "13:",
    "parent": "1:3",
    "options": {
        "limit": 348510,
        "delay": {"delay": 0.012344, "jitter": 0.001, "correlation": 0},
        "loss-random": {"loss": 0.0149999, "correlation": 0},
        "rate": {"rate": 125000000000, "packetoverhead": 0, "cellsize": 0, "celloverhead": 0},
        "ecn": False,
        "gap": 0,
    },
}
ROOT = {
    "kind": "prio",
    "handle": "1:",
    "root": True,
    "refcnt": 2,
    "options": {"bands": 3, "priomap": [0] * 16, "multiqueue": False},
}
PFIFO = {"kind": "pfifo", "handle": "11:", "parent": "1:1", "options": {"limit": 100000}}
NOQUEUE = {"kind": "noqueue", "handle": "0:", "root": True, "refcnt": 2, "options": {}}

delays = st.floats(0, 1)
profiles = st.builds(
    LinkProfile,
    delay_s=delays,
    rate_bit_s=st.one_of(st.none(), st.floats(1e3, 1e12)),
    queue_bytes=st.one_of(st.none(), st.integers(0, 10**9)),
)


def shown(*qdiscs: dict[str, Any]) -> str:
    return json.dumps(qdiscs)


def changed(qdisc: dict[str, Any], **options: Any) -> dict[str, Any]:
    return qdisc | {"options": qdisc["options"] | options}


def test_the_commands() -> None:
    made = plan("eth0", PEERS)
    zeros = " ".join("0" * 16)
    assert [" ".join(argv) for argv in made.apply] == [
        f"tc qdisc add dev eth0 root handle 1: prio bands 3 priomap {zeros}",
        "tc qdisc add dev eth0 parent 1:1 handle 11: pfifo limit 100000",
        "tc qdisc add dev eth0 parent 1:2 handle 12: "
        "netem limit 87382 delay 5000us rate 1000000000bit",
        "tc qdisc add dev eth0 parent 1:3 handle 13: "
        "netem limit 695053 delay 12345us 1000us loss random 1.5% rate 1000000000000bit",
    ]
    to = "tc filter add dev eth0 parent 1: protocol ip prio 1 u32 match ip dst"
    assert [" ".join(argv) for argv in made.on] == [
        f"{to} 10.1.2.11/32 flowid 1:2",
        f"{to} 10.1.2.12/32 flowid 1:3",
    ]
    assert [" ".join(argv) for argv in made.off] == ["tc filter del dev eth0 parent 1: prio 1"]
    assert [" ".join(argv) for argv in made.undo] == ["tc qdisc del dev eth0 root"]
    assert made.by_packet
    assert made.lines()[-1] == f"{to} 10.1.2.12/32 flowid 1:3"


def test_unshaped_peers_get_no_queue_and_an_unshaped_line_no_commands() -> None:
    made = plan("eth0", [replace(PEERS[0], profile=NONE), PEERS[1]])
    assert [band.role for band in made.bands] == ["P2"]
    assert made.bands[0].classid == "1:2"
    nothing = plan("eth0", [Peer("P1", "10.1.2.11", NONE)])
    assert (nothing.apply, nothing.undo, nothing.on, nothing.off) == ((), (), (), ())


def test_units_are_bits_and_never_the_ones_that_tc_takes_for_bytes() -> None:
    words = " ".join(" ".join(argv) for argv in plan("eth0", PEERS).apply)
    assert "rate 1000000000bit" in words
    assert "bps" not in words


def test_a_seed_is_passed_on_where_there_is_one() -> None:
    seeded = plan("eth0", [replace(PEERS[0], seed=7)])
    assert seeded.apply[-1][-2:] == ("seed", "7")
    assert "seed" not in " ".join(plan("eth0", PEERS[:1]).apply[-1])
    answer = shown(changed(ROOT, bands=2), PFIFO, changed(NETEM, seed=7))
    assert applied_seeds(seeded, answer) == {"P1": 7}
    assert applied_seeds(seeded, shown(ROOT, PFIFO, NETEM)) == {"P1": None}


@pytest.mark.parametrize(
    ("tc", "kernel", "known"),
    [
        ("tc utility, iproute2-6.1.0, libbpf 1.1.2", "6.1.176", False),
        ("tc utility, iproute2-6.1.0, libbpf 1.1.2", "6.18.44-fc", False),
        ("tc utility, iproute2-6.9.0", "6.1.176", False),
        ("tc utility, iproute2-6.10.0", "6.6.1-amd64", True),
        ("tc utility, something else", "7.0.1", False),
    ],
)
def test_who_knows_seeds(tc: str, kernel: str, known: bool) -> None:
    assert knows_seed(tc, kernel) is known


@given(profiles)
def test_the_limit_admits_the_bandwidth_delay_product_and_the_queue(profile: LinkProfile) -> None:
    """netem counts what is on its way as well; its own limit of 1000 packets would cap the rate."""
    one_way_bytes = (profile.rate_bit_s or 0) * profile.delay_s / 8
    limit = limit_packets(profile)
    assert limit * FRAME_BYTES >= one_way_bytes + (profile.queue_bytes or 0)
    if profile.queue_bytes is None:
        assert limit * 768 >= tcp.buffer_bytes(profile)  # all of a sender's buffer, in crumbs
        assert limit > 1000


@given(profiles)
def test_buffers_admit_the_bandwidth_delay_product(profile: LinkProfile) -> None:
    size = tcp.buffer_bytes(profile)
    assert size >= min(2 * tcp.bdp_bytes(profile), tcp.LARGEST_BUFFER_BYTES)
    now = dict.fromkeys(tcp.RECORDED, "1") | {"tcp_rmem": "4096\t131072\t6291456"}
    now["tcp_wmem"] = "4096 16384 2147483647"
    changes = tcp.sysctl_changes(now, [profile])
    assert int(changes["tcp_rmem"].split()[2]) >= size
    assert "tcp_wmem" not in changes  # larger already
    assert changes["tcp_slow_start_after_idle"] == "0"
    assert tcp.sysctl_changes(now | changes, [profile]) == {}


def test_goodput() -> None:
    assert goodput(1500) == pytest.approx(1448 / 1514)


def test_the_kernel_has_what_it_was_told() -> None:
    made = plan("eth0", PEERS)
    far = changed(FAR_NETEM, limit=made.bands[1].limit_packets)
    assert differences(made, shown(ROOT, PFIFO, NETEM, far)) == []
    assert differences(plan("eth0", []), shown(NOQUEUE)) == []
    assert differences(plan("eth0", []), "") == []


@pytest.mark.parametrize(
    ("qdisc", "text"),
    [
        (changed(NETEM, limit=1000), "to P1: limit_packets is 1000, and should be 87382"),
        (changed(NETEM, delay={"delay": 0.01}), "to P1: delay_s is 0.01, and should be 0.005"),
        (changed(NETEM, delay={"delay": 0.005, "jitter": 0.002}), "to P1: jitter_s is 0.002"),
        (changed(NETEM, rate={"rate": 1000000000}), "to P1: rate_bit_s is 8000000000, and"),
        (changed(NETEM, **{"loss-random": {"loss": 0.01}}), "to P1: loss is 0.01, and"),
        (changed(NETEM, duplicate={"duplicate": 0.01}), "to P1: duplicate is"),
        (NETEM | {"parent": "1:3"}, "to P1: no netem 12: in class 1:2"),
        (NETEM | {"handle": "14:"}, "eth0 has netem 14:, which is not in the plan"),
    ],
)
def test_every_difference_is_named(qdisc: dict[str, Any], text: str) -> None:
    made = plan("eth0", PEERS[:1])
    found = differences(made, shown(changed(ROOT, bands=2), PFIFO, qdisc))
    assert found[0].startswith(text)


def test_a_root_that_sends_elsewhere_is_a_difference() -> None:
    made = plan("eth0", PEERS[:1])
    mapped = changed(ROOT, bands=2, priomap=[1, *[0] * 15])
    assert "bands" in differences(made, shown(mapped, PFIFO, NETEM))[0]
    assert "not prio 1:" in differences(made, shown(PFIFO, NETEM))[0]
    assert differences(plan("eth0", []), shown(ROOT)) == [
        "eth0 has prio 1:, which is not in the plan"
    ]


def test_counters_are_each_queues_own() -> None:
    made = plan("eth0", PEERS[:1])
    queue = NETEM | {"bytes": 10, "packets": 2, "drops": 1}
    rest = PFIFO | {"bytes": 30, "packets": 3, "drops": 0}
    found = counters(made, shown(ROOT | {"bytes": 40}, rest, queue))
    assert found == {"P1": Count(10, 2, 1)}
    assert Count(30, 5, 4).since(found["P1"]) == Count(20, 3, 3)
    with pytest.raises(ValueError, match="no queue to P1"):
        counters(made, shown(NOQUEUE))
