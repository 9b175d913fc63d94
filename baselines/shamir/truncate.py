"""Probabilistic truncation by s bits, fused with the degree reduction of a product: one opening.

For |x| < 2^59, a random r of 61 bits, shared with the degree that is opened, and ⌊r/2^s⌋ and r's highest
bit h, shared with degree t:

    a = x + 2^59 < 2^60             c = a + r mod p, opened
    w = h·(1 − c's highest bit)     whether a + r wrapped: a + r ≥ p only if r ≥ 2^60, and then c < 2^60
    y = ⌊c/2^s⌋ − ⌊r/2^s⌋ + w·2^(61−s) − 2^(59−s)

is local. Since a = c − r + w·(2^61 − 1), y differs from x/2^s by at most one unit, by 0 on average (within
2^-s). No truncation fails.

| what is opened | elements | hops |
|---|---|---|
| a + r | 1 | 2 |

All parties learn c, which r hides: within 2^-61 of uniform. Source: Liu, Xie, Yu (USENIX Security 2024);
the masked opening and its wrap as in Dalskov, Escudero, Keller (ePrint 2020/1330).
"""

import numpy as np
import torch
from numba import njit
from torch import Tensor

from baselines.shamir.context import BITS, Context
from baselines.shamir.cost import Cost, opening
from baselines.shamir.group import Group
from baselines.shamir.multiply import product, product_cost
from baselines.shamir.openings import opened
from baselines.shamir.share import Share, Term
from protocols.arith import field61
from protocols.arith.field61 import P, Words

LIMIT_BITS = 59  # magnitudes are below 2^59
_P = np.int64(P)


async def truncate(ctx: Context, x: Term, bits: int) -> Share:
    """x at `bits` fewer fractional bits, 1 ≤ bits ≤ 59; |x| < 2^(59 − x.frac)."""
    if not 1 <= bits <= LIMIT_BITS:
        raise ValueError(f"cannot truncate by {bits} bits")
    mask, low, top = ctx.take_truncations(x.value.numel(), bits)
    masked = field61.add(x.plus(1 << LIMIT_BITS).value.reshape(-1), mask)
    (c,) = await opened(masked)
    return Share(_unmasked(bits, c, low, top).reshape(x.value.shape), x.frac - bits)


def _unmasked(bits: int, c: Tensor, low: Tensor, top: Tensor) -> Tensor:
    if c.is_meta:
        return c
    out = torch.empty_like(c)
    _unmask(bits, c.numpy(), low.numpy(), top.numpy(), out.numpy())
    return out


@njit(cache=True, nogil=True)
def _unmask(s: int, c: Words, low: Words, top: Words, out: Words) -> None:
    """⌊c/2^s⌋ − low + [c < 2^60]·2^(61−s)·top − 2^(59−s) modulo p."""
    shift = BITS - s
    centre = np.int64(1) << (LIMIT_BITS - s)
    for i in range(c.size):
        y = (c[i] >> s) - centre - low[i]  # above −2^62
        if c[i] >> 60 == 0:
            # 2^shift·top modulo p is a rotation of its 61 bits.
            y += ((top[i] << shift) & _P) | (top[i] >> s)
        y = (y & _P) + (y >> 61)
        out[i] = y + (_P & (y >> 63))
        if out[i] >= _P:
            out[i] -= _P


async def multiply_truncate(ctx: Context, x: Share, y: Share, bits: int) -> Share:
    """x·y at `bits` fewer fractional bits than the sum of their scales."""
    return await truncate(ctx, await product(ctx, x, y), bits)


def truncate_cost(elements: int) -> Cost:
    """One opening, one mask an element."""
    return opening(elements) + Cost(truncations=elements)


def multiply_truncate_cost(group: Group, elements: int, other: int | None = None) -> Cost:
    """Of a product with `other` elements on one side, as many if None."""
    return product_cost(group, elements, other) + truncate_cost(elements)
