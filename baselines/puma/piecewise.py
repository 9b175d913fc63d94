"""Piecewise polynomials of degree 6: GeLU and SiLU.

With thresholds T_0 < T_1 < … and pieces p_0 (below T_0), p_1, …, p_m (from T_(m-1) on), bits b_k = [x < T_k]:

    y = p_m(x) + Σ_k b_k·(p_k(x) − p_(k+1)(x))

Powers x², then x³ and x⁴, then x⁶ are truncated products. Comparisons run beside them. The polynomials
are sums with public coefficients, of 28 fractional bits because x⁶ is up to 729 where it counts; they
are not truncated on their own but with the selection, which is one sum of products. Where x lies
outside all curved pieces the powers may wrap, but their bits add up to exactly nothing: the result
is exact there. Needs |x| < 2^15; error against the polynomials in exact arithmetic below 3 units.

m comparisons (288·m bits), m conversions (64·m), 4 products (128 each), 1 selection (128): GeLU with m = 3
1696 bits an element from each role, 12 hops. Each step's messages stand in its own file; no role
learns anything. Source: Puma (arXiv 2307.12533), section 4 (GeLU).
"""

import torch

from baselines.puma.bit_injection import to_ring, weighted_cost
from baselines.puma.compare import sign, sign_cost
from baselines.puma.context import Context
from baselines.puma.cost import Cost
from baselines.puma.multiply import product
from baselines.puma.round_scheduler import together
from baselines.puma.share import FRAC, ULP, Share, combine, concatenate
from baselines.puma.truncate import multiply_truncate, truncate, truncate_cost
from protocols.shares.approximations import Piecewise, Polynomial

COEFFICIENT_FRAC = 28
_POWERS = (1, 2, 3, 4, 6)


async def piecewise(ctx: Context, x: Share, function: Piecewise) -> Share:
    """function(x) elementwise, at FRAC; x at FRAC."""
    flat = x.flat()
    powers, below = await together(_powers(ctx, flat), _below(ctx, flat, function.bounds))
    last = _polynomial(ctx, powers, _fixed(function.pieces[-1]))
    total = last.term()
    for k, bit in enumerate(below):
        here, above = _fixed(function.pieces[k]), _fixed(function.pieces[k + 1])
        step = {power: here[power] - above[power] for power in here}
        total = total + product(bit, _polynomial(ctx, powers, step))
    return (await truncate(ctx, total, COEFFICIENT_FRAC)).reshape(*x.shape)


async def _powers(ctx: Context, x: Share) -> list[Share]:
    """x, x², x³, x⁴, x⁶."""
    x2 = await multiply_truncate(ctx, x, x, FRAC)
    x3_x4 = await multiply_truncate(ctx, concatenate([x, x2]), concatenate([x2, x2]), FRAC)
    count = x.first.numel()
    x3, x4 = x3_x4.each(lambda part: part[:count]), x3_x4.each(lambda part: part[count:])
    return [x, x2, x3, x4, await multiply_truncate(ctx, x2, x4, FRAC)]


async def _below(ctx: Context, x: Share, bounds: tuple[float, ...]) -> list[Share]:
    """[x < bound] for each bound, as integers at scale 0."""
    distances = [ctx.plus(x, -round(bound / ULP)) for bound in bounds]
    bits = await to_ring(ctx, await sign(ctx, concatenate(distances)))
    rows = bits.reshape(len(bounds), -1)
    return [Share(a, b, 0) for a, b in zip(rows.first, rows.second, strict=True)]


def _fixed(piece: Polynomial) -> dict[int, int]:
    return {power: round(piece.get(power, 0.0) * 2**COEFFICIENT_FRAC) for power in (0, *_POWERS)}


def _polynomial(ctx: Context, powers: list[Share], factors: dict[int, int]) -> Share:
    used = [i for i, power in enumerate(_POWERS) if factors[power]]
    if not used:
        zero = torch.zeros_like(powers[0].first)
        total = Share(zero, zero, FRAC + COEFFICIENT_FRAC)
    else:
        coefficients = [factors[_POWERS[i]] for i in used]
        total = combine([powers[i] for i in used], coefficients, COEFFICIENT_FRAC)
    return ctx.plus(total, factors[0] << FRAC)


def piecewise_cost(elements: int, function: Piecewise) -> Cost:
    """See the module."""
    bits = elements * len(function.bounds)
    powers = truncate_cost(elements) + truncate_cost(2 * elements) + truncate_cost(elements)
    return (powers | (sign_cost(bits) + weighted_cost(bits))) + truncate_cost(elements)
