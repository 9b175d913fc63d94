"""Token selection: P1 learns one entry of a shared vector's index, P0 nothing at all.

Logits are revealed to P1 under a fresh permutation π of the whole vocabulary. P1 picks a slot j by
any rule of its own and looks up π(j), the token, in P0's table of π: by BFV, as in the paper, or by
oblivious transfer (`private_lookup`, `oblivious_transfer`).

| phase | from | to | what | name | payload | hop |
|---|---|---|---|---|---|---|
| offline | P2 | P1 | σ | | 4·n | 1 |
| online | P0 | P1 | (π(Δ) + ρ >> s) + t | reveal | 4·n | 1 |
| online | P1 | P0 | the lookup's query | query | | 2 |
| online | P0 | P1 | the lookup's reply | reply | | 3 |

P0 learns nothing; P1 learns the logits in random order, and the token. Several vectors of one step
(`look_up_all`) have a permutation and a query each, and share the hops. Source: PermLLM, section 5.
"""

from collections.abc import Callable, Sequence
from copy import copy

import torch
from torch import Tensor

from protocols.party import P0
from protocols.permllm.context import Context, Step, named
from protocols.permllm.masked_value import Masked
from protocols.permllm.oblivious_transfer import TransferLookup
from protocols.permllm.options import Lookups
from protocols.permllm.permuted_functions import Revealed
from protocols.permllm.private_lookup import BfvLookup, Lookup

Choice = Callable[[Tensor], int]  # permuted logits, float64 (n,) → slot
Scaled = Callable[[Tensor], Tensor]
LOOKUPS: dict[Lookups, type[Lookup]] = {"bfv": BfvLookup, "ot": TransferLookup}


class Selection(Step):
    """π(j) for the slot j that P1 chooses after seeing the permuted vector of `size` values."""

    def __init__(self, ctx: Context, name: str, size: int, lookup: Lookups) -> None:
        super().__init__(ctx, name)
        self._revealed = Revealed(ctx, name)
        self._lookup = LOOKUPS[lookup](ctx, name, size)
        self._seen = torch.empty(0)  # P1
        self._slot = 0  # P1

    def prepare(self) -> None:
        """The lookup's keys."""
        self._lookup.prepare()

    def beside(self, name: str) -> "Selection":
        """Another one under the same keys, with material of its own, kept as `name`."""
        other = copy(self)
        other.name, other._revealed = name, Revealed(self.ctx, name)
        other._lookup = copy(self._lookup)
        other._lookup.name = name
        return other

    def offline(self, logits: Masked) -> Tensor | None:
        """Deal the permutations of logits (steps, n) or (n,), and what looks them up. Returns π of each
        step, int64 (steps, n), to those who know it."""
        index = self._revealed.offline([logits])
        self._lookup.offline(index)
        return index

    @property
    def slot(self) -> int:
        """Where P1's token stands among what it saw last."""
        return self._slot

    @property
    def index(self) -> Tensor:
        """π of the last step, int64 (n,), at P0."""
        return self._revealed.index

    def shown(self, token: int | None) -> tuple[Tensor, ...]:
        """For checking: P1's token (−1: not there yet), what it saw and the slot it picked; P0's
        permutation."""
        if self.role == P0:
            return (self.index,)
        return torch.tensor(-1 if token is None else token), self._seen, torch.tensor(self._slot)

    @named
    def reveal(self, logits: Masked, choose: Choice, scaled: Scaled = torch.Tensor.clone) -> None:
        """P1 sees the permuted logits and picks one. scaled: what makes logits of what it sees."""
        seen = self._revealed.online([logits])
        if seen is not None:
            self._seen = scaled(seen.reshape(-1))
            self._slot = choose(self._seen)

    def look_up(self) -> Callable[[], int | None]:
        """The query. Returns what gives P1 the index it picked, and may wait."""
        rest = self._query()
        return lambda: self._reply(rest)

    @named
    def _query(self) -> Callable[[], int | None]:
        return self._lookup.asked() if self.role == P0 else self._lookup.ask(self._slot)

    @named
    def _reply(self, rest: Callable[[], int | None]) -> int | None:
        return rest()

    def online(
        self, logits: Masked, choose: Choice, scaled: Scaled = torch.Tensor.clone
    ) -> int | None:
        """The chosen index at P1, None at P0."""
        self.reveal(logits, choose, scaled)
        return self.look_up()()


def look_up_all(
    selections: Sequence[Selection], logits: Masked, choose: Choice
) -> list[int | None]:
    """One index of each row of logits (n, size) at P1, in the hops of one; None at P0."""
    for i, selection in enumerate(selections):
        selection.reveal(logits.narrow(0, i, 1), choose)
    waiting = [selection.look_up() for selection in selections]
    return [finish() for finish in waiting]
