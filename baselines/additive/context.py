"""One role's state shared by all primitives: its transport, keys, correlations, and the pass under way.

A secret x in Z_2^64 is a pair of int64 tensors x0 at P0 and x1 at P1 with x0 + x1 = x mod 2^64. The
owner of a value shares it as (x, 0): nothing travels, and whatever is opened later is masked anyway.

Every step runs twice with the same code. In the **offline pass** all tensors are without data
(torch's `meta` device): wherever a primitive needs a correlation, the dealer makes one of that shape, and
the primitive returns at once. In the **online pass** P0 and P1 use them up in the same order. P2 runs the
offline pass alone.

Dealing: P0 and P1 draw their parts from keys they share with the dealer, who completes P1's part by an
explicit correction.

| phase | from | to | what | payload | hop |
|---|---|---|---|---|---|
| prepare | P2 | P0, P1 | a PRG key each | 16 | 1 |
| offline | P2 | P1 | the correction of each correlation | as its module says | 1 |

P2 learns all masks and no message of P0 or P1.
"""

from collections import deque
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from baselines.additive.options import Settings
from protocols.arith.prg import Prg, Stream
from protocols.party import P0, P1, P2, Party, Role

FRAC = 16  # fractional bits of every shared tensor unless its function says otherwise

Shape = tuple[int, ...]
Parts = tuple[Tensor, ...]
Complete = Callable[[Parts, Parts], Parts]  # draws of P0, draws of P1 → what P1 is sent


class Context:
    """A role's party, keys and unused correlations."""

    def __init__(self, party: Party, seed: int | None, settings: Settings) -> None:
        self.party = party
        self.role: Role = party.role
        self.settings = settings
        self.offline_pass = True
        self._seed = seed
        self._keys: dict[Role, Prg] = {}
        self._pass = self._drawn = 0
        self._stock: deque[tuple[object, Parts]] = deque()

    @property
    def leads(self) -> bool:
        """Whether this role adds what is public to its share: P0."""
        return self.role == P0

    @property
    def peer(self) -> Role:
        """The other computing party."""
        return P1 if self.leads else P0

    def establish(self) -> None:
        """Hand out the dealer's keys (phase prepare)."""
        if self.role != P2:
            (key,) = self.party.recv(P2)
            self._keys = {self.role: Prg(bytes(key.numpy()))}
            return
        root = Prg.root(self._seed, "dealer")
        self._keys = {role: Prg(root.key(role)) for role in (P0, P1)}
        for role in self._keys:
            self.party.send(role, torch.tensor(list(root.key(role)), dtype=torch.uint8))

    def begin_offline(self) -> None:
        """Start the offline pass of one step: no stream is ever drawn twice."""
        self.offline_pass = True
        self._pass += 1
        self._drawn = 0
        self._stock.clear()

    def begin_online(self) -> None:
        """Start the online pass of the current step."""
        self.offline_pass = False

    def end_online(self) -> None:
        """Raise RuntimeError if the two passes have not run the same way."""
        if self._stock:
            raise RuntimeError(f"{len(self._stock)} correlations were dealt and not used")

    def stream(self, role: Role, name: str) -> Stream:
        """The stream `name` of the dealer and `role`, which is this role or asked for by P2."""
        return self._keys[role].stream(name)

    def fresh_name(self) -> str:
        """A stream name that is used once; all roles get the same names in the same order."""
        self._drawn += 1
        return f"{self._pass}/{self._drawn}"

    def correlated(self, make: Callable[[], Parts], kind: object) -> Parts:
        """This role's part of a correlation: made and stored offline, taken from the store online.

        Returns () in the offline pass. `kind` must be the same in both passes.
        """
        if not self.offline_pass:
            stored, parts = self._stock.popleft()
            if stored != kind:
                raise RuntimeError(f"a correlation {kind} is needed, {stored} was dealt")
            return parts
        parts = make()
        if self.role != P2:
            self._stock.append((kind, parts))
        return ()

    def deal(
        self, kind: str, zero: Sequence[Shape], one: Sequence[Shape], complete: Complete
    ) -> Parts:
        """A correlation of uniform int64 draws of shapes `zero` at P0 and `one` at P1.

        `complete` gives the dealer, from both roles' draws, the tensors that P1 has besides its own.
        Returns () in the offline pass.
        """

        def make() -> Parts:
            name = self.fresh_name()
            if self.role == P0:
                return self._draw(P0, name, zero)
            own = self._draw(P1, name, one)
            if self.role == P1:
                return (*own, *self.party.recv(P2))
            rest = complete(self._draw(P0, name, zero), own)
            self.party.send(P1, *rest)
            return (*own, *rest)

        return self.correlated(make, (kind, *zero))

    def _draw(self, role: Role, name: str, shapes: Sequence[Shape]) -> Parts:
        stream = self.stream(role, name)
        return tuple(stream.int64(*shape) for shape in shapes)

    def open(self, *shares: Tensor) -> Parts:
        """The secrets themselves, to P0 and P1: one hop, all in one message."""
        return tuple(own + theirs for own, theirs in zip(shares, self.swap(*shares), strict=True))

    def swap(self, *tensors: Tensor) -> Parts:
        """What the other computing party has in the same place. One hop."""
        return self.party.exchange(self.peer, *tensors)

    def without_data(self, *shape: int) -> Tensor:
        """What a primitive returns in the offline pass."""
        return torch.empty(shape, dtype=torch.int64, device="meta")

    def public(self, x: Tensor, value: Tensor | int) -> Tensor:
        """The share of x + value for a public value, of x's shape or smaller, at x's scale."""
        return x + value if self.leads and not x.is_meta else x
