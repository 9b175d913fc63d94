"""The sign bit of a shared number, and comparisons: an adder that computes nothing but the last carry.

x = m + n with p and g from `summands`; sign = m_63 ⊕ n_63 ⊕ (carry out of bits 0…62). The carry is folded
in a tree: neighbouring ranges of bits (upper u, lower l) become one,

    g = g_u ⊕ (p_u & g_l)        p = p_u & p_l

so that 64 positions (bits 0…62, and one that never carries) take 6 levels of 32, 16, 8, 4, 2, 1 pairs.
Both summands' bits are put in bit-reversed order of position first, so that at every level the upper
ranges are the upper half of a word, the lower ranges its lower half.

| from | to | what | bits an element | hop |
|---|---|---|---|---|
| P_i | P_(i-1) | `summands` | 64, 64 | 1, 2 |
| P_i | P_(i-1) | terms of p and g, masked: 32 + 32, 16 + 16, 8 + 8 bits | 64, 32, 16 | 3, 4, 5 |
| P_i | P_(i-1) | terms of p and g, a byte each for 4, 2, 1 bits | 16, 16, 16 | 6, 7, 8 |

288 bits from each role, 8 hops: SPU's numbers, which round the last levels up to bytes as well. A receiver
learns nothing, as in `boolean`. Sources: ABY3 (ePrint 2018/403), section 5.3; the carry tree is that of
every parallel-prefix adder.
"""

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from baselines.puma.a2b_summands import summands, summands_cost
from baselines.puma.context import Context
from baselines.puma.cost import Cost, rotation
from baselines.puma.share import Bits, Share

# Type of a level's word, pairs it folds, and the offset of p in the word it comes from.
_LEVELS = (
    (torch.int32, 16, 32),
    (torch.int16, 8, 16),
    (torch.int16, 4, 8),
    (torch.int16, 2, 8),
    (torch.int16, 1, 8),
)


async def sign(ctx: Context, x: Share) -> Bits:
    """1 where x < 0, as one bit a uint8; a vector."""
    p, g = await summands(ctx, x, _reverse_positions)
    count = x.first.numel()
    own = ctx.draw_zero_bits(count, torch.int64)
    _fold_first(*(t.numpy() for t in (p.first, p.second, g.first, g.second, own)))
    state = Bits(own, await ctx.rotate(own))
    for dtype, pairs, offset in _LEVELS:
        own = ctx.draw_zero_bits(count, dtype)
        width = 8 * dtype.itemsize // 2
        _fold(pairs, offset, width, *map(_words, (state.first, state.second, own)))
        state = Bits(own, await ctx.rotate(own))
    return Bits(_last(p.first, state.first), _last(p.second, state.second))


async def less_than(ctx: Context, x: Share, y: Share) -> Bits:
    """1 where x < y, for |x − y| < 2^63 in the ring; a vector."""
    return await sign(ctx, x - y)


def sign_cost(elements: int) -> Cost:
    """288 bits an element from each role, 8 hops."""
    folds = [rotation(elements * size) for size in (8, 4, 2, 2, 2, 2)]
    return sum(folds, summands_cost(elements))


def _reverse_positions(word: Tensor) -> Tensor:
    """Bit 63 to position 0; bit i to the 6-bit reversal of i + 1."""
    out = torch.empty_like(word)
    _reverse(word.contiguous().view(-1).numpy().view(np.uint64), out.numpy().view(np.uint64))
    return out


@njit(cache=True, nogil=True)
def _reverse(word: NDArray[np.uint64], out: NDArray[np.uint64]) -> None:
    """Rotate left by one, then swap bits 0 and 5, 1 and 4, 2 and 3 of every position's index."""
    for i in range(word.size):
        x = (word[i] << np.uint64(1)) | (word[i] >> np.uint64(63))
        t = ((x >> np.uint64(31)) ^ x) & np.uint64(0x00000000AAAAAAAA)
        x ^= t ^ (t << np.uint64(31))
        t = ((x >> np.uint64(14)) ^ x) & np.uint64(0x0000CCCC0000CCCC)
        x ^= t ^ (t << np.uint64(14))
        t = ((x >> np.uint64(4)) ^ x) & np.uint64(0x00F000F000F000F0)
        out[i] = x ^ t ^ (t << np.uint64(4))


@njit(cache=True, nogil=True)
def _fold_first(
    p0: NDArray[np.int64],
    p1: NDArray[np.int64],
    g0: NDArray[np.int64],
    g1: NDArray[np.int64],
    out: NDArray[np.int64],
) -> None:
    """64 positions to 32: out, a sharing of zero, becomes the term of p << 32 | g.

    Position 0 holds the sign bits of the summands; it must neither make nor pass on a carry.
    """
    low, carries = np.int64(0xFFFFFFFF), np.int64(0xFFFFFFFE)
    for i in range(p0.size):
        u0, u1 = (p0[i] >> 32) & low, (p1[i] >> 32) & low
        u0, u1 = u0 | (u0 << 32), u1 | (u1 << 32)
        l0 = ((p0[i] & carries) << 32) | (g0[i] & carries)
        l1 = ((p1[i] & carries) << 32) | (g1[i] & carries)
        out[i] ^= (u0 & (l0 ^ l1)) ^ (u1 & l0) ^ ((g0[i] >> 32) & low)


@njit(cache=True, nogil=True)
def _fold(
    pairs: int,
    offset: int,
    width: int,
    s0: NDArray[np.uint64],
    s1: NDArray[np.uint64],
    out: NDArray[np.uint64],
) -> None:
    """2·pairs positions, p at `offset` of a word, to `pairs`, p at `width` of a word of `out`."""
    mask = (np.uint64(1) << np.uint64(pairs)) - np.uint64(1)
    n, at, to = np.uint64(pairs), np.uint64(offset), np.uint64(width)
    for i in range(s0.size):
        a0, a1 = np.uint64(s0[i]), np.uint64(s1[i])
        u0, u1 = (a0 >> (at + n)) & mask, (a1 >> (at + n)) & mask
        l0, l1 = (a0 >> at) & mask, (a1 >> at) & mask
        h0, h1 = a0 & mask, a1 & mask
        p = (u0 & (l0 ^ l1)) ^ (u1 & l0)
        g = (u0 & (h0 ^ h1)) ^ (u1 & h0) ^ ((a0 >> n) & mask)
        out[i] ^= (p << to) | g


def _words(tensor: Tensor) -> NDArray[np.uint64]:
    array = tensor.numpy()
    return array.view(f"u{array.itemsize}")


def _last(p: Tensor, state: Tensor) -> Tensor:
    """The sign bit: p of position 0, and the carry into it."""
    return ((p ^ state.to(torch.int64)) & 1).to(torch.uint8)
