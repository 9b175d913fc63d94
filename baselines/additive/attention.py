"""Attention's two products with a cache of keys and values: s = q·kᵀ and o = p·v, by heads.

**Faithful**: both operands of both products are opened under fresh masks at each step, all cached rows
included (`beaver.matmul`), as CrypTen does.

**Reused** (`reuse_weight_masks=true`): a row of k or v keeps its mask b, and f = row − b is opened when
it is new, in one message with q. A product then takes a fresh mask a of its left operand alone, and
c = a·b from the dealer, who keeps b:

    x·y = e·f + e·b + a·f + c,      e = x − a,      P0 adds e·f

Rows that an experiment assumes cached are opened when they are shared (phase input).

Shapes: h key heads, n queries of each (those of all query heads that share it), r new rows, L rows in
all, width w.

| phase | from | to | what | payload | hop |
|---|---|---|---|---|---|
| offline | P2 | P1 | c of s, c of o | 8·h·n·L, 8·h·n·w | 1 |
| input (reused) | P0, P1 | each other | f of the cached rows | 16·h·(L − r)·w | 1 |
| online (faithful) | P0, P1 | each other | q and k, masked | 8·h·w·(n + L) | 1 |
| online (faithful) | P0, P1 | each other | p and v, masked | 8·h·L·(n + w) | 1 (after the softmax) |
| online (reused) | P0, P1 | each other | q, new k, new v, masked | 8·h·w·(n + 2·r) | 1 |
| online (reused) | P0, P1 | each other | p, masked | 8·h·n·L | 1 (after the softmax) |

Each learns the masked operands. Source: Beaver triples for matrices, SecureML (Mohassel, Zhang 2017).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor

from baselines.additive.beaver import matmul
from baselines.additive.context import Context, Parts
from protocols.arith import ring
from protocols.party import P0, P1, P2


class Cache(ABC):
    """One layer's keys and values at one role."""

    def __init__(self, ctx: Context, heads: int, width: int) -> None:
        self._ctx, self._heads, self._width = ctx, heads, width
        self.clear()

    @abstractmethod
    def clear(self) -> None:
        """Forget all rows, in both passes."""

    @abstractmethod
    def fill(self, k: Tensor, v: Tensor) -> None:
        """Take rows (h, L, w) that were there before; without data in the offline pass."""

    @abstractmethod
    def scores(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Take new rows k, v (h, r, w); shares of q·kᵀ, (h, n, L), over all rows."""

    @abstractmethod
    def weighted(self, p: Tensor) -> Tensor:
        """Shares of p·v, (h, n, L) → (h, n, w)."""


class FreshCache(Cache):
    """Rows are kept as shares and opened anew at each product."""

    def clear(self) -> None:
        """See `Cache`."""
        self._rows = {False: self._none("cpu"), True: self._none("meta")}  # by offline_pass

    def _none(self, device: str) -> tuple[Tensor, Tensor]:
        none = torch.empty((self._heads, 0, self._width), dtype=torch.int64, device=device)
        return none, none

    def fill(self, k: Tensor, v: Tensor) -> None:
        """See `Cache`."""
        keys, values = self._rows[self._ctx.offline_pass]
        self._rows[self._ctx.offline_pass] = torch.cat([keys, k], 1), torch.cat([values, v], 1)

    def scores(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """See `Cache`."""
        self.fill(k, v)
        return matmul(self._ctx, q, self._rows[self._ctx.offline_pass][0])

    def weighted(self, p: Tensor) -> Tensor:
        """See `Cache`."""
        values = self._rows[self._ctx.offline_pass][1]
        return matmul(self._ctx, p, values.transpose(1, 2))


class _Rows:
    """Rows (h, L, w) that were opened once. mask: this role's half of b (all of b at P2)."""

    def __init__(self, heads: int, width: int) -> None:
        self.mask = self.opened = torch.empty((heads, 0, width), dtype=torch.int64)

    def factors(self, ctx: Context) -> tuple[Tensor, Tensor]:
        """What e and a are multiplied by."""
        return (self.mask + self.opened if ctx.leads else self.mask), self.opened


class OpenedCache(Cache):
    """Rows are opened once, under masks of their own."""

    def clear(self) -> None:
        """See `Cache`."""
        self._keys = _Rows(self._heads, self._width)
        self._values = _Rows(self._heads, self._width)

    def fill(self, k: Tensor, v: Tensor) -> None:
        """See `Cache`. One hop online."""
        if masks := self._new_masks(k):
            self._append(self._ctx.open(k - masks[0], v - masks[1]))

    def scores(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """See `Cache`."""
        masks, triple = self._new_masks(k), self._triple(q, self._keys, transposed=False)
        if not triple:
            return self._ctx.without_data(*q.shape[:2], self._keys.mask.shape[1])
        e, *opened = self._ctx.open(q - triple[0], k - masks[0], v - masks[1])
        self._append(opened)
        return self._product(e, triple, self._keys, transposed=False)

    def weighted(self, p: Tensor) -> Tensor:
        """See `Cache`."""
        triple = self._triple(p, self._values, transposed=True)
        if not triple:
            return self._ctx.without_data(*p.shape[:2], self._width)
        (e,) = self._ctx.open(p - triple[0])
        return self._product(e, triple, self._values, transposed=True)

    def _new_masks(self, k: Tensor) -> Parts:
        """b of new rows of k and of v; the offline pass appends them to the cached ones'."""

        def make() -> Parts:
            ctx, name = self._ctx, self._ctx.fresh_name()
            roles = (P0, P1) if ctx.role == P2 else (ctx.role,)
            streams = [ctx.stream(role, name) for role in roles]
            masks = []
            for rows in (self._keys, self._values):
                mask = sum((s.int64(*k.shape) for s in streams), torch.zeros((), dtype=torch.int64))
                rows.mask = torch.cat([rows.mask, mask], dim=1)
                masks.append(mask)
            return tuple(masks)

        return self._ctx.correlated(make, ("rows", tuple(k.shape)))

    def _append(self, opened: Iterable[Tensor]) -> None:
        for rows, new in zip((self._keys, self._values), opened, strict=True):
            rows.opened = torch.cat([rows.opened, new], dim=1)

    def _triple(self, x: Tensor, rows: _Rows, transposed: bool) -> Parts:
        """a and c = a·bᵀ, or a·b if `transposed`, for the rows as they are after the offline pass."""
        length = rows.mask.shape[1]
        shape = (*x.shape[:2], self._width if transposed else length)

        def complete(zero: Parts, one: Parts) -> Parts:
            return (ring.matmul_t(zero[0] + one[0], _turned(rows.mask, transposed)) - zero[1],)

        masks = tuple(x.shape)
        return self._ctx.deal("rows product", (masks, shape), (masks,), complete)

    def _product(self, e: Tensor, triple: Parts, rows: _Rows, transposed: bool) -> Tensor:
        a, c = triple
        with_e, with_a = (_turned(t, transposed) for t in rows.factors(self._ctx))
        return ring.matmul_t(e, with_e) + ring.matmul_t(a, with_a) + c


def _turned(rows: Tensor, transposed: bool) -> Tensor:
    return rows.transpose(1, 2) if transposed else rows


def cache(ctx: Context, heads: int, width: int) -> Cache:
    """An empty cache of the kind that the settings ask for."""
    kind = OpenedCache if ctx.settings.reuse_weight_masks else FreshCache
    return kind(ctx, heads, width)
