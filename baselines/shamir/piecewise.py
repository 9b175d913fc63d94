"""Piecewise polynomials of degree 6: GeLU and SiLU.

With thresholds T_0 < T_1 < … and pieces p_0 (below T_0), p_1, …, p_m (from T_(m−1) on), bits b_k = [x < T_k]:

    y = p_m(x) + Σ_k b_k·(p_k(x) − p_(k+1)(x))

Powers x², then x³ and x⁴, then x⁶ are truncated products. All comparisons are one (`compare.below`) and
run beside them. The polynomials are sums with public coefficients of 28 fractional bits; the selection is
a sum of products, truncated once. Where x lies outside all curved pieces the powers may wrap, but their
bits add up to exactly nothing: the result is exact there. Needs |x| < 2^15.

4 truncated products, 1 comparison mask with 55·m products, 1 truncation an element; 14 hops. Nobody learns
anything. Source: Puma (arXiv 2307.12533), section 4 (GeLU).
"""

from itertools import pairwise
from math import ceil

from baselines.shamir.compare import below, below_cost
from baselines.shamir.context import Context
from baselines.shamir.cost import Cost
from baselines.shamir.group import Group
from baselines.shamir.multiply import product, product_cost
from baselines.shamir.openings import together
from baselines.shamir.share import FRAC, ULP, Share, Term, combine, concatenate, stack
from baselines.shamir.truncate import (
    multiply_truncate,
    multiply_truncate_cost,
    truncate,
    truncate_cost,
)
from protocols.arith import field61
from protocols.shares.approximations import Piecewise, Polynomial

COEFFICIENT_FRAC = 28
_POWERS = (1, 2, 3, 4, 6)


async def piecewise(ctx: Context, x: Share, function: Piecewise) -> Share:
    """function(x) elementwise, at FRAC; x at FRAC."""
    flat = x.flat()
    thresholds = [ceil(bound / ULP) for bound in function.bounds]  # x < bound, of x at FRAC
    powers, bits = await together(_powers(ctx, flat), below(ctx, flat, thresholds))
    fixed = [_fixed(piece) for piece in function.pieces]
    steps = [
        _polynomial(powers, {power: here[power] - above[power] for power in here})
        for here, above in pairwise(fixed)
    ]
    chosen = await product(ctx, stack(steps), bits)
    total = (
        Term(field61.total(chosen.value, 0), chosen.frac) + _polynomial(powers, fixed[-1]).term()
    )
    return (await truncate(ctx, total, COEFFICIENT_FRAC)).reshape(*x.shape)


async def _powers(ctx: Context, x: Share) -> list[Share]:
    """x, x², x³, x⁴, x⁶."""
    x2 = await multiply_truncate(ctx, x, x, FRAC)
    both = await multiply_truncate(ctx, concatenate([x, x2]), concatenate([x2, x2]), FRAC)
    x3, x4 = both.split((x.count, x.count))
    return [x, x2, x3, x4, await multiply_truncate(ctx, x2, x4, FRAC)]


def _fixed(piece: Polynomial) -> dict[int, int]:
    return {power: round(piece.get(power, 0.0) * 2**COEFFICIENT_FRAC) for power in (0, *_POWERS)}


def _polynomial(powers: list[Share], factors: dict[int, int]) -> Share:
    """At FRAC + COEFFICIENT_FRAC."""
    total = combine(powers, [factors[power] for power in _POWERS], COEFFICIENT_FRAC)
    return total.plus(factors[0] << FRAC)


def piecewise_cost(group: Group, elements: int, function: Piecewise) -> Cost:
    """See the module."""
    m = len(function.bounds)
    one, two = (multiply_truncate_cost(group, k * elements) for k in (1, 2))
    selection = product_cost(group, m * elements) + truncate_cost(elements)
    return (one + two + one | below_cost(group, elements, m)) + selection
