"""The one-hot of a shared index, from one that the dealer made: 64 bits a party, 1 hop.

r is a uniform word. The dealer shares r and the one-hot row of s = r mod V. The parties open δ = i − r mod
2^64. Read as an unsigned number it is i − r + 2^64 unless r ≤ i, so with j = δ − 2^64 mod V

    i = s + j mod V            row of i [v] = row of s [v − j mod V]

and turning the shares of the row by j places is all that is left to do.

| phase | from | to | what | payload | hop |
|---|---|---|---|---|---|
| offline | P2 | P1 | its share of the row of s | 8·n·V | 1 |
| online | P0, P1 | each other | i − r | 8·n | 1 |

Each learns δ, which r hides perfectly. Failure: V·2^-64 an index; never where V is a power of two. Source:
SHAFT (Kei, Chow, NDSS 2025), whose code draws r below V and opens i − r over the integers.
"""

import torch
from torch import Tensor

from baselines.additive.context import Context, Parts

_RING = 1 << 64


def one_hot(ctx: Context, index: Tensor, size: int) -> Tensor:
    """Shares of indices (n,) at scale 0, below `size` → rows (n, size), integers."""
    dealt = _deal(ctx, index, size)
    if not dealt:
        return ctx.without_data(*index.shape, size)
    r, row = dealt
    (delta,) = ctx.open(index - r)
    places = (torch.arange(size) - (unsigned_rest(delta, size) - _RING % size)[:, None]) % size
    return row.gather(1, places)


def _deal(ctx: Context, index: Tensor, size: int) -> Parts:
    """r, and the row of r mod size."""
    shape = tuple(index.shape)
    rows = (*shape, size)

    def complete(zero: Parts, one: Parts) -> Parts:
        own = -zero[1]
        at = unsigned_rest(zero[0] + one[0], size)
        own[torch.arange(len(at)), at] += 1
        return (own,)

    return ctx.deal(f"one-hot {size}", (shape, rows), (shape,), complete)


def unsigned_rest(x: Tensor, size: int) -> Tensor:
    """x mod size, where int64 x is read as an unsigned number."""
    return (x % size + torch.where(x < 0, _RING % size, 0)) % size
