"""Maximum, and its index, by a tournament: half of the values meet the other half at each level.

    max(a, b) = b + [a − b ≥ 0]·(a − b)                   DReLU and select: 2 hops a level
    index     = j + [a − b ≥ 0]·(i − j)                   with it; at the first level i, j are public

A row of n values takes n − 1 comparisons in ⌈log2 n⌉ levels; where a level has an odd number of values,
the last waits. Indices are masked by as many bits as they need; the last one's mask P1 knows.

| phase | from | to | what | payload | hop |
|---|---|---|---|---|---|
| offline (argmax) | P2 | P1 | the mask of the index | ⌈(1 + ⌈log2 n⌉)/8⌉ | with the keys |
| online | P0, P1 | each other | masked bits, then values and indices | `costs` | 2·⌈log2 n⌉ |

Each learns masked bits, values and indices. Source: SIGMA (ePrint 2023/1269), section 5.
"""

import torch
from torch import Tensor

from baselines.fss.context import Context, gate
from baselines.fss.drelu import drelu, scaled, select
from baselines.fss.input_masks import revealed


@gate("maximum")
def maximum(ctx: Context, x: Tensor, width: int) -> Tensor:
    """The masked maxima of the rows mod 2^width, (..., n) → (..., 1)."""
    while x.shape[-1] > 1:
        first, second, rest = _paired(x)
        larger = drelu(ctx, first - second, width)
        won = ctx.open(select(ctx, larger, first - second, width), width)
        x = torch.cat([second + won, rest], dim=-1)
    return x


@gate("argmax")
def argmax(ctx: Context, x: Tensor) -> Tensor | None:
    """The index of the largest of x (n,) at P1, int64 of no dimension; None elsewhere."""
    n, width = x.shape[-1], index_bits(x.shape[-1])
    numbers = torch.arange(n)
    index = ctx.public(numbers)
    while x.shape[-1] > 1:
        first, second, rest = _paired(x)
        i, j, waiting = _paired(index)
        larger = drelu(ctx, first - second, ctx.bits)
        won = select(ctx, larger, first - second, ctx.bits)
        if x.shape[-1] == n:
            known = _paired(numbers)
            moved = scaled(ctx, larger, known[0] - known[1], width)
        else:
            moved = select(ctx, larger, i - j, width)
        won, moved = ctx.open_all((won, ctx.bits), (moved, width))
        x, index = torch.cat([second + won, rest], -1), torch.cat([j + moved, waiting], -1)
    return revealed(ctx, index.reshape(()), width)


def index_bits(n: int) -> int:
    """Bits of an index below n, and its sign."""
    return 1 + (n - 1).bit_length()


def _paired(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The first half of the last axis, the second, and what is left over of an odd number."""
    half = x.shape[-1] // 2
    return x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
