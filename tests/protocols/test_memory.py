import threading
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch

from protocols.counters import Traffic
from protocols.errors import PeerError, PeerGone, PeerTimeout
from protocols.events import Event
from protocols.in_process_party import MemoryParty, run_parties

X = torch.arange(4)


def test_messages_arrive_in_order_and_are_counted() -> None:
    def p0(party: MemoryParty) -> MemoryParty:
        with party.phase("online"):
            party.send("P1", X, X.to(torch.uint8))
            party.send("P1", X[:0])
        return party

    def p1(party: MemoryParty) -> MemoryParty:
        with party.phase("online"):
            first, second = party.recv("P0")
            assert torch.equal(first, X)
            assert second.dtype == torch.uint8
            assert party.recv("P0")[0].shape == (0,)
        return party

    parties = run_parties({"P0": p0, "P1": p1})
    (counts,) = parties["P0"].counters.phases
    assert counts.sent == {"P1": Traffic(2, 36, 36)}
    assert [parties[role].counters.of("online")[0].depth for role in ("P0", "P1")] == [0, 1]


def test_a_receiver_owns_its_tensors() -> None:
    def p0(party: MemoryParty) -> torch.Tensor:
        mine = torch.zeros(3)
        with party.phase("online"):
            party.send("P1", mine)
            party.recv("P1")
        return mine

    def p1(party: MemoryParty) -> torch.Tensor:
        with party.phase("online"):
            (theirs,) = party.recv("P0")
            theirs += 1
            party.send("P0")
        return theirs

    assert run_parties({"P0": p0, "P1": p1})["P0"].tolist() == [0, 0, 0]


def in_phase(body: Callable[[MemoryParty], object]) -> Callable[[MemoryParty], None]:
    def function(party: MemoryParty) -> None:
        with party.phase("online"):
            body(party)

    return function


def test_the_cause_is_raised_and_the_others_are_released() -> None:
    released = []

    def fails(party: MemoryParty) -> None:
        raise ZeroDivisionError("the cause")

    def waits(party: MemoryParty) -> None:
        with pytest.raises(PeerGone, match="P1 has left") as caught:
            party.recv("P1")
        released.append(party.role)
        raise caught.value

    with pytest.raises(ZeroDivisionError, match="the cause"):
        run_parties({"P0": in_phase(waits), "P1": in_phase(fails), "P2": in_phase(waits)})
    assert sorted(released) == ["P0", "P2"]


def test_a_peer_that_ends_early_is_gone_not_waited_for() -> None:
    with pytest.raises(PeerGone, match="P1 has left, P0 is in phase online"):
        run_parties({"P0": in_phase(lambda p: p.recv("P1")), "P1": in_phase(lambda p: None)})


def test_two_that_wait_for_each_other_time_out() -> None:
    with pytest.raises(PeerTimeout, match=r"received nothing from P. for 0\.1 s in phase online"):
        run_parties(
            {"P0": in_phase(lambda p: p.recv("P1")), "P1": in_phase(lambda p: p.recv("P0"))},
            timeout_s=0.1,
        )


def test_a_message_nobody_receives_is_an_error() -> None:
    def twice(party: MemoryParty) -> None:
        party.send("P1", X)
        party.send("P1", X)

    with pytest.raises(PeerError, match="P1 left 2 messages of P0 unread"):
        run_parties({"P0": in_phase(twice), "P1": in_phase(lambda p: None)})


def test_phases_are_compared_by_name_and_occurrence() -> None:
    def p0(party: MemoryParty) -> None:
        with party.phase("offline"):
            party.send("P1", X)

    with pytest.raises(PeerError, match=r"P1 is in phase online #1, .* phase offline #1"):
        run_parties({"P0": p0, "P1": in_phase(lambda p: p.recv("P0"))})

    def twice(party: MemoryParty) -> None:
        with party.phase("online"):
            pass
        with party.phase("online"):
            party.send("P1", X)

    with pytest.raises(PeerError, match=r"phase online #1, .* phase online #2"):
        run_parties({"P0": twice, "P1": in_phase(lambda p: p.recv("P0"))})


