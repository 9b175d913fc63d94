"""Making the correlations of one step offline, by the parties themselves or by a dealer.

**Without a dealer** (Damgård, Nielsen, CRYPTO 2007). Each party shares random secrets; of n sharings, one
from each party, a Vandermonde matrix (n − t rows of powers of the parties' points) makes n − t that
are random to any t parties. The same is done with sharings of zero of degree 2t. From r (degree t)
and z (zero):

- a **double** is (r, r + z);
- a **bit**: u = r² + z is opened, the king answers v = 1/√u, and b = (r·v + 1)/2 is 0 or 1, since r·v is
  one of 1 and −1 that nobody knows (Damgård et al., TCC 2006). u = 0, with probability 2^-61,
  ends the run;
- a **truncation** by s takes 61 bits: r = Σ 2^i·b_i, ⌊r/2^s⌋ = Σ_(i ≥ s) 2^(i−s)·b_i, b_60; r gets a z;
- a **comparison** takes 61 bits and 31 products of two of them, b_(2k+1)·b_(2k) and b_60·b_0, each
  multiplied with a double.

| from | to | what | elements | hop |
|---|---|---|---|---|
| each party | each that draws nothing (`dealing`) | its sharings | 1/(n − t) a sharing | 1 |
| all | kings, and back | u, v (`Context.open`) | 1 a bit | 2, 3 |
| all | kings, and back | products | 31 a comparison | 4, 5 |

in blocks, so that memory is bounded. Nobody learns anything of r, b or the products: u says r up to
its sign. r = Σ 2^i·b_i is uniform in 0 … p, where p counts as 0: within 2^-61 of uniform modulo p.

**With a dealer** it draws r and all bits, and shares them: one message to each party a block, 1 hop. Where
t ≥ n/2 it also deals **triples** a, b, a·b for each product (`multiply`), in one message each. The dealer
knows all masks and gets no online message.
"""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from baselines.shamir.context import BITS, OPERATIONS, PAIRS, Context, Needs, Stock, Triple
from baselines.shamir.dealing import Sharing, deal, receive, sent_by
from baselines.shamir.group import Group
from protocols.arith import field61
from protocols.arith.field61 import Words
from protocols.errors import PeerError
from protocols.system import Pair

DOUBLES_A_BLOCK = 1 << 19
MASKS_A_BLOCK = 1 << 13  # truncations or comparisons, of 61 bits each
_HALF = 1 << 60  # 1/2 modulo p
_UPPER = torch.tensor([*range(1, BITS - 1, 2), BITS - 1])  # of the pairs of bits
_LOWER = torch.tensor([*range(0, BITS - 1, 2), 0])


def preprocess(ctx: Context) -> None:
    """Make what `ctx.needs` says; all roles."""
    needs = ctx.needs
    make = _Dealt(ctx) if ctx.group.dealt else _Parties(ctx)
    truncated = sum(count for count, _ in needs.truncations)
    with ctx.step("doubles"):
        doubles = map(make.doubles, _blocks(needs.doubles, DOUBLES_A_BLOCK))
        ctx.doubles = _stocked(ctx, doubles, 2, needs.doubles)
    with ctx.step("truncations"):
        truncations = map(make.truncations, _spans(needs.truncations))
        ctx.truncations = _stocked(ctx, truncations, 3, truncated)
    with ctx.step("comparisons"):
        comparisons = map(make.comparisons, _blocks(needs.comparisons, MASKS_A_BLOCK))
        ctx.comparisons = _stocked(ctx, comparisons, BITS + PAIRS, needs.comparisons)
    if isinstance(make, _Dealt):
        with ctx.step("triples"):
            ctx.triples = deque(map(make.triple, needs.triples))


def _stocked(ctx: Context, blocks: Iterator[Tensor], rows: int, count: int) -> Stock:
    """All blocks side by side; the dealer keeps nothing."""
    columns = torch.empty(rows, 0 if ctx.deals else count, dtype=torch.int64)
    at = 0
    for block in blocks:
        columns[:, at : at + block.shape[1]] = block
        at += block.shape[1]
    return Stock(columns)


def _blocks(count: int, size: int) -> list[int]:
    return [min(size, count - lo) for lo in range(0, count, size)]


