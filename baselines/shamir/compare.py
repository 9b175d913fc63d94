"""Comparison of a shared number with public thresholds: [x < T_k].

v = x − T_k modulo p is negative, above p/2, exactly where 2v modulo p is odd. With a random r whose 61
bits b_i are shared, one opening serves all thresholds:

    c = 2x + r, opened          c_k = c − 2·T_k         2v = c_k − r + w·p,    w = [c_k < r]
    [x < T_k] = lowest bit of 2v = e ⊕ w = e + (1 − 2e)·w,    e = (lowest bit of c_k) ⊕ b_0

w is the carry of a comparison from the top: with γ_i the bits of c_k, a bit is in favour,
g_i = b_i·(1 − γ_i), or equal, p_i = 1 − γ_i − b_i + 2·γ_i·b_i, and neighbouring ranges (upper u, lower l)
become one,

    g = g_u + p_u·g_l           p = p_u·p_l

The 30 lowest pairs need the products b_(2k+1)·b_(2k) alone, which do not depend on x: they are made
offline. So is b_60·b_0, with which the topmost bit's g and p are multiplied by 1 − 2e at once. That
leaves five levels over 31 ranges, 29 + 15 + 7 + 3 + 1 = 55 products.

| what is opened | elements for x | hops |
|---|---|---|
| c | 1 | 2 |
| products of each level, under doubles | 55 for each threshold | 10 |

With t ≥ n/2 both factors of a level are opened instead, p_u once for both of its products: 85.

Nobody learns anything: r hides c. Needs |x − T_k| < 2^59. Sources: Nishide, Ohta (PKC 2007) for the lowest
bit; the carry tree as in Catrina, de Hoogh (SCN 2010); its 85 products in Liu, Xie, Yu (USENIX
Security 2024) are 30 and 55.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from baselines.shamir.context import BITS, PAIRS, Context
from baselines.shamir.cost import Cost, opening
from baselines.shamir.group import Group
from baselines.shamir.multiply import multiply, multiply_cost
from baselines.shamir.openings import opened
from baselines.shamir.share import Share
from protocols.arith import field61
from protocols.arith.field61 import P, Words

_P = np.int64(P)
_WEIGHTS = np.array([[1 << i for i in range(BITS)]], np.int64)


async def below(ctx: Context, x: Share, thresholds: Sequence[int] = (0,)) -> Share:
    """[x < T] as 0 or 1 at scale 0, for each of `thresholds` at x's scale: (thresholds, elements)."""
    mask = ctx.take_comparisons(x.count)
    bits, pairs = mask[:BITS], mask[BITS:]
    r = bits[0] if bits.is_meta else field61.combine(_WEIGHTS, bits)[0]
    (c,) = await opened(field61.add(field61.mul(x.value.reshape(-1), 2), r))
    doubled = torch.tensor([2 * t % P for t in thresholds])
    c = field61.sub(c, doubled[:, None])
    g, p, even = _leaves(c, bits, pairs)
    while g.shape[0] > 1:
        g, p = await _level(ctx, g, p)
    return Share(field61.add(even, g[0]), 0)


async def _level(ctx: Context, g: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """Ranges (N, …) to ⌈N/2⌉; p has no row for the lowest range, which never needs it."""
    half = g.shape[0] // 2
    upper, lower = p[::2][:half], field61.concatenate([g[::2][:half], p[1::2][: half - 1]])
    made = (await multiply(ctx, Share(upper, 0), Share(lower, 0), "carry")).value
    rest = [t[2 * half - i :] for i, t in enumerate((g, p))]  # the topmost range of an odd number
    return (
        field61.concatenate([field61.add(g[1::2], made[:half]), rest[0]]),
        field61.concatenate([made[half:], rest[1]]),
    )


def _leaves(c: Tensor, bits: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """g (31, thresholds, n) of pairs of bits and of the topmost, p of all but the lowest (30, …), and e."""
    if c.is_meta:
        g, p = (
            torch.empty(k, *c.shape, dtype=torch.int64, device="meta") for k in (PAIRS, PAIRS - 1)
        )
        return g, p, c
    g, even = torch.empty(PAIRS, *c.shape, dtype=torch.int64), torch.empty_like(c)
    p = torch.empty_like(g)
    _fill(*(t.numpy() for t in (c, bits.contiguous(), pairs.contiguous(), g, p, even)))
    return g, p[1:], even


@njit(cache=True, nogil=True, inline="always")
def _minus(a: Any, b: Any) -> Any:
    less = a - b
    return less + (_P & (less >> 63))


@njit(cache=True, nogil=True, inline="always")
def _plus(a: Any, b: Any) -> Any:
    return _minus(a, _P - b)


@njit(cache=True, nogil=True)
def _fill(c: Words, bits: Words, pairs: Words, g: Words, p: Words, even: Words) -> None:
    one = np.int64(1)
    for t in range(c.shape[0]):
        for i in range(c.shape[1]):
            word = c[t, i]
            for k in range(30):
                upper, lower, both = bits[2 * k + 1, i], bits[2 * k, i], pairs[k, i]
                if word >> (2 * k + 1) & 1:
                    high, g_u = both, np.int64(0)
                    p_low, p_none = both, _minus(upper, both)
                else:
                    high, g_u = _minus(lower, both), upper
                    p_low = high
                    p_none = _minus(_minus(one, upper), high)
                if word >> (2 * k) & 1:
                    g[k, t, i], p[k, t, i] = g_u, p_low
                else:
                    g[k, t, i], p[k, t, i] = _plus(g_u, high), p_none
            first, last = bits[0, i], bits[60, i]
            signed = _minus(last, _plus(pairs[30, i], pairs[30, i]))  # (1 − 2·b_0)·b_60
            sign = _minus(one, _plus(first, first))
            even[t, i] = first
            if word & 1:
                signed, sign = _minus(0, signed), _minus(0, sign)
                even[t, i] = _minus(one, first)
            if word >> 60 & 1:
                g[30, t, i], p[30, t, i] = 0, signed
            else:
                g[30, t, i], p[30, t, i] = signed, _minus(sign, signed)


def below_cost(group: Group, elements: int, thresholds: int = 1) -> Cost:
    """See the module."""
    total, ranges = opening(elements) + Cost(comparisons=elements), PAIRS
    while ranges > 1:
        half = ranges // 2
        made = (2 * half - 1) * elements * thresholds
        total += multiply_cost(group, half * elements * thresholds, made, made)
        ranges -= half
    return total