def test_misuse_is_named() -> None:
    def send(party: MemoryParty) -> None:
        party.send("P1", X)

    def nest(party: MemoryParty) -> None:
        with party.phase("online"):
            pass

    with pytest.raises(RuntimeError, match="messages belong to a phase"):
        run_parties({"P0": send, "P1": lambda p: None})
    with pytest.raises(RuntimeError, match="phase online inside phase online"):
        run_parties({"P0": in_phase(nest)})
    with pytest.raises(ValueError, match="no link P0>P2"):
        run_parties({"P0": in_phase(lambda p: p.send("P2", X)), "P1": lambda p: None})
    with pytest.raises(ValueError, match="float16"):
        run_parties({"P0": in_phase(lambda p: p.send("P1", X.half())), "P1": lambda p: None})


def test_listeners_hear_every_event_and_times_add_up() -> None:
    events: list[Event] = []

    def p0(party: MemoryParty) -> None:
        with party.phase("online"):
            party.send("P1", X)
            party.exchange("P1", X)

    def p1(party: MemoryParty) -> None:
        with party.phase("online"):
            party.recv("P0")
            party.exchange("P0", X)

    run_parties({"P0": p0, "P1": p1}, listeners={"P1": [events.append]})
    kinds = [event.kind for event in events if event.kind != "compute"]
    assert kinds == ["phase_begin", "recv", "send", "recv", "phase_end"]
    assert [event.kind for event in events].count("compute") == 4
    assert [(e.kind, e.message_id, e.depth) for e in events if e.peer] == [
        ("recv", 0, 1),
        ("send", 0, 1),
        ("recv", 1, 1),
    ]
    parts = [event for event in events if event.kind in ("compute", "send", "recv")]
    assert sum(event.wall_ns for event in parts) == events[-1].wall_ns
    assert sum(event.cpu_ns for event in parts) == events[-1].cpu_ns
    assert all(a.t_ns + a.wall_ns == b.t_ns for a, b in pairwise(parts))


def test_steps_name_what_is_done_inside_and_end_compute_for_observers_alone() -> None:
    heard: list[Event] = []
    observed: list[Event] = []

    def p0(party: MemoryParty) -> None:
        for listeners in ([], [observed.append]):
            with party.observed_by(*listeners), party.phase("online"):
                with party.step("layer 3"):
                    with pytest.raises(ZeroDivisionError), party.step("broken"):
                        raise ZeroDivisionError
                    with party.step("softmax/reveal"):
                        party.send("P1", X)
                party.send("P1", X)

    def p1(party: MemoryParty) -> None:
        for _ in range(2):
            with party.phase("online"):
                party.recv("P0")
                party.recv("P0")

    run_parties({"P0": p0, "P1": p1}, listeners={"P0": [heard.append]})
    inside, plain = "layer 3/softmax/reveal", heard[: -len(observed)]
    assert [(e.kind, e.label) for e in plain[1:]] == [
        *(("compute", inside), ("send", inside)),
        *(("compute", ""), ("send", ""), ("compute", ""), ("phase_end", "")),
    ]
    assert heard[-len(observed) :] == observed
    computed = [e.label for e in observed if e.kind == "compute"]
    broken = ["layer 3/broken", "layer 3"]
    assert computed == ["", "layer 3", *broken, inside, inside, "layer 3", "", ""]
    parts = [event for event in observed if event.kind in ("compute", "send")]
    assert all(a.t_ns + a.wall_ns == b.t_ns for a, b in pairwise(parts))
    assert sum(event.cpu_ns for event in parts) == observed[-1].cpu_ns


def test_start_run_begins_phases_anew() -> None:
    barrier = threading.Barrier(2)

    def p0(party: MemoryParty) -> None:
        with party.phase("offline"):
            pass
        party.start_run()
        barrier.wait()
        with party.phase("offline"):
            party.send("P1", X)

    def p1(party: MemoryParty) -> None:
        party.start_run()
        barrier.wait()
        with party.phase("offline"):
            party.recv("P0")

    run_parties({"P0": p0, "P1": p1})
