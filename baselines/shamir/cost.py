"""What protocols take, in closed form: elements opened round by round, other messages, and correlations.

Protocols declare a `Cost` beside their code. `a + b` is a then b; `a | b` is both in lockstep, as
`openings.together` runs them, of protocols that open and nothing else. Bytes and hops follow from the
group: a role's depth grows with what it receives.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise, zip_longest

from baselines.shamir.context import BITS, PAIRS, Needs
from baselines.shamir.dealing import WORD
from baselines.shamir.group import Group
from baselines.shamir.preprocessing import preprocessing_blocks
from protocols.party import ALL_ROLES, P1
from protocols.system import Pair, PhaseCost

Traffic = Counter[Pair]
Round = int | Traffic  # elements that are opened, or bytes of messages in one hop


@dataclass(frozen=True)
class Cost:
    """rounds: in order. doubles, truncations, comparisons: as `Needs` has them. tripled: elements of
    triples."""

    rounds: tuple[Round, ...] = ()
    doubles: int = 0
    truncations: int = 0
    comparisons: int = 0
    tripled: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return self._with(other, self.rounds + other.rounds)

    def __or__(self, other: "Cost") -> "Cost":
        rounds = zip_longest(self.rounds, other.rounds, fillvalue=0)
        return self._with(other, tuple(_opened(a) + _opened(b) for a, b in rounds))

    def __mul__(self, times: int) -> "Cost":
        return Cost(
            self.rounds * times,
            self.doubles * times,
            self.truncations * times,
            self.comparisons * times,
            self.tripled * times,
        )

    def _with(self, other: "Cost", rounds: tuple[Round, ...]) -> "Cost":
        return Cost(
            rounds,
            self.doubles + other.doubles,
            self.truncations + other.truncations,
            self.comparisons + other.comparisons,
            self.tripled + other.tripled,
        )

    @property
    def stock_bytes(self) -> int:
        """What a party holds of the correlations before they are used."""
        columns = 2 * self.doubles + 3 * self.truncations + (BITS + PAIRS) * self.comparisons
        return WORD * (columns + self.tripled)

    @property
    def largest_opening(self) -> int:
        """Elements of the largest one."""
        return max((round_ for round_ in self.rounds if isinstance(round_, int)), default=0)

    def phase(self, group: Group) -> PhaseCost:
        """Bytes by pair, and hops, of the rounds."""
        return _walked(group, self.rounds)

    def offline(self, group: Group) -> PhaseCost:
        """The same of making the correlations."""
        needs = Needs(self.doubles, [(self.truncations, 1)], self.comparisons)
        rounds: list[Round] = []
        for block in preprocessing_blocks(group, needs, self.tripled):
            rounds += [block.dealt, block.opened]
        return _walked(group, rounds)


NOTHING = Cost()


def opening(elements: int) -> Cost:
    """One opening."""
    return Cost((elements,))


def message(traffic: Traffic) -> Cost:
    """Messages in one hop."""
    return Cost((traffic,))


def _opened(round_: Round) -> int:
    if not isinstance(round_, int):
        raise TypeError("messages go in no lockstep with openings")
    return round_


def _walked(group: Group, rounds: Iterable[Round]) -> PhaseCost:
    depth = dict.fromkeys(group.roles, 0)
    total: Traffic = Counter()
    for round_ in rounds:
        for traffic in _opening(group, round_) if isinstance(round_, int) else (round_,):
            total.update(traffic)
            before = dict(depth)
            for source, to in traffic:
                depth[to] = max(depth[to], before[source] + 1)
    return PhaseCost(max(depth.values()), dict(total))


def _opening(group: Group, count: int) -> tuple[Traffic, Traffic]:
    """To the kings, and back."""
    edges = group.edges(count)
    there, back = Counter[Pair](), Counter[Pair]()
    for king, (lo, hi) in enumerate(pairwise(edges)):
        if hi > lo:
            for j in group.senders(king):
                there[ALL_ROLES[j], ALL_ROLES[king]] = WORD * (hi - lo)
            for j in group.after(king):
                back[ALL_ROLES[king], ALL_ROLES[j]] = WORD * (hi - lo)
    return there, back


def reveal_cost(group: Group, elements: int) -> Cost:
    """`Context.reveal`."""
    pairs = [(ALL_ROLES[j], P1) for j in group.revealers]
    return message(Counter(dict.fromkeys(pairs, WORD * elements)))
