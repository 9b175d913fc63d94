"""1/x for x > 0 by Goldschmidt's iteration from the highest set bit.

    F = 2^(T−1−j) for the highest set bit j of x's residue (`highest_bit`)
    c = x·F·2^-T ∈ [0.5, 1)             w = 2.9142 − 2c             e = 1 − c·w
    y = w·(1 + e)·(1 + e²)              1/x = y·F·2^(f−T)           x with f fractional bits

e is at most 0.0858, so two steps leave a relative error of e⁴ ≤ 5.5e-5. Working values have 29
fractional bits. 1 `highest_bit`, truncated products c; c·w; y and e² together; y; the result: 22 hops.
Source: Goldschmidt division, as in SPU and Catrina, Saxena (FC 2010).
"""

from baselines.shamir.context import Context
from baselines.shamir.cost import Cost
from baselines.shamir.group import Group
from baselines.shamir.highest_bit import Window, highest, highest_cost
from baselines.shamir.openings import together
from baselines.shamir.share import FRAC, Share
from baselines.shamir.truncate import multiply_truncate, multiply_truncate_cost
from protocols.shares.approximations import RECIPROCAL_START

WORKING_FRAC = 29
RESULT_FRAC = 28  # of y before F scales it
GENERAL = Window(low=FRAC - 9, high=2 * FRAC + 1)  # 2^-8 ≤ x < 2^17 at FRAC


async def reciprocal(ctx: Context, x: Share, window: Window = GENERAL, frac: int = FRAC) -> Share:
    """1/x elementwise at `frac`. `window` bounds x's residue."""
    flat, top = x.flat(), max(window.high, WORKING_FRAC + 1)
    (scale,) = await highest(ctx, flat, window, [[1 << (top - 1 - j) for j in window.positions]])
    scale = Share(scale.value, top - x.frac)
    c = await multiply_truncate(ctx, flat, scale, top - WORKING_FRAC)
    y = await _invert(ctx, c)
    bits = RESULT_FRAC + scale.frac - frac
    return (await multiply_truncate(ctx, y, scale, bits)).reshape(*x.shape)


async def _invert(ctx: Context, c: Share) -> Share:
    """1/c at RESULT_FRAC, for c in [0.5, 1] at WORKING_FRAC."""
    one = 1 << WORKING_FRAC
    w = c.times(-2).plus(round(RECIPROCAL_START * one))
    e = (-(await multiply_truncate(ctx, c, w, WORKING_FRAC))).plus(one)
    y, e2 = await together(
        multiply_truncate(ctx, w, e.plus(one), WORKING_FRAC),
        multiply_truncate(ctx, e, e, WORKING_FRAC),
    )
    return await multiply_truncate(ctx, y, e2.plus(one), 2 * WORKING_FRAC - RESULT_FRAC)


def reciprocal_cost(group: Group, elements: int, window: Window = GENERAL) -> Cost:
    """See the module."""
    once = multiply_truncate_cost(group, elements)
    return highest_cost(group, elements, window) + once * 2 + (once | once) + once * 2
