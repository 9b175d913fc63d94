"""SocketParty between real processes: the emulated link as a protocol sees it, and a killed peer."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import torch

from harness.transport import PeerGone, SocketParty, Trust, accept, connect, listen
from netem.calibrate import End, initiate, respond
from netem.emulated_link import EmulatedLink
from netem.measurement import LinkMeasurement
from netem.profile import LinkProfile
from netem.tolerance import Tolerance, judge
from tests.tcp import PLAIN, SECRET

WAN = LinkProfile.rtt(10e-3, 1e9)

pytestmark = pytest.mark.slow


@contextmanager
def peer_process(
    body: Callable[[SocketParty], None], timeout_s: float = 30.0
) -> Iterator[tuple[SocketParty, int]]:
    """P0 in this process, connected to a P1 that runs `body` in another, whose id is given."""
    with listen() as listener:
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=live, args=(listener.getsockname(), body), daemon=True)
        process.start()
        _, connection = accept(listener, PLAIN["P0"], {"P1": Trust(SECRET)}, timeout_s=60)
    assert process.pid is not None
    try:
        with SocketParty("P0", {"P1": connection}, timeout_s) as party:
            yield party, process.pid
    finally:
        process.join(10)
        process.kill()


def live(address: tuple[str, int], body: Callable[[SocketParty], None]) -> None:
    torch.set_num_threads(1)
    connection = connect(address, PLAIN["P1"], "P0", Trust(SECRET))
    with SocketParty("P1", {"P0": connection}, 30.0) as party:
        body(party)


def answer_calibration(party: SocketParty) -> None:
    for profile in (WAN, LinkProfile()):
        party.shape({"P0": EmulatedLink(profile, 0)}, {"calibrate"})
        with party.phase("calibrate"):
            respond(End(partial(party.send, "P0"), partial(party.recv, "P0")), profile, profile)


def calibrate(party: SocketParty, profile: LinkProfile) -> LinkMeasurement:
    party.shape({"P1": EmulatedLink(profile, 0)}, {"calibrate"})
    end = End(partial(party.send, "P1"), partial(party.recv, "P1"))
    with party.phase("calibrate"):
        return initiate(end, profile, profile)


def test_an_emulated_wan_is_what_it_claims_to_be() -> None:
    """Bounds for a busy machine: never faster than the profile, and not much slower."""
    with peer_process(answer_calibration) as (party, _):
        begin = time.monotonic()
        wan = calibrate(party, WAN)
        took_s = time.monotonic() - begin
        loopback = calibrate(party, LinkProfile())
    assert took_s < 4
    assert 10e-3 <= wan.rtt_s < 13e-3
    for direction in (wan.forward, wan.backward):
        assert 5e-3 <= direction.one_way_s < 7e-3
        assert all(
            rung.expected_s <= rung.seconds < 1.5 * rung.expected_s + 5e-3
            for rung in direction.ladder
        )
        assert direction.bulk_bytes == 10_000_000
        assert 0.8e9 < direction.bulk_bit_s < 1.02e9
        assert 0.8e9 < direction.both_bit_s < 1.02e9
    loose = Tolerance(rtt=0.3, bulk=0.2, ladder=0.5, ladder_s=5e-3)
    assert judge(wan, (WAN, WAN), loose) == []
    assert judge(wan, (LinkProfile(), LinkProfile())) != [] != judge(loopback, (WAN, WAN), loose)
    assert loopback.rtt_s < 5e-3
    assert loopback.forward.bulk_bit_s > 1e9


def echo_shaped(party: SocketParty) -> None:
    party.shape({"P0": EmulatedLink(WAN, 0)}, {"online"})
    for name in ("offline", "online"):
        with party.phase(name):
            for _ in range(10):
                party.send("P0", *party.recv("P0"))


def test_only_the_phases_that_are_shaped_are_slow() -> None:
    took_s = {}
    with peer_process(echo_shaped) as (party, _):
        party.shape({"P1": EmulatedLink(WAN, 0)}, {"online"})
        for name in ("offline", "online"):
            with party.phase(name):
                party.exchange("P1", torch.zeros(8))
                begin = time.monotonic()
                for _ in range(9):
                    party.exchange("P1", torch.zeros(8))
                took_s[name] = time.monotonic() - begin
    assert took_s["offline"] < 0.045
    assert 0.09 <= took_s["online"] < 0.15


def fall_silent(party: SocketParty) -> None:
    with party.phase("online"):
        party.send("P0", torch.tensor(os.getpid()))
        time.sleep(60)


def test_a_killed_peer_is_noticed_at_once() -> None:
    with peer_process(fall_silent) as (party, pid), party.phase("online"):
        assert int(party.recv("P1")[0]) == pid
        os.kill(pid, signal.SIGKILL)
        begin = time.monotonic()
        with pytest.raises(PeerGone, match="P1 has closed its connection; P0 is in phase online"):
            party.recv("P1")
        with pytest.raises(PeerGone):
            party.send("P1", torch.zeros(1))
        assert time.monotonic() - begin < 1
