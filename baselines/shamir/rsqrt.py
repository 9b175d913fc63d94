"""x^(-1/2) by a polynomial from the highest set bit.

    u = x·2^(−2−j) ∈ [0.25, 0.5) for the highest set bit j of x's residue (F = 2^(T−2−j), u = x·F·2^-T)
    p = 4.14285016 − 15.47994394u + 38.4714796u² − 49.86605845u³ + 26.02942339u⁴
    x^(-1/2) = p·C_j,    C_j = 2^((f−2−j)/2), a second table over the same bit (times a public factor)

p is right to a relative 8.3e-5, and below 4.15 even where x is below the window: `Scales` keep p·C_j below
2^59. 1 `highest_bit`, then truncated products u; u²; u³ and u⁴; a truncation
p; the result: 22 hops. Source: SPU.
"""

from dataclasses import dataclass

from baselines.shamir.context import Context
from baselines.shamir.cost import Cost
from baselines.shamir.group import Group
from baselines.shamir.highest_bit import Window, highest, highest_cost
from baselines.shamir.share import FRAC, Share, combine, concatenate
from baselines.shamir.truncate import (
    multiply_truncate,
    multiply_truncate_cost,
    truncate,
    truncate_cost,
)
from protocols.shares.approximations import RSQRT

WORKING_FRAC = 30
COEFFICIENT_FRAC = 26


@dataclass(frozen=True)
class Scales:
    """Fractional bits of p, of the constants C_j and of the result."""

    polynomial: int = 28
    constant: int = 24
    result: int = FRAC


GENERAL = Window(low=FRAC - 10, high=3 * FRAC)  # 2^-10 ≤ x < 2^32 at FRAC


async def rsqrt(
    ctx: Context,
    x: Share,
    window: Window = GENERAL,
    factor: float = 1.0,
    scales: Scales = Scales(),
) -> Share:
    """factor·x^(-1/2) elementwise for x > 0; `window` bounds x's residue."""
    flat, top = x.flat(), max(window.high, WORKING_FRAC) + 1
    powers = [1 << (top - 2 - j) for j in window.positions]
    constants = [
        round(factor * 2.0 ** ((x.frac - 2 - j) / 2 + scales.constant)) for j in window.positions
    ]
    scale, constant = await highest(ctx, flat, window, [powers, constants])
    scale, constant = Share(scale.value, top - x.frac), Share(constant.value, scales.constant)
    u = await multiply_truncate(ctx, flat, scale, top - WORKING_FRAC)
    p = await _polynomial(ctx, u, scales.polynomial)
    bits = scales.polynomial + scales.constant - scales.result
    return (await multiply_truncate(ctx, p, constant, bits)).reshape(*x.shape)


async def _polynomial(ctx: Context, u: Share, frac: int) -> Share:
    """p(u) at `frac`, for u at WORKING_FRAC."""
    u2 = await multiply_truncate(ctx, u, u, WORKING_FRAC)
    both = await multiply_truncate(ctx, concatenate([u, u2]), concatenate([u2, u2]), WORKING_FRAC)
    u3, u4 = both.split((u.count, u.count))
    constant, *factors = (round(c * 2**COEFFICIENT_FRAC) for c in RSQRT)
    total = combine([u, u2, u3, u4], factors, COEFFICIENT_FRAC).plus(constant << WORKING_FRAC)
    return await truncate(ctx, total.term(), WORKING_FRAC + COEFFICIENT_FRAC - frac)


def rsqrt_cost(group: Group, elements: int, window: Window = GENERAL) -> Cost:
    """See the module."""
    once, twice = (multiply_truncate_cost(group, k * elements) for k in (1, 2))
    start = highest_cost(group, elements, window)
    return start + once + once + twice + truncate_cost(elements) + once
