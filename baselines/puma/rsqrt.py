"""x^(-1/2) by a polynomial from the highest set bit.

    u = x·2^(−2−j') ∈ [0.25, 0.5) for x's highest set bit 2^j' (`normalize`: F = 2^(T−2−j), u = x·F·2^-T)
    p = 4.14285016 − 15.47994394u + 38.4714796u² − 49.86605845u³ + 26.02942339u⁴
    x^(-1/2) = p·C_j,    C_j = 2^((f−2−j)/2), a second table over the same bit (times a public factor)

p is right to a relative 8.3e-5. Truncated products: u; u²; u³ and u⁴; p; the result: 6·128 bits an
element from each role, 10 hops, after 1 normalisation with two tables. Source: SPU.
"""

from dataclasses import dataclass

from baselines.puma.context import Context
from baselines.puma.cost import Cost
from baselines.puma.highest_bit import Window, normalize, normalize_cost
from baselines.puma.multiply import product
from baselines.puma.share import FRAC, Share, Term, combine, concatenate
from baselines.puma.truncate import multiply_truncate, truncate, truncate_cost
from protocols.shares.approximations import RSQRT

WORKING_FRAC = 30
COEFFICIENT_FRAC = 26


@dataclass(frozen=True)
class Scales:
    """Fractional bits of p, of the constants C_j and of the result."""

    polynomial: int = 28
    constant: int = 24
    result: int = FRAC


GENERAL = Window(low=FRAC - 10, high=3 * FRAC)  # 2^-10 ≤ x < 2^36 at FRAC


async def rsqrt(
    ctx: Context,
    x: Share,
    window: Window = GENERAL,
    factor: float = 1.0,
    scales: Scales = Scales(),
) -> Share:
    """factor·x^(-1/2) elementwise for x > 0; `window` bounds x's ring value.

    Error against the formula in exact arithmetic: below 4 units at FRAC for x in GENERAL. Below
    2^low the result stays below 4.2·C_low; from 2^high on, and for x < 0, it is 0.
    """
    flat, top = x.flat(), max(window.high, WORKING_FRAC) + 1
    powers = [1 << (top - 2 - j) for j in window.positions]
    constants = [
        round(factor * 2.0 ** ((x.frac - 2 - j) / 2 + scales.constant)) for j in window.positions
    ]
    scale, constant = await normalize(ctx, flat, window, [powers, constants])
    u = await truncate(ctx, Term(product(flat, scale).value, top), top - WORKING_FRAC)
    p = await _polynomial(ctx, u, scales.polynomial)
    whole = Term(product(p, constant).value, scales.polynomial + scales.constant)
    return (await truncate(ctx, whole, whole.frac - scales.result)).reshape(*x.shape)


async def _polynomial(ctx: Context, u: Share, frac: int) -> Share:
    """p(u) at `frac`, for u at WORKING_FRAC."""
    u2 = await multiply_truncate(ctx, u, u, WORKING_FRAC)
    u3_u4 = await multiply_truncate(ctx, concatenate([u, u2]), concatenate([u2, u2]), WORKING_FRAC)
    count = u.first.numel()
    u3, u4 = u3_u4.each(lambda part: part[:count]), u3_u4.each(lambda part: part[count:])
    constant, *factors = (round(c * 2**COEFFICIENT_FRAC) for c in RSQRT)
    total = combine([u, u2, u3, u4], factors, COEFFICIENT_FRAC)
    p = ctx.plus(total, constant << WORKING_FRAC).term()
    return await truncate(ctx, p, WORKING_FRAC + COEFFICIENT_FRAC - frac)


def rsqrt_cost(elements: int, window: Window = GENERAL) -> Cost:
    """See the module."""
    once = truncate_cost(elements)
    powers = once + truncate_cost(2 * elements)
    return normalize_cost(elements, window, tables=2) + once + powers + once + once
