"""Maximum, and its index, by a tournament: half of the values meet the other half at each level.

    max(a, b) = b + relu(a − b)                             1856 bits, 9 hops a level
    index     = j + (1 − [a < b])·(i − j)                   at the first level i, j are public

A row of n values takes n − 1 comparisons in ⌈log2 n⌉ levels; where a level has an odd number of values,
the last waits. The index is opened to P1 alone by P0's share, 8 bytes. Ties go to the later value.

| phase | from | to | what | payload | hop |
|---|---|---|---|---|---|
| online | P0, P1 | each other | `compare.relu` of each level's pairs | 232·(n − 1) | 9·⌈log2 n⌉ |
| online (argmax) | P0, P1 | each other | i − j, after the first level | 8·(n − 1 − ⌊n/2⌋) | with it |
| online (argmax) | P0 | P1 | its share of the index | 8 | last |

Source: the tree reduction that CrypTen's `log_reduction` begins with, carried through to the end.
"""

import torch
from torch import Tensor

from baselines.additive.beaver import multiply
from baselines.additive.compare import less_than_zero, relu
from baselines.additive.context import Context
from protocols.party import P0, P1


def maximum(ctx: Context, x: Tensor) -> Tensor:
    """Shares of the maxima of the rows, (..., n) → (..., 1)."""
    while x.shape[-1] > 1:
        first, second, rest = _paired(x)
        x = torch.cat([second + relu(ctx, first - second), rest], dim=-1)
    return x


def argmax(ctx: Context, x: Tensor) -> Tensor:
    """Shares of the index of the largest of x (n,), int64 of no dimension."""
    n = x.shape[-1]
    numbers = torch.arange(n, device=x.device)
    index, public = numbers if ctx.leads else torch.zeros_like(numbers), True
    while x.shape[-1] > 1:
        first, second, rest = _paired(x)
        i, j, waiting = _paired(index)
        keep = ctx.public(-less_than_zero(ctx, first - second), 1)
        if public:
            won = multiply(ctx, first - second, keep)
            known = _paired(numbers)
            moved = keep * (known[0] - known[1])
        else:
            won, moved = multiply(ctx, torch.stack([first - second, i - j]), keep)
        x = torch.cat([second + won, rest], dim=-1)
        index, public = torch.cat([j + moved, waiting], dim=-1), False
    return index.reshape(())


def reveal_to_user(ctx: Context, x: Tensor) -> Tensor | None:
    """x itself at P1, who receives P0's share; None at P0."""
    if ctx.offline_pass:
        return None
    if ctx.role == P0:
        ctx.party.send(P1, x)
        return None
    (theirs,) = ctx.party.recv(P0)
    return x + theirs


def _paired(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The first half of the last axis, the second, and what is left over of an odd number."""
    half = x.shape[-1] // 2
    return x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
