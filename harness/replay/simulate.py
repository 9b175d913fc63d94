"""Simulation of the parties and links of one step, on many networks at once.

A role's role_trace is a fixed sequence, and a link is a FIFO for each ordered pair of roles, so nothing
depends on scheduling: one pass over the operations, each as far as its messages allow, gives every
instant. With a role's clock t, a link's free time f, and a message of w bytes:

    compute         t ← t + segment
    send            f ← max(t, f) + 8·w/rate
                    arrival = max(f + delay + handling, t + transport);  t ← t + own
    receive         t ← max(t + own, arrival)
    local           nothing

which is `netem.emulated_link.EmulatedLink` without jitter, and `handling` what handing over a message takes.
Every instant is an array (PARTS, evaluations, networks): the time, and what of it is latency and
bandwidth on the path that determined it. A max takes over all parts of its winner, so that the last
clock holds the critical path's shares.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from harness.errors import TraceError
from harness.parties.trace_recorder import END, LOCAL, RECV
from harness.replay.compute_times import Costs
from harness.replay.trace import Floats, Step
from netem.profile import LinkProfile
from protocols.party import ALL_ROLES, Role

PARTS = 3
TIME, LATENCY, BANDWIDTH = range(PARTS)

Pair = tuple[Role, Role]
Profiles = Mapping[Pair, LinkProfile]


@dataclass(frozen=True)
class LinkArrays:
    """The links of several networks: for each pair delay in ns and ns per byte, each (networks,)."""

    delay_ns: Mapping[Pair, Floats]
    ns_per_byte: Mapping[Pair, Floats]
    count: int


class Instants(NamedTuple):
    """When an operation began, when the message that it receives was there (its begin, for any other
    operation), and when it ended, each (evaluations, networks) in ns. Compute lies between operations."""

    begin: Floats
    arrived: Floats
    end: Floats


_Arrival = tuple[Floats, Floats]  # of a message: with all parts; when it leaves the link
Observer = Callable[[Role, Instants], None]  # told of each operation of a role, in order


def links_of(networks: Sequence[Profiles]) -> LinkArrays:
    """The links of `networks`. Raises ValueError where one loses packets or has jitter."""
    if any(p.loss or p.jitter_s for profiles in networks for p in profiles.values()):
        raise ValueError("a replay knows delay and rate, not loss or jitter")
    pairs = networks[0].keys()
    delay = {pair: np.array([n[pair].delay_s * 1e9 for n in networks]) for pair in pairs}
    serial = {pair: np.array([_ns_per_byte(n[pair]) for n in networks]) for pair in pairs}
    return LinkArrays(delay, serial, len(networks))


def _ns_per_byte(profile: LinkProfile) -> float:
    return 8e9 / profile.rate_bit_s if profile.rate_bit_s else 0.0


def simulate(
    step: Step, costs: Mapping[Role, Costs], lines: LinkArrays, observer: Observer | None = None
) -> Floats:
    """When the last role ends, (PARTS, evaluations, networks) in ns from the common start.

    observer: is told of every operation. Raises TraceError where all roles wait for messages that are
    never sent.
    """
    simulation = _Simulation(step, costs, lines, observer)
    while simulation.advance():
        pass
    return simulation.last()


class _Simulation:
    """Clocks of roles, links and messages under way."""

    def __init__(
        self,
        step: Step,
        costs: Mapping[Role, Costs],
        lines: LinkArrays,
        observer: Observer | None,
    ) -> None:
        self._roles = step.roles
        self._observer = observer
        self._costs = costs
        self._lines = lines
        self._at = dict.fromkeys(step.roles, 0)
        self._clocks = {role: self._begin(costs[role]) for role in step.roles}
        self._free: dict[Pair, Floats] = {}
        self._under_way: defaultdict[Pair, deque[_Arrival]] = defaultdict(deque)

    def _begin(self, costs: Costs) -> Floats:
        clock = np.zeros((PARTS, len(costs.entry), self._lines.count))
        clock[TIME] += costs.entry[:, None]
        return clock

    def advance(self) -> bool:
        """Walk every role to its end, or to a message not yet sent; whether one moved."""
        return max([self._advance(role) for role in self._roles])

    def _advance(self, role: Role) -> bool:
        role_trace, first = self._roles[role], self._at[role]
        kinds, peers = role_trace.kind[first:].tolist(), role_trace.peer[first:].tolist()
        for kind, place in zip(kinds, peers, strict=True):
            at = self._at[role]
            if kind in (END, LOCAL):
                clock = _later_by(self._clocks[role], self._costs[role].before[at])
                self._clocks[role] = clock
                if self._observer:
                    self._observer(role, Instants(*[clock[TIME]] * 3))
            elif kind == RECV:
                arrivals = self._under_way[ALL_ROLES[place], role]
                if not arrivals:
                    break
                self._receive(role, at, arrivals.popleft())
            else:
                self._send(role, ALL_ROLES[place], at, int(role_trace.wire_bytes[at]))
            self._at[role] += 1
        return self._at[role] > first

    def _receive(self, role: Role, at: int, arrival: _Arrival) -> None:
        costs, (handed_over, off_link_ns) = self._costs[role], arrival
        ready = _later_by(self._clocks[role], costs.before[at] + costs.during[at])
        self._clocks[role] = end = _max(ready, handed_over)
        if self._observer:
            own = costs.during[at][:, None]  # at the end of the receive, as far as the link allows
            there = np.maximum(off_link_ns, handed_over[TIME] - own)
            self._observer(role, Instants(ready[TIME] - own, there, end[TIME]))

    def _send(self, role: Role, to: Role, at: int, wire_bytes: int) -> None:
        costs, pair = self._costs[role], (role, to)
        clock = _later_by(self._clocks[role], costs.before[at])
        free = self._free.get(pair)
        free = clock.copy() if free is None else _max(clock, free)
        for part in (TIME, BANDWIDTH):
            free[part] += wire_bytes * self._lines.ns_per_byte[pair]
        off_link = free.copy()
        for part in (TIME, LATENCY):
            off_link[part] += self._lines.delay_ns[pair]
        arrival = _later_by(off_link, costs.handling[at])
        self._free[pair] = free
        arrival = _max(arrival, _later_by(clock, costs.transport[at]))
        self._under_way[pair].append((arrival, off_link[TIME]))
        self._clocks[role] = end = _later_by(clock, costs.during[at])
        if self._observer:
            self._observer(role, Instants(clock[TIME], clock[TIME], end[TIME]))

    def last(self) -> Floats:
        """The latest role's clock, once all have ended."""
        stuck = [r for r, role_trace in self._roles.items() if self._at[r] < len(role_trace.kind)]
        if stuck:
            raise TraceError(f"{', '.join(stuck)} wait for messages that are never sent")
        first, *others = self._clocks.values()
        for clock in others:
            first = _max(first, clock)
        return first


def _later_by(clock: Floats, segment: Floats) -> Floats:
    """The clock after `segment` (evaluations,) ns of a party's own work."""
    later = clock.copy()
    later[TIME] += segment[:, None]
    return later


def _max(a: Floats, b: Floats) -> Floats:
    """The later of two instants, with its parts; of equal ones the first."""
    return np.where(b[TIME] > a[TIME], b, a)
