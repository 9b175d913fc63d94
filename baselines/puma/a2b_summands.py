"""A shared number as two private summands whose bits are shared: the input of both adders.

    x = m + n,    m = x_0 + x_1 known to P0,    n = x_2 known to P1 and P2

n needs no message: its bit shares are (0, 0, n). m is re-shared under a fresh sharing of zero
ζ_0 ⊕ ζ_1 ⊕ ζ_2 = 0: M_0 = m ⊕ ζ_0, M_1 = ζ_1, M_2 = ζ_2. Then one and gives the bits where both summands
are 1:

    p = m ⊕ n (local)      g = m & n = (M_0 ⊕ M_1 ⊕ M_2) & n, terms 0, M_1 & n, (M_2 ⊕ M_0) & n

| from | to | what | bits an element | hop |
|---|---|---|---|---|
| P_i | P_(i-1) | M_i | 64 | 1 |
| P_i | P_(i-1) | g's term ⊕ a fresh ζ'_i | 64 | 2 |

Each message is hidden from its receiver by the key it does not hold. Source: ABY3 (ePrint
2018/403), section 5.3, as SPU arranges it.
"""

from collections.abc import Callable

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from baselines.puma.context import Context
from baselines.puma.cost import Cost, rotation
from baselines.puma.share import Bits, Share


async def summands(
    ctx: Context, x: Share, order: Callable[[Tensor], Tensor] = torch.clone
) -> tuple[Bits, Bits]:
    """p and g, words of one int64 an element; `order` rearranges the bits of both summands."""
    known, count = _known(ctx, x.flat(), order), x.first.numel()
    own = ctx.draw_zero_bits(count, torch.int64)
    if ctx.index == 0:
        own ^= known
    p = Bits(own, await ctx.rotate(own))
    own = ctx.draw_zero_bits(count, torch.int64)
    if ctx.index == 1:
        own ^= p.first & known
        p = Bits(p.first, p.second ^ known)
    if ctx.index == 2:
        own ^= (p.first ^ p.second) & known
        p = Bits(p.first ^ known, p.second)
    return p, Bits(own, await ctx.rotate(own))


def _known(ctx: Context, x: Share, order: Callable[[Tensor], Tensor]) -> Tensor:
    """The summand that this role knows."""
    return order((x.first + x.second, x.second, x.first)[ctx.index])


def summands_cost(elements: int) -> Cost:
    """128 bits an element from each role, 2 hops."""
    return rotation(8 * elements) + rotation(8 * elements)


async def to_bits(ctx: Context, x: Share) -> Bits:
    """A2B: the 64 bits of each element's ring value, by a Kogge-Stone adder; a vector.

    Six levels k = 1, 2, 4, …, 32: g ⊕= p & (g << k), p &= p << k, 128 bits each; 896 bits and 8 hops
    in all. Then x = m ⊕ n ⊕ (g << 1).
    """
    p, g = await summands(ctx, x)
    total, count = p, x.first.numel()
    for level in range(6):
        zero = ctx.draw_zero_bits(2 * count, torch.int64).view(2, count)
        arrays = [t.numpy() for t in (p.first, p.second, g.first, g.second, zero)]
        _prefix(1 << level, *arrays)
        received = await ctx.rotate(zero)
        p, g = Bits(zero[0], received[0]), Bits(zero[1], received[1])
    return total ^ g.each(lambda part: part << 1)


@njit(cache=True, nogil=True)
def _prefix(
    k: int,
    p0: NDArray[np.int64],
    p1: NDArray[np.int64],
    g0: NDArray[np.int64],
    g1: NDArray[np.int64],
    out: NDArray[np.int64],
) -> None:
    """out, which holds sharings of zero, becomes this role's terms of the new p and g."""
    for i in range(p0.size):
        a0, a1, b0, b1 = p0[i] << k, p1[i] << k, g0[i] << k, g1[i] << k
        out[0, i] ^= (p0[i] & (a0 ^ a1)) ^ (p1[i] & a0)
        out[1, i] ^= (p0[i] & (b0 ^ b1)) ^ (p1[i] & b0) ^ g0[i]


def to_bits_cost(elements: int) -> Cost:
    """2·64·6 + 128 bits an element from each role, 8 hops."""
    return summands_cost(elements) + rotation(16 * elements) * 6
