"""negExp: 0 below −14, else (1 + x/2^5)^(2^5), for x ≤ 0.

t = 1 + x/2^5 needs no truncation: at 26 fractional bits it is 2^26 + x·2^5 for x with 16. Five truncated
squarings keep 26 bits but for the last; beside them runs the comparison x < −14, whose bit b gives the
result s·(1 − b), exactly 0 where x is clipped, whatever the squarings make of it there.

5 truncated products, 1 comparison, 1 product an element; 14 hops. Source: Puma (arXiv 2307.12533),
section 4 (softmax).
"""

from baselines.shamir.compare import below, below_cost
from baselines.shamir.context import Context
from baselines.shamir.cost import Cost
from baselines.shamir.group import Group
from baselines.shamir.multiply import multiply, multiply_cost
from baselines.shamir.openings import together
from baselines.shamir.share import FRAC, ULP, Share
from baselines.shamir.truncate import multiply_truncate, multiply_truncate_cost
from protocols.shares.approximations import EXP_CLIP, EXP_SQUARINGS

WORKING_FRAC = 26


async def neg_exp(ctx: Context, x: Share, frac: int = FRAC) -> Share:
    """exp(x) elementwise for x ≤ 0, x at FRAC; the result at `frac` ≤ WORKING_FRAC."""
    flat = x.flat()
    power, kept = await together(_power(ctx, flat, frac), _not_clipped(ctx, flat))
    return (await multiply(ctx, power, kept)).reshape(*x.shape)


async def _power(ctx: Context, x: Share, frac: int) -> Share:
    scaled = x.times(1 << (WORKING_FRAC - FRAC - EXP_SQUARINGS), WORKING_FRAC - FRAC)
    s = scaled.plus(1 << WORKING_FRAC)
    for _ in range(EXP_SQUARINGS - 1):
        s = await multiply_truncate(ctx, s, s, WORKING_FRAC)
    return await multiply_truncate(ctx, s, s, 2 * WORKING_FRAC - frac)


async def _not_clipped(ctx: Context, x: Share) -> Share:
    """1 where x ≥ −14, else 0, at scale 0."""
    return (-(await below(ctx, x, [round(EXP_CLIP / ULP)]))).plus(1).flat()


def neg_exp_cost(group: Group, elements: int) -> Cost:
    """See the module."""
    power = multiply_truncate_cost(group, elements) * EXP_SQUARINGS
    return (power | below_cost(group, elements)) + multiply_cost(group, elements)
