"""1/x by Goldschmidt's iteration from the highest set bit.

    F = 2^(T−1−j) for the highest set bit j of |x|'s ring value, negative where x is (`normalize`)
    c = x·F·2^-T ∈ [0.5, 1)             w = 2.9142 − 2c             e = 1 − c·w
    y = w·(1 + e)·(1 + e²)              1/x = y·F·2^(f−T)           x with f fractional bits

e is at most 0.0858, so two steps leave a relative error of e⁴ ≤ 5.5e-5. Working values have 29
fractional bits. From 2^high on the result is 0; below 2^low it stays below 11.7·2^(f−low).

1 normalisation, a product of F and the sign (64 bits, 1 hop) where x may be negative, and truncated
products c; c·w; y and e² together; y; the result: 6·128 bits an element from each role, 10 hops.
Source: Goldschmidt division, as in SPU and Catrina, Saxena (FC 2010).
"""

from baselines.puma.context import Context
from baselines.puma.cost import Cost
from baselines.puma.highest_bit import Window, normalize, normalize_cost, normalize_signed
from baselines.puma.multiply import multiply, product, reshare_cost
from baselines.puma.round_scheduler import together
from baselines.puma.share import FRAC, Share, Term
from baselines.puma.truncate import multiply_truncate, truncate, truncate_cost
from protocols.shares.approximations import RECIPROCAL_START

WORKING_FRAC = 29
RESULT_FRAC = 28  # of y before F scales it
GENERAL = Window(low=FRAC - 9, high=2 * FRAC + 1)  # 2^-8 ≤ |x| < 2^19 at FRAC


async def reciprocal(
    ctx: Context, x: Share, window: Window = GENERAL, frac: int = FRAC, signed: bool = True
) -> Share:
    """1/x elementwise at `frac`. `window` bounds x's ring value; x > 0 unless `signed`.

    Error against the formula in exact arithmetic: below 3 units at FRAC for x in GENERAL.
    """
    flat, top = x.flat(), max(window.high, WORKING_FRAC + 1)
    table = [1 << (top - 1 - j) for j in window.positions]
    if signed:
        size, sign = await normalize_signed(ctx, flat, window, table)
        scale = await multiply(ctx, size, sign)
    else:
        (scale,) = await normalize(ctx, flat, window, [table])
    c = await truncate(ctx, Term(product(flat, scale).value, top), top - WORKING_FRAC)
    y = await _invert(ctx, c)
    result = Term(product(y, scale).value, top + RESULT_FRAC - x.frac)
    return (await truncate(ctx, result, result.frac - frac)).reshape(*x.shape)


async def _invert(ctx: Context, c: Share) -> Share:
    """1/c at RESULT_FRAC, for c in [0.5, 1] at WORKING_FRAC."""
    one = 1 << WORKING_FRAC
    w = ctx.plus(c.times(-2), round(RECIPROCAL_START * one))
    e = ctx.plus(-await multiply_truncate(ctx, c, w, WORKING_FRAC), one)
    y, e2 = await together(
        multiply_truncate(ctx, w, ctx.plus(e, one), WORKING_FRAC),
        multiply_truncate(ctx, e, e, WORKING_FRAC),
    )
    return await multiply_truncate(ctx, y, ctx.plus(e2, one), 2 * WORKING_FRAC - RESULT_FRAC)


def reciprocal_cost(elements: int, window: Window = GENERAL, signed: bool = True) -> Cost:
    """See the module."""
    once = truncate_cost(elements)
    start = normalize_cost(elements, window, 1, signed)
    if signed:
        start += reshare_cost(elements)
    return start + once * 2 + (once | once) + once * 2
