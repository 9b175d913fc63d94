"""The simulator against cases solved by hand, and against a brute-force one that steps in time."""

import heapq
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import permutations
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import TraceError
from harness.parties.trace_recorder import END, NOBODY, RECV, SEND
from harness.replay.compute_times import Costs
from harness.replay.simulate import BANDWIDTH, LATENCY, TIME, links_of, simulate
from harness.replay.trace import RoleTrace, Step, Times
from netem.profile import LinkProfile
from protocols.party import P0, P1, P2, ROLES, Role

Pair = tuple[Role, Role]
PAIRS: list[Pair] = list(permutations(ROLES, 2))


class Op(NamedTuple):
    """One operation: kind, peer, bytes, and ns before, during, and (of a send) of transport and handling."""

    kind: int
    peer: Role | None = None
    wire_bytes: int = 0
    before: int = 0
    during: int = 0
    transport: int = 0
    handling: int = 0


Programs = Mapping[Role, Sequence[Op]]


def send(
    peer: Role,
    wire_bytes: int = 0,
    before: int = 0,
    during: int = 0,
    least: int = 0,
    handling: int = 0,
) -> Op:
    return Op(SEND, peer, wire_bytes, before, during, least, handling)


def recv(peer: Role, before: int = 0, during: int = 0) -> Op:
    return Op(RECV, peer, 0, before, during)


def end(before: int = 0) -> Op:
    return Op(END, None, 0, before)


def step_of(programs: Programs) -> Step:
    """The step, with times that do not matter: `costs` has them."""
    made = {}
    for role, ops in programs.items():
        nothing = np.zeros((1, len(ops)), np.int64)
        peers = [NOBODY if op.peer is None else ROLES.index(op.peer) for op in ops]
        kinds, sizes = [op.kind for op in ops], [op.wire_bytes for op in ops]
        kind, peer, size = (np.array(column, np.int64) for column in (kinds, peers, sizes))
        begin_ns = np.zeros(1, np.int64)
        times, labels = Times(*[nothing] * 4), ("",) * len(ops)
        made[role] = RoleTrace(kind, peer, size, size, labels, times, begin_ns)
    return Step(np.zeros(1, np.int64), made)


def costs_from(programs: Programs, entry: int = 0) -> dict[Role, Costs]:
    def column(ops: Sequence[Op], name: str) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        return np.array([[float(getattr(op, name))] for op in ops])

    return {
        role: Costs(
            np.array([float(entry)]),
            column(ops, "before"),
            column(ops, "during"),
            column(ops, "transport"),
            column(ops, "handling"),
        )
        for role, ops in programs.items()
    }


def run(programs: Programs, *profiles: LinkProfile, entry: int = 0) -> list[list[float]]:
    """For each profile, which all links have: total, latency, bandwidth and compute, in ns."""
    lines = links_of([dict.fromkeys(PAIRS, profile) for profile in profiles])
    clock = simulate(step_of(programs), costs_from(programs, entry), lines)[:, 0]
    compute = clock[TIME] - clock[LATENCY] - clock[BANDWIDTH]
    parts = clock[TIME], clock[LATENCY], clock[BANDWIDTH], compute
    return [[float(part[i]) for part in parts] for i in range(len(profiles))]


def link(delay_ns: float, bytes_per_ns: float | None = None) -> LinkProfile:
    return LinkProfile(delay_ns / 1e9, None if bytes_per_ns is None else bytes_per_ns * 8e9)


PING_PONG = {
    P0: [send(P1, 1000, before=10, during=3), recv(P1, before=4, during=5), end(7)],
    P1: [recv(P0, during=2), send(P0, 500, before=20, during=1), end(1)],
}


def test_ping_pong() -> None:
    """10 + 1000/2 + 100, 20 + 500/2 + 100, and 7 at the end."""
    (slow, fast) = run(PING_PONG, link(100, 2), link(100))
    assert slow == [987, 200, 750, 37]
    assert fast == [237, 200, 0, 37]


