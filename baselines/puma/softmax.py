"""Softmax of the rows: tournament, clipped exponential, one reciprocal a row.

    m = max x        e = negExp(x − m)        r = 1 / Σ e        p = e·r

e keeps 26 fractional bits, so that the errors of a long row's many small entries do not add up; Σ e is
between 1 and the row's length n, which bounds where its highest bit can be. Public masks are added
to x before: an entry 2^12 below the others is exactly 0.

Costs: the sum of the steps'. A row of n takes 10·⌈log2 n⌉ + 33 + ⌈log2 b⌉ hops, b the number of bits of n.
Source: Puma (arXiv 2307.12533), section 4.
"""

from baselines.puma.context import Context
from baselines.puma.cost import Cost
from baselines.puma.exponential import WORKING_FRAC, neg_exp, neg_exp_cost
from baselines.puma.highest_bit import Window
from baselines.puma.maximum import row_maximum, row_maximum_cost
from baselines.puma.reciprocal import reciprocal, reciprocal_cost
from baselines.puma.share import FRAC, Share
from baselines.puma.truncate import multiply_truncate, truncate_cost

RECIPROCAL_FRAC = 30


async def softmax(ctx: Context, x: Share) -> Share:
    """x (rows, n) at FRAC → the same shape and scale."""
    with ctx.step("maximum"):
        largest = await row_maximum(ctx, x)
    with ctx.step("exponential"):
        e = await neg_exp(ctx, x - largest, WORKING_FRAC)
    total = e.each(lambda part: part.sum(1, keepdim=True))
    with ctx.step("reciprocal"):
        r = await reciprocal(ctx, total, _window(x.shape[1]), RECIPROCAL_FRAC, signed=False)
    with ctx.step("product"):
        return await multiply_truncate(ctx, e, r, WORKING_FRAC + RECIPROCAL_FRAC - FRAC)


def _window(n: int) -> Window:
    """A sum of n values up to 1, one of which is 1, at WORKING_FRAC."""
    high = WORKING_FRAC + n.bit_length()
    return Window(WORKING_FRAC, high, high)


def softmax_cost(rows: int, n: int) -> Cost:
    """See the module."""
    size = rows * n
    divide = reciprocal_cost(rows, _window(n), signed=False) + truncate_cost(size)
    return row_maximum_cost(rows, n) + neg_exp_cost(size) + divide
