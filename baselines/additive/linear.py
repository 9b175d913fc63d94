"""Products with P0's secret matrices: y = x·Wᵀ + bias, W shared as (W, 0).

Correlation of one product: masks a (n, k) and b (m, k) uniform, c = a·bᵀ (n, m), each shared. Opening
e = x − a and f = W − b gives x·Wᵀ = e·fᵀ + e·bᵀ + a·fᵀ + c. With P0's half d0 = W − b0 of f and P1's
d1 = −b1 this regroups into two passes over matrices that do not depend on x before it arrives:

    P0:  y0 = (e + a0)·d1ᵀ + e·Wᵀ + [a0·d0ᵀ + c0] + bias        the bracket is computed offline
    P1:  y1 = a1·d0ᵀ + (a1 − e)·d1ᵀ + c1

**Faithful** (`reuse_weight_masks=false`): as in CrypTen each product has its own b, so that W is opened
again every time: 64·(|x| + |W|) bits a party. W travels in blocks of rows, each used as it arrives.

**Reused** (`true`): b and f belong to the model; f is opened once, in prepare, and each product takes
only a fresh a. P0 keeps W + d1 = f + b0, P1 keeps b1, and both f for the offline pass:

    P0:  y0 = e·(W + d1)ᵀ + [a0·fᵀ + c0] + bias                  P1:  y1 = e·b1ᵀ + [a1·fᵀ + c1]

| phase | from | to | what | payload | hop |
|---|---|---|---|---|---|
| prepare (reused) | P0, P1 | each other | d0, d1 | 8·m·k | 1, after the one before |
| offline | P2 | P1 | c1 | 8·n·m | 1 |
| online (faithful) | P0, P1 | each other | shares of e, and d0, d1 | 8·(n·k + m·k) | 1 |
| online (reused) | P0, P1 | each other | shares of e | 8·n·k | 1 |

Each learns e and f, which a and b hide. A diagonal matrix y = g∘x + bias is the same with elementwise
products. Source: Beaver triples for matrices, SecureML (Mohassel, Zhang 2017).
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from baselines.additive.context import Context, Parts
from protocols.arith import ring
from protocols.party import P0, P1, P2, Role
from protocols.shares.fixed_weight import FixedWeight

BLOCK_ELEMENTS = 1 << 21  # weights a message: 16 MiB


class Matrix:
    """One secret matrix (m, k). P0 is built with its weights, the others with None."""

    def __init__(
        self, ctx: Context, name: str, shape: tuple[int, int], weight: FixedWeight | None
    ) -> None:
        self._ctx, self._name, self.shape = ctx, name, shape
        self._weight = weight
        self._width = shape[1]  # of x
        self._reused = ctx.settings.reuse_weight_masks
        self._opened: list[Tensor] = []  # reused: f
        self._online: list[Tensor] = []  # reused: W + d1 at P0, b1 at P1

    def prepare(self) -> None:
        """Open the matrix under the model's mask, if that is to be reused."""
        if not self._reused or self._ctx.role == P2:
            return
        halves = list(self._halves(self._mask_name))
        for half in halves:
            self._ctx.party.send(self._ctx.peer, half)
        for block, half in zip(self._blocks(), halves, strict=True):
            (theirs,) = self._ctx.party.recv(self._ctx.peer)
            self._opened.append(half + theirs)
            self._online.append(theirs + self._rows(block) if self._ctx.leads else -half)

    def __call__(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """Shares of x·Wᵀ + bias: x (n, k) → (n, m) at x's scale + FRAC. added: what P0 adds."""
        y = self._product(x)
        return y if added is None else self._ctx.public(y, added)

    def _product(self, x: Tensor) -> Tensor:
        kind = (self._name, tuple(x.shape))
        dealt = self._ctx.correlated(lambda: self._deal(x.shape[0]), kind)
        if not dealt:
            return self._ctx.without_data(x.shape[0], self.shape[0])
        a, known, *halves = dealt
        if self._reused:
            (e,) = self._ctx.open(x - a)
            return known + self._times(self._online, e)
        return known + self._faithful(x - a, a, halves)

    def _faithful(self, share: Tensor, a: Tensor, halves: list[Tensor]) -> Tensor:
        """(e + a0)·d1 + e·W at P0, a1·d0 + (a1 − e)·d1 at P1, block by block."""
        party, peer = self._ctx.party, self._ctx.peer
        for tensor in (share, *halves):
            party.send(peer, tensor)
        e = share + party.recv(peer)[0]
        theirs = e + a if self._ctx.leads else a
        columns = []
        for block, half in zip(self._blocks(), halves, strict=True):
            (opened,) = party.recv(peer)
            y = self._apply(opened, theirs)
            if self._ctx.leads:
                y += self._apply(self._held.values[block], e)
            else:
                y += self._apply(half, a - e)
            columns.append(y)
        return torch.cat(columns, dim=1)

    def _deal(self, n: int) -> Parts:
        """a, what is known offline of y, and (faithful) this role's half of f in blocks."""
        ctx, m = self._ctx, self.shape[0]
        name = ctx.fresh_name()
        mask_name = self._mask_name if self._reused else f"{name}/b"
        streams = {role: ctx.stream(role, name) for role in (P0, P1) if ctx.role in (role, P2)}
        masks = [stream.int64(n, self._width) for stream in streams.values()]
        if ctx.role == P2:
            c = self._dealt(masks[0] + masks[1], mask_name)
            ctx.party.send(P1, c - streams[P0].int64(n, m))
            return masks[1], c
        if ctx.role == P1:
            (known,) = ctx.party.recv(P2)
        else:
            known = streams[P0].int64(n, m)
        return self._known(masks[0], known, mask_name)

    def _known(self, a: Tensor, c: Tensor, mask_name: str) -> Parts:
        if self._reused:
            return a, self._biased(c + self._times(self._opened, a))
        halves = tuple(self._halves(mask_name))
        if self._ctx.leads:
            c = self._biased(c + self._times(halves, a))
        return (a, c, *halves)

    def _biased(self, y: Tensor) -> Tensor:
        bias = None if self._weight is None else self._weight.bias
        return y if bias is None else y + bias

    def _dealt(self, a: Tensor, mask_name: str) -> Tensor:
        """a·bᵀ at the dealer, which never stores b."""
        masks = zip(self._masks(P0, mask_name), self._masks(P1, mask_name), strict=True)
        return self._times((b0 + b1 for b0, b1 in masks), a)

    def _halves(self, mask_name: str) -> Iterator[Tensor]:
        """Blocks of d0 = W − b0, or of d1 = −b1."""
        for block, mask in zip(self._blocks(), self._masks(self._ctx.role, mask_name), strict=True):
            yield self._rows(block) - mask if self._ctx.leads else -mask

    def _masks(self, role: Role, mask_name: str) -> Iterator[Tensor]:
        """Blocks of one role's half of b."""
        stream = self._ctx.stream(role, mask_name)
        for block in self._blocks():
            yield stream.int64(block.stop - block.start, self.shape[1])

    def _blocks(self) -> list[slice]:
        m, step = self.shape[0], max(1, BLOCK_ELEMENTS // max(1, self.shape[1]))
        return [slice(lo, min(m, lo + step)) for lo in range(0, m, step)]

    def _times(self, blocks: Iterable[Tensor], x: Tensor) -> Tensor:
        return torch.cat([self._apply(block, x) for block in blocks], dim=1)

    def _apply(self, weight: Tensor, x: Tensor) -> Tensor:
        return ring.linear(weight, x)

    def _rows(self, block: slice) -> Tensor:
        return self._held.values[block].to(torch.int64)

    @property
    def _held(self) -> FixedWeight:
        if self._weight is None:
            raise RuntimeError("only P0 holds weights")
        return self._weight

    @property
    def _mask_name(self) -> str:
        return f"model/{self._name}"


class Diagonal(Matrix):
    """y = g∘x + bias with secret gains g, given as a matrix (d, 1)."""

    def __init__(self, ctx: Context, name: str, d: int, gains: FixedWeight | None) -> None:
        super().__init__(ctx, name, (d, 1), gains)
        self._width = d

    def _apply(self, weight: Tensor, x: Tensor) -> Tensor:
        return weight.reshape(-1) * x

    def _blocks(self) -> list[slice]:
        return [slice(0, self.shape[0])]
