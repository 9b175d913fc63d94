"""Who takes part: n parties, of which any t together learn nothing, and perhaps a dealer.

Party P_i holds the value of each secret's polynomial at i + 1; the secret is its value at 0.
"""

from dataclasses import dataclass
from functools import cached_property

from protocols.party import ALL_ROLES, Role


@dataclass(frozen=True)
class Group:
    """n parties, threshold t. dealt: whether role number n deals all randomness."""

    n: int
    t: int
    dealt: bool

    @property
    def parties(self) -> tuple[Role, ...]:
        """Those that compute."""
        return ALL_ROLES[: self.n]

    @property
    def roles(self) -> tuple[Role, ...]:
        """All, the dealer last."""
        return ALL_ROLES[: self.n + self.dealt]

    @property
    def majority(self) -> bool:
        """Whether all parties together can open a product of two shares: t < n/2."""
        return 2 * self.t < self.n

    @property
    def degree(self) -> int:
        """Of what is opened: 2t, or t where products are made of the dealer's."""
        return 2 * self.t if self.majority else self.t

    def after(self, index: int) -> tuple[int, ...]:
        """The parties that follow number `index` in a ring; all of them after the dealer."""
        others = self.n - (index < self.n)
        return tuple((index + 1 + k) % self.n for k in range(others))

    def senders(self, king: int) -> tuple[int, ...]:
        """Whose shares a king adds to its own to open a value."""
        return self.after(king)[: self.degree]

    @cached_property
    def revealers(self) -> tuple[int, ...]:
        """Whose shares P1 adds to its own to learn an answer."""
        return tuple((1 - k) % self.n for k in range(1, self.t + 1))

    def edges(self, count: int) -> list[int]:
        """Where the slices of `count` values begin and end, one slice for each king."""
        return [count * k // self.n for k in range(self.n + 1)]
