"""The highest set bit of a shared positive number, as a sum of public constants over its position.

The number's bits (`summands.to_bits`) are or-ed downwards, v ⊕= (v >> k) ⊕ v & (v >> k) for k = 1, 2, 4, …,
so that v has ones from the highest set bit down; v ⊕ (v >> 1) is that bit alone. Its positions low…high−1
are converted at once, weighted by tables: Σ_j table[j]·h_j (`inject.weighted`).

Below 2^low position low counts as set; from 2^high on no position is set and all sums are 0.

896 bits, 64 for each level, then 64·(high − low) from P0 and 64 for each table from P1 and P2; 10 hops and
one for each level. No role learns anything: see the files of the steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

from baselines.puma.a2b_summands import to_bits, to_bits_cost
from baselines.puma.bit_injection import weighted, weighted_cost
from baselines.puma.context import Context
from baselines.puma.cost import Cost, rotation
from baselines.puma.share import Bits, Share

SIGN = 63


@dataclass(frozen=True)
class Window:
    """Ring values from 2^low to 2^high are told apart; all are below 2^top."""

    low: int
    high: int
    top: int = SIGN

    @property
    def positions(self) -> range:
        """Of the highest set bit."""
        return range(self.low, self.high)

    @property
    def levels(self) -> int:
        """Doublings until position low has seen all above it."""
        return (self.top - self.low - 1).bit_length()


async def normalize(
    ctx: Context, x: Share, window: Window, tables: Sequence[Sequence[int]]
) -> list[Share]:
    """Σ_j table[j − low]·[bit j is the highest of x], at scale 0, a vector for each table; x > 0."""
    bits = await to_bits(ctx, x)
    top = await _highest(ctx, bits, window)
    return await weighted(ctx, top, window.positions, tables)


async def normalize_signed(
    ctx: Context, x: Share, window: Window, table: Sequence[int]
) -> tuple[Share, Share]:
    """Σ_j table[j − low]·[bit j is the highest of |x|], and 1 − 2·[x < 0], at scale 0.

    −x − 1 stands for |x| where x < 0: its bits are those of x flipped, so that no message is needed.
    """
    bits = await to_bits(ctx, x)
    negative = bits.each(lambda part: part >> SIGN)
    top = await _highest(ctx, bits ^ negative, window)
    word = top.each(lambda part: part & _mask(SIGN)) ^ negative.each(lambda part: part << SIGN)
    tables = ([*table, 0], [*[0] * len(table), -2])
    total, minus_two = await weighted(ctx, word, [*window.positions, SIGN], tables)
    return total, ctx.plus(minus_two, 1)


async def _highest(ctx: Context, bits: Bits, window: Window) -> Bits:
    count = bits.first.numel()
    for level in range(window.levels):
        own = ctx.draw_zero_bits(count, torch.int64)
        _spread_down(bits.first.numpy(), bits.second.numpy(), own.numpy(), 1 << level)
        bits = Bits(own, await ctx.rotate(own))
    floor = 1 << window.low
    bits = ctx.flip(bits.each(lambda part: part & ~floor), floor)
    return bits ^ bits.each(lambda part: (part >> 1) & _mask(SIGN))


@njit(cache=True, nogil=True)
def _spread_down(
    v0: NDArray[np.int64], v1: NDArray[np.int64], out: NDArray[np.int64], k: int
) -> None:
    """out, a sharing of zero, becomes this role's term of v | (v >> k)."""
    keep = (np.int64(1) << (64 - k)) - 1
    for i in range(v0.size):
        a0, a1 = (v0[i] >> k) & keep, (v1[i] >> k) & keep
        out[i] ^= v0[i] ^ a0 ^ (v0[i] & (a0 ^ a1)) ^ (v1[i] & a0)


def _mask(bits: int) -> int:
    return (1 << bits) - 1


def normalize_cost(elements: int, window: Window, tables: int = 1, signed: bool = False) -> Cost:
    """See the module; a sign is one more position and one more table."""
    down = rotation(8 * elements) * window.levels
    extra = 1 if signed else 0
    bits = len(window.positions) + extra
    return to_bits_cost(elements) + down + weighted_cost(elements, bits, tables + extra)
