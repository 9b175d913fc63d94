"""negExp: 0 below −14, else (1 + x/2^5)^(2^5), for x ≤ 0.

t = 1 + x/2^5 needs no truncation: at 26 fractional bits it is 2^26 + x·2^3 for x with 18. Five truncated
squarings keep 26 bits but for the last; beside them runs the comparison x < −14, whose bit b is
converted, and the result is s·(1 − b), exactly 0 where x is clipped. The 26 bits keep the growing
error of the squarings (31 units of 2^-26) below an eighth of a unit of 2^-18.

1 comparison (288 bits), 1 conversion (64), 5 products (128 each), 1 re-sharing (64): 1056 bits an
element from each role, 11 hops. Source: Puma (arXiv 2307.12533), section 4 (softmax).
"""

from baselines.puma.bit_injection import to_ring, weighted_cost
from baselines.puma.compare import sign, sign_cost
from baselines.puma.context import Context
from baselines.puma.cost import Cost
from baselines.puma.multiply import multiply, reshare_cost
from baselines.puma.round_scheduler import together
from baselines.puma.share import FRAC, ULP, Share
from baselines.puma.truncate import multiply_truncate, truncate_cost
from protocols.shares.approximations import EXP_CLIP, EXP_SQUARINGS

WORKING_FRAC = 26


async def neg_exp(ctx: Context, x: Share, frac: int = FRAC) -> Share:
    """exp(x) elementwise for x ≤ 0, x at FRAC; the result at `frac` ≤ WORKING_FRAC.

    Error against the formula in exact arithmetic: below 1 + 31·2^(frac − 26) units of 2^-frac.
    """
    flat = x.flat()
    power, kept = await together(_power(ctx, flat, frac), _not_clipped(ctx, flat))
    return (await multiply(ctx, power, kept)).reshape(*x.shape)


async def _power(ctx: Context, x: Share, frac: int) -> Share:
    scaled = x.first * (1 << (WORKING_FRAC - FRAC - EXP_SQUARINGS))
    second = x.second * (1 << (WORKING_FRAC - FRAC - EXP_SQUARINGS))
    s = ctx.plus(Share(scaled, second, WORKING_FRAC), 1 << WORKING_FRAC)
    for _ in range(EXP_SQUARINGS - 1):
        s = await multiply_truncate(ctx, s, s, WORKING_FRAC)
    return await multiply_truncate(ctx, s, s, 2 * WORKING_FRAC - frac)


async def _not_clipped(ctx: Context, x: Share) -> Share:
    """1 where x ≥ −14, else 0, at scale 0."""
    clipped = await to_ring(ctx, await sign(ctx, ctx.plus(x, -round(EXP_CLIP / ULP))))
    return ctx.plus(-clipped, 1)


def neg_exp_cost(elements: int) -> Cost:
    """See the module."""
    clip = sign_cost(elements) + weighted_cost(elements)
    return (truncate_cost(elements) * EXP_SQUARINGS | clip) + reshare_cost(elements)