def test_the_last_role_counts_and_a_late_entry_is_compute() -> None:
    programs = {P0: [send(P1, 8), end(500)], P1: [recv(P0), end()], P2: [end(3)]}
    assert run(programs, link(100), link(600)) == [[500, 0, 0, 500], [600, 600, 0, 0]]
    assert run(programs, link(100), entry=9) == [[509, 0, 0, 509]]


def test_messages_queue_on_a_link_and_pipeline_with_compute() -> None:
    """The second message enters at 10 but starts at 1000; its receiver works while it travels."""
    two = {
        P0: [send(P1, 1000), send(P1, 400, before=10), end()],
        P1: [recv(P0), recv(P0, before=300), end(5)],
    }
    assert run(two, link(50, 1)) == [[1000 + 400 + 50 + 5, 50, 1400, 5]]
    # A receiver that is slower than the link never waits for the second message.
    slow = {**two, P1: [recv(P0), recv(P0, before=900), end(5)]}
    assert run(slow, link(50, 1)) == [[1000 + 50 + 900 + 5, 50, 1000, 905]]


def test_a_link_is_free_again_after_a_pause_and_directions_are_independent() -> None:
    both = {
        P0: [send(P1, 100), send(P1, 100, before=500), recv(P1), end()],
        P1: [send(P0, 700), recv(P0), recv(P0), end()],
    }
    assert run(both, link(0, 1)) == [[700, 0, 700, 0]]
    assert run({**both, P1: [send(P0, 1), *both[P1][1:]]}, link(0, 1)) == [[600, 0, 100, 500]]


def test_a_message_takes_no_less_than_its_machine_needs() -> None:
    programs = {P0: [send(P1, 10, during=4, least=90), end()], P1: [recv(P0), end()]}
    assert run(programs, link(50), link(91)) == [[90, 0, 0, 90], [91, 91, 0, 0]]


def test_handling_comes_on_top_of_what_the_link_takes_but_keeps_nobody_busy() -> None:
    """Neither the sender nor the link; a receiver that is busy does not notice."""
    programs = {
        P0: [send(P1, 40, least=60, handling=7), send(P1, 40, handling=7), end(30)],
        P1: [recv(P0), recv(P0), end(1)],
    }
    assert run(programs, link(10), link(400, 1)) == [[61, 0, 0, 61], [488, 400, 80, 8]]
    busy = {**programs, P1: [recv(P0, before=90), recv(P0), end()]}
    assert run(busy, link(10)) == [[90, 0, 0, 90]]


def test_pairs_have_their_own_links() -> None:
    programs = {
        P0: [send(P1), end()],
        P1: [recv(P0), send(P2), end()],
        P2: [recv(P1), end()],
    }
    profiles = dict.fromkeys(PAIRS, LinkProfile()) | {(P0, P1): link(30), (P1, P2): link(4)}
    clock = simulate(step_of(programs), costs_from(programs), links_of([profiles]))
    assert clock[TIME].tolist() == [[34]]


def test_parties_that_wait_for_each_other_are_found_out() -> None:
    programs = {P0: [recv(P1), send(P1), end()], P1: [recv(P0), send(P0), end()], P2: [end()]}
    with pytest.raises(TraceError, match="P0, P1 wait for messages that are never sent"):
        run(programs, link(1))


def test_loss_and_jitter_are_refused() -> None:
    for profile in (LinkProfile(loss=0.1), LinkProfile(delay_s=1, jitter_s=0.5)):
        with pytest.raises(ValueError, match="not loss or jitter"):
            links_of([{(P0, P1): profile}])


