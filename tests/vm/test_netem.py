"""Real netem between real namespaces, in a kernel of our own. One boot for all; the limits leave
room for a busy machine where that cannot hide a wrong link."""

import json
import sys
from typing import Any

import pytest

from netem.tc import goodput
from netem.tc_show import Count
from tests.vm import uml

pytestmark = pytest.mark.slow

BUSY = 1.4  # how much longer all takes this kernel where other programs use the cores
BULK = 20_000_000  # of inside_netem
Found = dict[str, Any]


@pytest.fixture(scope="module")
def found() -> Found:
    """What `inside_netem` measured."""
    if why := uml.missing():
        pytest.skip(f"a virtual machine {why}")
    result = uml.run([sys.executable, "-m", "tests.vm.inside_netem"], timeout_s=150)
    assert result.exit_code == 0, f"{result.output}\n{result.console}"
    measured: Found = json.loads(result.output.splitlines()[-1])
    return measured


def fastest(pings: list[float | None]) -> float:
    """A busy machine makes round trips longer, and none shorter."""
    return min(s for s in pings if s is not None)


def readings(scenario: Found) -> list[Count]:
    """What P0's queue to P1 had counted at each reading."""
    return [Count(**reading["P1"]) for reading in scenario["counters"]]


def test_the_wan_is_10_ms_and_1_gbit_s(found: Found) -> None:
    wan, ceiling = found["wan"], found["unshaped"]["bulk_bit_s"]
    assert 10e-3 <= fastest(wan["pings"]) < BUSY * 10e-3
    assert fastest(wan["dealer_pings"]) < 4e-3  # a peer without a profile
    for rates in (wan["bulk_bit_s"], wan["back_bit_s"]):
        assert BUSY * max(rates) >= 0.93 * min(1e9, ceiling)
        assert max(rates) <= 1.01 * goodput() * 1e9


def test_nothing_is_dropped_and_all_passes_the_shaped_queue_while_it_is_on(found: Found) -> None:
    wan = found["wan"]
    before, on, off = readings(wan)
    assert on.since(before).dropped == 0
    assert 5 * BULK < on.since(before).bytes < 5 * BULK * 1.1
    assert off == on


def test_switched_off_it_is_as_fast_as_ever(found: Found) -> None:
    wan = found["wan"]
    assert fastest(wan["off_pings"]) < 4e-3
    assert wan["off_bulk_bit_s"] > 1.5e9


def test_the_record_says_what_was_set(found: Found) -> None:
    settings = found["wan"]["settings"]
    assert settings["sysctls"]["now"]["tcp_slow_start_after_idle"] == "0"
    assert set(settings["offloads"]["before"]) == {"tso", "gso", "gro"}
    assert settings["seeds"] == {"P1": None}  # this kernel's netem has none
    assert len(settings["neighbours"]) == 2
    assert any("netem" in command for command in settings["commands"])


def test_asymmetric_links_come_out_the_right_way_round(found: Found) -> None:
    asymmetric = found["asymmetric"]
    assert 20e-3 <= fastest(asymmetric["pings"]) < BUSY * 20e-3
    assert 30e-3 <= fastest(asymmetric["far_pings"]) < BUSY * 30e-3
    size_bit = 2_000_000 * 8 / goodput()
    assert asymmetric["there_s"] == pytest.approx(20e-3 + size_bit / 400e6, rel=BUSY - 1)
    assert asymmetric["back_s"] == pytest.approx(20e-3 + size_bit / 40e6, rel=BUSY - 1)


def test_single_packets_are_lost_and_counted(found: Found) -> None:
    """5 % of datagrams; and of a stream's packets, not of the bundles that TCP hands over."""
    lossy = found["lossy"]
    before, pinged, streamed = readings(lossy)
    lost = lossy["pings"].count(None)
    assert 5 <= lost <= 45
    assert lost <= pinged.since(before).dropped <= lost + 1  # the first ping is thrown away
    stream = streamed.since(pinged)
    assert 0.02 < stream.dropped / (stream.packets + stream.dropped) < 0.1
    assert lossy["settings"]["by_packet"]


def test_jitter_is_seen_and_keeps_the_order(found: Found) -> None:
    jittery = found["jittery"]
    pings = sorted(jittery["pings"])
    assert pings[0] >= 8e-3
    assert pings[-5] - pings[5] > 2e-3
    assert jittery["order"] == sorted(jittery["order"])


def test_a_queue_that_is_too_short_drops(found: Found) -> None:
    before, after = readings(found["short_queue"])
    assert after.since(before).dropped > 0


def test_afterwards_everything_is_as_before(found: Found) -> None:
    assert found["after"] == found["before"]
    assert [link["ifname"] for link in found["links"]] == ["lo"]
    assert found["names"] == []
    assert found["stale"] == []


def test_this_kernel_lacks_nothing(found: Found) -> None:
    assert found["missing"] is None


def test_a_foreign_qdisc_is_refused_and_left_alone(found: Found) -> None:
    foreign = found["foreign"]
    assert (
        foreign["error"] == "somebody else shapes eth0: eth0 has pfifo 7:, which is not in the plan"
    )
    assert [qdisc["handle"] for qdisc in foreign["qdiscs"]] == ["7:"]
    assert foreign["sysctl"] == found["before"]["sysctl"]
