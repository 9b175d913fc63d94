"""Softmax of the rows: tournament, clipped exponential, one reciprocal a row.

    m = max x        e = negExp(x − m)        r = 1 / Σ e        p = e·r

e keeps 26 fractional bits, so that the errors of a long row's many small entries do not add up; Σ e is
between 1 and the row's length n, which bounds where its highest bit can be. Public masks are added to x
before: an entry 2^12 below the others is exactly 0.

A row of n takes 14·⌈log2 n⌉ + 38 hops. Source: Puma (arXiv 2307.12533), section 4.
"""

from baselines.shamir.context import Context
from baselines.shamir.cost import Cost
from baselines.shamir.exponential import WORKING_FRAC, neg_exp, neg_exp_cost
from baselines.shamir.group import Group
from baselines.shamir.highest_bit import Window
from baselines.shamir.maximum import row_maximum, row_maximum_cost
from baselines.shamir.reciprocal import reciprocal, reciprocal_cost
from baselines.shamir.share import FRAC, Share
from baselines.shamir.truncate import multiply_truncate, multiply_truncate_cost

RECIPROCAL_FRAC = 30


async def softmax(ctx: Context, x: Share) -> Share:
    """x (rows, n) at FRAC → the same shape and scale."""
    with ctx.step("maximum"):
        largest = await row_maximum(ctx, x)
    with ctx.step("exponential"):
        e = await neg_exp(ctx, x - largest, WORKING_FRAC)
    with ctx.step("reciprocal"):
        r = await reciprocal(ctx, e.total(), _window(x.shape[1]), RECIPROCAL_FRAC)
    with ctx.step("product"):
        return await multiply_truncate(ctx, e, r, WORKING_FRAC + RECIPROCAL_FRAC - FRAC)


def _window(n: int) -> Window:
    """A sum of n values up to 1, one of which is 1, at WORKING_FRAC."""
    return Window(WORKING_FRAC - 1, WORKING_FRAC + n.bit_length())


def softmax_cost(group: Group, rows: int, n: int) -> Cost:
    """See the module."""
    size = rows * n
    divide = reciprocal_cost(group, rows, _window(n)) + multiply_truncate_cost(group, size, rows)
    return row_maximum_cost(group, rows, n) + neg_exp_cost(group, size) + divide
