"""One role's state: keys, streams, the pass under way, and openings.

Every step runs twice. In the **offline pass** shares are without data; the protocols say which
correlations they will take (`Needs`), and the parties, or the dealer, then make them
(`preprocessing`). In the **online pass** they are used up in the same order.

**Opening** by kings (Damgård, Nielsen, CRYPTO 2007): of a vector of shares of degree d each party is
king of one of n slices. d parties send it their shares; it interpolates and tells all others.

| from | to | what | elements | hop |
|---|---|---|---|---|
| the d parties after king k | P_k | shares of slice k | count/n each | 1 |
| P_k | all others | the opened slice | count/n each | 2 |

(d + n − 1)/n elements a party for each element opened: below 2. All parties learn what is opened, the
king the polynomial too: so every opened share is masked by a random sharing of the same degree.
What a party receives is checked: number of tensors, type, length, residues below p. Errors begin with the
step under way. Its value is not: a king, and P1 in `reveal`, gets d + 1 shares, through which there always
is a polynomial of degree d. More would cost bytes that a semi-honest protocol does not need.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from baselines.shamir.group import Group
from protocols.arith import field61
from protocols.arith.field61 import P, Words
from protocols.arith.prg import KEY_BYTES, Prg, Stream
from protocols.errors import PeerError
from protocols.party import ALL_ROLES, Party, Role

BITS = 61  # of a residue
PAIRS = 31  # products of two of a mask's bits that a comparison takes


@dataclass
class Stock:
    """Correlations of one kind, one a column, to be used up from the left."""

    columns: Tensor
    used: int = 0

    def take(self, count: int) -> Tensor:
        """The next `count`."""
        self.used += count
        if self.used > self.columns.shape[1]:
            raise RuntimeError("more correlations are needed than were made")
        return self.columns[:, self.used - count : self.used]


def _carried(upper: Tensor, lower: Tensor) -> Tensor:
    """Products of the upper with the lower of neighbouring ranges (`compare`)."""
    return field61.mul(field61.concatenate([upper, upper[1:]]), lower)


Operation = Literal["times", "carry", "heads", "linear", "rows"]
OPERATIONS: Mapping[Operation, Callable[[Tensor, Tensor], Tensor]] = {
    "times": field61.mul,
    "carry": _carried,
    "heads": field61.matmul_t,
    "linear": lambda x, w: field61.linear(w, x),
    "rows": field61.matmul,
}


@dataclass(frozen=True)
class Triple:
    """Random a and b and their product. weight: which of the dealer's fixed masks b is, if it is one."""

    operation: Operation
    x: torch.Size
    y: torch.Size
    weight: int | None = None


@dataclass
class Needs:
    """What one step takes. doubles: one secret, shared with degree t and with the degree that is
    opened. truncations: of how many elements, by how many bits. comparisons: random residues with
    their bits. triples: operation and shapes."""

    doubles: int = 0
    truncations: list[tuple[int, int]] = field(default_factory=list)
    comparisons: int = 0
    triples: list[Triple] = field(default_factory=list)


@lru_cache(64)
def _at_zero(group: Group, parties: tuple[int, ...]) -> Words:
    return field61.lagrange([j + 1 for j in parties], [0])


