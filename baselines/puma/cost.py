"""What protocols send, in closed form: bytes by ordered pair, round by round.

Protocols declare a `Cost` beside their code. `a + b` is a then b; `a | b` is both in lockstep, as
`rounds.together` runs them. Hops follow from the rounds: a role's depth grows with what it receives.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import zip_longest

from protocols.party import P0, P1, P2, ROLES
from protocols.system import Pair, PhaseCost

Traffic = Counter[Pair]


@dataclass(frozen=True)
class Cost:
    """Payload bytes of each round, by ordered pair of roles."""

    rounds: tuple[Traffic, ...] = ()

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.rounds + other.rounds)

    def __or__(self, other: "Cost") -> "Cost":
        pairs = zip_longest(self.rounds, other.rounds, fillvalue=Traffic())
        return Cost(tuple(a + b for a, b in pairs))

    def __mul__(self, times: int) -> "Cost":
        return Cost(self.rounds * times)

    @property
    def payload_bytes(self) -> Traffic:
        """Bytes of all rounds."""
        return sum(self.rounds, Traffic())

    @property
    def hops(self) -> int:
        """The largest depth of any role at the end, from depth 0."""
        depth = dict.fromkeys(ROLES, 0)
        for traffic in self.rounds:
            before = dict(depth)
            for source, to in traffic:
                depth[to] = max(depth[to], before[source] + 1)
        return max(depth.values())

    def phase(self) -> PhaseCost:
        """The same as the harness's type."""
        return PhaseCost(self.hops, dict(self.payload_bytes))


NOTHING = Cost()


def one_round(traffic: dict[Pair, int]) -> Cost:
    """A single round; pairs without bytes send nothing."""
    return Cost((Traffic({pair: size for pair, size in traffic.items() if size}),))


def rotation(size: int) -> Cost:
    """Each role sends `size` bytes to the one before it."""
    return one_round({(P0, P2): size, (P1, P0): size, (P2, P1): size})