def _spans(truncations: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Blocks of MASKS_A_BLOCK truncations, each as (count, bits) in order."""
    spans: list[list[tuple[int, int]]] = []
    free = 0
    for whole, bits in truncations:
        count = whole
        while count:
            if not free:
                spans.append([])
                free = MASKS_A_BLOCK
            taken = min(count, free)
            spans[-1].append((taken, bits))
            count, free = count - taken, free - taken
    return spans


def _powers(low: int) -> Words:
    """Weights (1, 61) of ⌊r/2^low⌋ over r's bits."""
    return np.array([[1 << (i - low) if i >= low else 0 for i in range(BITS)]], np.int64)


def _cut(bits: Tensor, span: list[tuple[int, int]]) -> Tensor:
    """(3, count): r, ⌊r/2^s⌋ and the highest bit, from bits (61, count)."""
    lows, at = [], 0
    for count, s in span:
        lows.append(field61.combine(_powers(s), bits[:, at : at + count])[0])
        at += count
    return torch.stack([field61.combine(_powers(0), bits)[0], torch.cat(lows), bits[-1]])


class _Parties:
    """One party's part without a dealer."""

    def __init__(self, ctx: Context) -> None:
        self._ctx, self._group = ctx, ctx.group
        points = range(1, ctx.group.n + 1)
        self._extract = field61.vandermonde(ctx.group.n - ctx.group.t, points)

    def _random(self, randoms: int, zeros: int) -> list[Tensor]:
        """Shares of so many random secrets (degree t), and of zero (degree 2t)."""
        ctx, parts = self._ctx, _dealt(self._group, randoms, zeros)
        secrets = [None, torch.zeros(parts[1].count, dtype=torch.int64)]
        dealt = {ctx.index: deal(ctx, parts, secrets)}
        dealt |= {j: receive(ctx, j, parts) for j in self._group.after(ctx.index)}
        rows = [torch.stack([dealt[j][k] for j in range(self._group.n)]) for k in (0, 1)]
        mixed = [field61.combine(self._extract, row).reshape(-1) for row in rows]
        return [mixed[0][:randoms], mixed[1][:zeros]]

    def _bits(self, count: int, zeros: int) -> tuple[Tensor, Tensor]:
        """(61, count) bits, and shares of zero for other uses."""
        r, z = self._random(BITS * count, BITS * count + zeros)
        square = field61.add(field61.mul(r, r), z[: len(r)])
        v = self._ctx.open(square, field61.inverse_root)
        if not v.all():
            raise PeerError(self._ctx.named("a root that makes a bit is 0"))
        bits = field61.mul(field61.add(field61.mul(r, v), 1), _HALF)
        return bits.reshape(BITS, count), z[len(r) :]

    def doubles(self, count: int) -> Tensor:
        """(2, count)."""
        r, z = self._random(count, count)
        return torch.stack([r, field61.add(r, z)])

    def truncations(self, span: list[tuple[int, int]]) -> Tensor:
        """(3, count)."""
        count = sum(part for part, _ in span)
        bits, z = self._bits(count, count)
        made = _cut(bits, span)
        made[0] = field61.add(made[0], z)
        return made

    def comparisons(self, count: int) -> Tensor:
        """(61 + 31, count)."""
        bits, _ = self._bits(count, 0)
        r, s = self.doubles(PAIRS * count)
        products = field61.mul(bits[_UPPER], bits[_LOWER]).reshape(-1)
        opened = self._ctx.open(field61.add(products, s))
        return torch.cat([bits, field61.sub(opened, r).reshape(PAIRS, count)])


class _Dealt:
    """The dealer's part, or a party's with a dealer."""

    def __init__(self, ctx: Context) -> None:
        self._ctx, self._group = ctx, ctx.group

    def _shared(self, parts: list[Sharing], secrets: list[Tensor | None]) -> list[Tensor]:
        """The parties' shares; of the dealer's secrets shares of no length."""
        if not self._ctx.deals:
            return receive(self._ctx, self._group.n, parts)
        deal(self._ctx, parts, secrets)
        return [torch.empty(0, dtype=torch.int64) for _ in parts]

    def _bits(self, count: int) -> Tensor | None:
        """(61, count) random bits at the dealer."""
        if not self._ctx.deals:
            return None
        words = self._ctx.private.int64(count)
        return torch.stack([(words >> i) & 1 for i in range(BITS)])

    def doubles(self, count: int) -> Tensor:
        """(2, count)."""
        parts = _dealt_doubles(self._group, count)
        zeros = torch.zeros(count, dtype=torch.int64) if self._ctx.deals else None
        r, z = self._shared(parts, [None, zeros])
        return torch.stack([r, field61.add(r, z)])

    def truncations(self, span: list[tuple[int, int]]) -> Tensor:
        """(3, count)."""
        bits = self._bits(sum(part for part, _ in span))
        secrets = [None] * 3 if bits is None else list(_cut(bits, span))
        count = sum(part for part, _ in span)
        return torch.stack(self._shared(_dealt_truncations(self._group, count), secrets))

    def comparisons(self, count: int) -> Tensor:
        """(61 + 31, count)."""
        bits, secret = self._bits(count), None
        if bits is not None:
            secret = torch.cat([bits, bits[_UPPER] * bits[_LOWER]]).reshape(-1)
        (shares,) = self._shared(_dealt_comparisons(self._group, count), [secret])
        return shares.reshape(BITS + PAIRS, 0 if self._ctx.deals else count)

    def triple(self, triple: Triple) -> list[Tensor]:
        """a, b unless it is fixed, and their product, in their shapes."""
        apply = OPERATIONS[triple.operation]
        without = [torch.empty(s, dtype=torch.int64, device="meta") for s in (triple.x, triple.y)]
        shapes = [triple.x, triple.y, apply(*without).shape]
        secrets: list[Tensor | None] = [None] * 3
        if self._ctx.deals:
            a, b = (field61.uniform(self._ctx.private, *shape) for shape in shapes[:2])
            if triple.weight is not None:
                fixed = self._ctx.fixed[triple.weight]
                assert fixed is not None
                b = fixed
            secrets = [part.reshape(-1) for part in (a, b, apply(a, b))]
        if triple.weight is not None:
            shapes, secrets = shapes[::2], secrets[::2]
        parts = [Sharing(shape.numel(), self._group.t) for shape in shapes]
        shares = self._shared(parts, secrets)
        if self._ctx.deals:
            return shares
        return [share.reshape(shape) for share, shape in zip(shares, shapes, strict=True)]


def _dealt(group: Group, randoms: int, zeros: int) -> list[Sharing]:
    """What each party shares for so many."""
    rows = group.n - group.t
    return [
        Sharing(-(-randoms // rows), group.t, chosen=False),
        Sharing(-(-zeros // rows), 2 * group.t),
    ]


def _dealt_doubles(group: Group, count: int) -> list[Sharing]:
    return [Sharing(count, group.t, chosen=False), Sharing(count, group.degree)]


def _dealt_truncations(group: Group, count: int) -> list[Sharing]:
    return [Sharing(count, group.degree), Sharing(count, group.t), Sharing(count, group.t)]


def _dealt_comparisons(group: Group, count: int) -> list[Sharing]:
    return [Sharing((BITS + PAIRS) * count, group.t)]


@dataclass(frozen=True)
class Block:
    """What is sent for one block: bytes of each deal by pair, and counts of openings, in order."""

    dealt: Counter[Pair]
    opened: int = 0


def preprocessing_blocks(group: Group, needs: Needs, tripled: int) -> Iterator[Block]:
    """What `preprocess` sends. tripled: elements of all triples."""
    doubles = _blocks(needs.doubles, DOUBLES_A_BLOCK)
    truncations = [sum(part for part, _ in span) for span in _spans(needs.truncations)]
    comparisons = _blocks(needs.comparisons, MASKS_A_BLOCK)
    if group.dealt:
        for make, counts in (
            (_dealt_doubles, doubles),
            (_dealt_truncations, truncations),
            (_dealt_comparisons, comparisons),
        ):
            yield from (Block(sent_by(group, group.n, make(group, count))) for count in counts)
        yield Block(sent_by(group, group.n, [Sharing(tripled, group.t)]))
        return
    yield from (Block(_all_deal(group, count, count)) for count in doubles)
    for count in truncations:
        yield Block(_all_deal(group, BITS * count, (BITS + 1) * count), BITS * count)
    for count in comparisons:
        yield Block(_all_deal(group, BITS * count, BITS * count), BITS * count)
        yield Block(_all_deal(group, PAIRS * count, PAIRS * count), PAIRS * count)


def _all_deal(group: Group, randoms: int, zeros: int) -> Counter[Pair]:
    parts = _dealt(group, randoms, zeros)
    return sum((sent_by(group, owner, parts) for owner in range(group.n)), Counter[Pair]())