class Context:
    """What a role needs to run protocols. `index` is i of P_i; the dealer's is n."""

    def __init__(self, party: Party, group: Group, seed: int | None) -> None:
        self.party, self.group = party, group
        self.role: Role = party.role
        self.index = ALL_ROLES.index(party.role)
        self.deals = self.index == group.n
        self.offline_pass = False
        self.needs = Needs()
        self.doubles = self.truncations = self.comparisons = Stock(torch.empty(0, 0))
        self.triples: deque[list[Tensor]] = deque()
        self.fixed: list[Tensor | None] = []  # the dealer's masks of weights
        self._step = ""
        self._root = Prg.root(seed, f"shamir/{party.role}")
        self._evaluation = 0
        self._keys: dict[int, Prg] = {}
        self._streams: dict[tuple[int, int], Stream] = {}
        self.private: Stream  # of secrets that this role alone draws; once keys are there

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """`Party.step`, which errors name too."""
        before = self._step
        self._step = f"{before}/{name}" if before else name
        try:
            with self.party.step(name):
                yield
        finally:
            self._step = before

    def wrong(self, what: str, source: int, problem: str) -> PeerError:
        """That role number `source` sent something else than `what`."""
        return PeerError(self.named(f"{what} of {ALL_ROLES[source]} to {self.role}: {problem}"))

    def named(self, text: str) -> str:
        """`text` after the name of the step under way."""
        return f"{self._step}: {text}" if self._step else text

    def establish(self) -> None:
        """Draw and hand out keys (phase prepare)."""
        n = self.group.n
        for j in range(n) if self.deals else range(self.index + 1, n):
            key = self._root.key(f"key/{j}")
            self._keys[j] = Prg(key)
            self.party.send(ALL_ROLES[j], torch.tensor(list(key), dtype=torch.uint8))
        if not self.deals:
            for i in [*range(self.index), *([n] if self.group.dealt else [])]:
                (key_tensor,) = self._checked("key", i, (KEY_BYTES,), torch.uint8)
                self._keys[i] = Prg(bytes(key_tensor.numpy()))
        self._open_streams("model")

    def begin_offline(self, step: int) -> None:
        """Start the offline pass of one step; step 0 begins an evaluation with streams of its own."""
        if step == 0:
            self._evaluation += 1
            self._open_streams(f"evaluation/{self._evaluation}")
        self.offline_pass, self.needs = True, Needs()

    def begin_online(self) -> None:
        """Start the online pass of the current step."""
        self.offline_pass = False

    def end_online(self) -> None:
        """Raise RuntimeError if the two passes have not run the same way."""
        stocks = (self.doubles, self.truncations, self.comparisons)
        left = sum(stock.columns.shape[1] - stock.used for stock in stocks) + len(self.triples)
        if left:
            raise RuntimeError(f"{left} correlations were made and not used")

    def _open_streams(self, name: str) -> None:
        self.private = self._root.stream(f"private/{name}")
        self._streams = {
            pair: key.stream(f"{name}/{ALL_ROLES[pair[0]]}")
            for j, key in self._keys.items()
            for pair in ((self.index, j), (j, self.index))
        }

    def draw(self, owner: int, other: int, count: int) -> Tensor:
        """Uniform residues that `other` has of what `owner` deals; only these two can draw them."""
        return field61.uniform(self._streams[owner, other], count)

    def receive(self, what: str, source: int, *counts: int) -> tuple[Tensor, ...]:
        """A message of vectors of residues of these lengths. what: its name in errors. Raises PeerError
        for any other."""
        tensors = self._checked(what, source, counts, torch.int64)
        if not all(_are_residues(tensor) for tensor in tensors):
            raise self.wrong(what, source, "a number is no residue")
        return tensors

    def _checked(
        self, what: str, source: int, counts: Sequence[int], dtype: torch.dtype
    ) -> tuple[Tensor, ...]:
        tensors = self.party.recv(ALL_ROLES[source])
        got = [f"{t.dtype} {list(t.shape)}" for t in tensors]
        wanted = [f"{dtype} {[count]}" for count in counts]
        if got != wanted:
            said = [", ".join(parts) or "nothing" for parts in (got, wanted)]
            raise self.wrong(what, source, f"{said[0]} came, expected {said[1]}")
        return tensors

    def without_data(self, *shape: int) -> Tensor:
        """What there is of a share in the offline pass."""
        return torch.empty(shape, dtype=torch.int64, device="meta")

    def take_doubles(self, count: int) -> Tensor:
        """(2, count): one secret in each column, of degree t and of the degree that is opened."""
        if self.offline_pass:
            self.needs.doubles += count
            return self.without_data(2, count)
        return self.doubles.take(count)

    def take_truncations(self, count: int, bits: int) -> Tensor:
        """(3, count): a random r, of the degree that is opened; ⌊r/2^bits⌋; r's highest bit."""
        if self.offline_pass:
            self.needs.truncations.append((count, bits))
            return self.without_data(3, count)
        return self.truncations.take(count)

    def take_comparisons(self, count: int) -> Tensor:
        """(61 + 31, count): the bits of a random r, lowest first, then products of them (`compare`)."""
        if self.offline_pass:
            self.needs.comparisons += count
            return self.without_data(BITS + PAIRS, count)
        return self.comparisons.take(count)

    def take_triple(
        self, operation: Operation, x: Tensor, y: Tensor, weight: int | None = None
    ) -> list[Tensor]:
        """Random a and b of the shapes of x and y, and their product; without b if `weight` says which
        fixed one it is."""
        if not self.offline_pass:
            return self.triples.popleft()
        self.needs.triples.append(Triple(operation, x.shape, y.shape, weight))
        a, b = self.without_data(*x.shape), self.without_data(*y.shape)
        result = OPERATIONS[operation](a, b)
        return [a, result] if weight is not None else [a, b, result]

    def open(self, shares: Tensor, then: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """The secrets of a vector of shares, at all parties; `then`: a function of each of them that the
        kings compute. Two hops."""
        if shares.is_meta or shares.numel() == 0:
            return shares
        edges = self.group.edges(shares.numel())
        slices = [shares[lo:hi] for lo, hi in pairwise(edges)]
        for king in self.group.after(self.index):
            if slices[king].numel() and self.index in self.group.senders(king):
                self.party.send(ALL_ROLES[king], slices[king])
        if slices[self.index].numel():
            slices[self.index] = self._reign(slices[self.index], then)
        for king in self.group.after(self.index):
            if slices[king].numel():
                (slices[king],) = self.receive("opened values", king, slices[king].numel())
        return torch.cat(slices)

    def _reign(self, own: Tensor, then: Callable[[Tensor], Tensor] | None) -> Tensor:
        """This party's slice, opened, and told to the others."""
        senders = self.group.senders(self.index)
        rows = [own, *(self.receive("shares", j, own.numel())[0] for j in senders)]
        matrix = _at_zero(self.group, (self.index, *senders))
        opened = field61.combine(matrix, torch.stack(rows))[0]
        opened = opened if then is None else then(opened)
        for j in self.group.after(self.index):
            self.party.send(ALL_ROLES[j], opened)
        return opened

    def reveal(self, shares: Tensor) -> Tensor | None:
        """The secrets of shares of degree t at P1 alone, None elsewhere. One hop."""
        if shares.is_meta:
            return None
        flat, count = shares.reshape(-1).contiguous(), shares.numel()
        if self.index in self.group.revealers:
            self.party.send(ALL_ROLES[1], flat)
        if self.index != 1:
            return None
        rows = [flat, *(self.receive("shares", j, count)[0] for j in self.group.revealers)]
        matrix = _at_zero(self.group, (1, *self.group.revealers))
        return field61.combine(matrix, torch.stack(rows))[0].reshape(shares.shape)


def _are_residues(tensor: Tensor) -> bool:
    if not tensor.numel():
        return True
    low, high = torch.aminmax(tensor)
    return int(low) >= 0 and int(high) < P