class BruteForce:
    """One scalar network, event by event in order of time."""

    def __init__(self, programs: Programs, profiles: Mapping[Pair, LinkProfile]) -> None:
        self.roles, self.profiles = programs, profiles
        self.at = dict.fromkeys(programs, 0)
        self.sent: Counter[Pair] = Counter()
        self.received: Counter[Pair] = Counter()
        self.arrived: set[tuple[Pair, int]] = set()
        self.waiting: dict[tuple[Pair, int], float] = {}  # message: when its receiver is ready
        self.free: defaultdict[Pair, float] = defaultdict(float)
        self.events: list[tuple[float, int, Callable[[float], None]]] = []
        self.last = 0.0

    def run(self) -> float:
        """When the last role ends."""
        for role in self.roles:
            self.begin(role, 0.0)
        while self.events:
            now, _, act = heapq.heappop(self.events)
            self.last = max(self.last, now)
            act(now)
        return self.last

    def at_time(self, when: float, act: Callable[[float], None]) -> None:
        heapq.heappush(self.events, (when, random.getrandbits(60), act))

    def begin(self, role: Role, now: float) -> None:
        ops = self.roles[role]
        if self.at[role] < len(ops):
            op = ops[self.at[role]]
            self.at[role] += 1
            self.at_time(now + op.before, partial(self.act, role, op))

    def act(self, role: Role, op: Op, now: float) -> None:
        if op.peer is None:
            return
        if op.kind == SEND:
            self.send((role, op.peer), op, now)
            self.at_time(now + op.during, partial(self.begin, role))
            return
        pair = (op.peer, role)
        message = (pair, self.received[pair])
        self.received[pair] += 1
        if message in self.arrived:
            self.at_time(now + op.during, partial(self.begin, role))
        else:
            self.waiting[message] = now + op.during

    def send(self, pair: Pair, op: Op, now: float) -> None:
        profile = self.profiles[pair]
        busy = op.wire_bytes * 8e9 / profile.rate_bit_s if profile.rate_bit_s else 0.0
        self.free[pair] = max(now, self.free[pair]) + busy
        through = self.free[pair] + profile.delay_s * 1e9 + op.handling
        arrival = max(through, now + op.transport)
        self.at_time(arrival, partial(self.arrive, (pair, self.sent[pair])))
        self.sent[pair] += 1

    def arrive(self, message: tuple[Pair, int], now: float) -> None:
        self.arrived.add(message)
        if message in self.waiting:
            self.at_time(max(now, self.waiting[message]), partial(self.begin, message[0][1]))


NS = st.integers(0, 30)
OPS = st.tuples(
    *[NS] * 6
)  # before, during, transport, handling of a send; before, during of its recv
MESSAGES = st.lists(
    st.tuples(st.sampled_from(PAIRS), st.integers(0, 40), OPS, st.booleans()), max_size=16
)
LINK = st.builds(link, st.integers(0, 50), st.sampled_from([None, 1.0, 0.5]))
NETWORKS = st.lists(st.lists(LINK, min_size=6, max_size=6), min_size=1, max_size=3)


@given(MESSAGES, NETWORKS)
def test_agrees_with_brute_force(
    messages: list[tuple[Pair, int, tuple[int, ...], bool]], networks: list[list[LinkProfile]]
) -> None:
    """Random programs. A role may receive later than it could, after sends of its own."""
    programs: dict[Role, list[Op]] = {role: [] for role in ROLES}
    pending: dict[Role, list[Op]] = {role: [] for role in ROLES}
    for (a, b), size, (x, y, z, h, u, v), now in messages:
        programs[a].append(send(b, size, x, y, z, h))
        pending[b].append(recv(a, u, v))
        if now:
            programs[b] += pending.pop(b)
            pending[b] = []
    whole = {role: [*programs[role], *pending[role], end(3)] for role in ROLES}
    profiles = [dict(zip(PAIRS, network, strict=True)) for network in networks]
    clock = simulate(step_of(whole), costs_from(whole), links_of(profiles))[:, 0]
    brute = [BruteForce(whole, network).run() for network in profiles]
    assert clock[TIME].tolist() == pytest.approx(brute)
    assert (clock[[LATENCY, BANDWIDTH]] >= 0).all()
    assert (clock[LATENCY] + clock[BANDWIDTH] <= clock[TIME] + 1e-6).all()
