"""And of shared bits: the multiplication of `multiply` with ⊕ for + and & for ·.

    t_i = x_i & (y_i ⊕ y_(i+1)) ⊕ x_(i+1) & y_i ⊕ ζ_i           ζ_0 ⊕ ζ_1 ⊕ ζ_2 = 0

| from | to | what | bits | hop |
|---|---|---|---|---|
| P_i | P_(i-1) | t_i | one a bit | 1 |

P_(i-1) learns t_i, which F(κ_(i+1)) in ζ_i hides. Words are int64 (64 bits side by side) or uint8 (one bit
each, so that eight travel for one). Source: Araki et al. (CCS 2016).
"""

from baselines.puma.context import Context
from baselines.puma.cost import Cost, rotation
from baselines.puma.share import Bits


async def both(ctx: Context, x: Bits, y: Bits) -> Bits:
    """x & y for vectors of one type and length."""
    own = ctx.draw_zero_bits(x.first.numel(), x.first.dtype)
    own ^= x.first & (y.first ^ y.second)
    own ^= x.second & y.first
    return Bits(own, await ctx.rotate(own))


def both_cost(size: int) -> Cost:
    """`size` bytes of words from each role, 1 hop."""
    return rotation(size)
