"""Sharing what one role knows, and telling P1 what all share.

The owner P_j draws x_j ← κ_j and x_(j+1) ← κ_(j+1) with the role that shares each key, and sends the third
part to the two roles that hold it:

| from | to | what | bytes | hop |
|---|---|---|---|---|
| P_j | P_(j+1), P_(j+2) | x_(j+2) = x − x_j − x_(j+1) (bits: ⊕) | 8 an element each | 1 |

The third part is uniform to both: x_j is unknown to P_(j+1), x_(j+1) to P_(j+2).

| from | to | what | bytes | hop |
|---|---|---|---|---|
| P0 | P1 | x_0, to reveal x to P1 | 8 an element | 1 |

Source: Araki et al. (CCS 2016), section 2.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from baselines.puma.context import Context
from baselines.puma.cost import Cost, one_round
from baselines.puma.round_scheduler import Round
from baselines.puma.share import Bits, Share
from protocols.party import P0, P1, ROLES


async def give(
    ctx: Context, owner: int, x: Tensor | None, shape: tuple[int, ...], frac: int
) -> Share:
    """A share of the fixed-point tensor x, int64, that role number `owner` passes."""
    first, second = await _give(ctx, owner, x, shape, torch.sub)
    return Share(first, second, frac)


async def give_bits(ctx: Context, owner: int, x: Tensor | None, shape: tuple[int, ...]) -> Bits:
    """The same for the bits of int64 words."""
    return Bits(*await _give(ctx, owner, x, shape, torch.bitwise_xor))


async def _give(
    ctx: Context,
    owner: int,
    x: Tensor | None,
    shape: tuple[int, ...],
    less: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    third = (owner + 2) % 3
    if ctx.index == owner:
        if x is None:
            raise ValueError(f"{ctx.role} must pass what it shares")
        parts = [ctx.draw(owner, *shape), ctx.draw((owner + 1) % 3, *shape)]
        rest = less(less(x, parts[0]), parts[1])
        await Round({ROLES[(owner + 1) % 3]: (rest,), ROLES[third]: (rest,)})
        return parts[0], parts[1]
    own = ctx.draw(owner if ctx.index == third else ctx.index, *shape)
    (rest,) = (await Round({}, {ROLES[owner]: 1}))[ROLES[owner]]
    return (rest, own) if ctx.index == third else (own, rest)


async def reveal(ctx: Context, x: Share) -> Tensor | None:
    """The ring value of x at P1, None at the others."""
    if ctx.index == 0:
        await Round({P1: (x.first.contiguous(),)})
        return None
    if ctx.index == 2:
        await Round()
        return None
    (missing,) = (await Round({}, {P0: 1}))[P0]
    return missing + x.first + x.second


def give_cost(owner: int, elements: int) -> Cost:
    """64 bits an element to each of the two others, 1 hop."""
    source = ROLES[owner]
    return one_round({(source, to): 8 * elements for to in ROLES if to != source})


def reveal_cost(elements: int) -> Cost:
    """64 bits an element from P0 to P1, 1 hop."""
    return one_round({(P0, P1): 8 * elements})
