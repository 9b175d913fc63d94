"""LayerNorm and RMSNorm of the rows by the inverse square root.

    μ = Σ x / d (LayerNorm; 0 for RMSNorm)          S = Σ (x − μ)² + d·ε
    y = ((x − μ)·g)·(√d·S^(-1/2)) + b

μ is truncated twice, to 22 bits for x − μ and to 16 for S, whose 32 bits are kept. √d is a public factor of
the inverse square root's constants. Products with the gains g, P0's secret, run beside the inverse square
root. The numbers must stay where all products are below 2^59:

| what | bound | why |
|---|---|---|
| μ (LayerNorm) | 2^8 | Σ x·(1/d) has 51 bits, 35 of 1/d: μ is off by less than d·2^-28 |
| x − μ | 2^13 | its square is a term of S |
| σ | from 2^-8; d·σ² < 2^26 | S has 32 bits; its highest is looked for up to 2^58 |
| (x − μ)·g | 2^21 | 38 bits |
| y before b | 2^13 | 46 bits |

Below σ = 2^-9 the inverse grows to about twice what it is there: y is too small, but nothing wraps.

An element takes 2 truncated products (1 without gains); a row adds the mean, the inverse square root
and the reduction of S. 28 hops for LayerNorm, 26 for RMSNorm. Source: Puma (arXiv 2307.12533), section 4.
"""

from dataclasses import dataclass

from baselines.shamir.context import Context
from baselines.shamir.cost import NOTHING, Cost
from baselines.shamir.group import Group
from baselines.shamir.highest_bit import Window
from baselines.shamir.multiply import product, product_cost, reduce, reduce_cost
from baselines.shamir.openings import together
from baselines.shamir.rsqrt import Scales, rsqrt, rsqrt_cost
from baselines.shamir.share import FRAC, Share
from baselines.shamir.truncate import (
    multiply_truncate,
    multiply_truncate_cost,
    truncate,
    truncate_cost,
)

CENTRED_FRAC = 22
INVERSE_FRAC = 24
DIVISOR_FRAC = 35
HIGHEST = 58
_SCALES = Scales(polynomial=22, constant=26, result=INVERSE_FRAC)


@dataclass(frozen=True)
class Affine:
    """Shared gains (d,) and biases (d,) or None, at FRAC."""

    gain: Share
    bias: Share | None


async def norm(
    ctx: Context, x: Share, eps: float, centre: bool = True, affine: Affine | None = None
) -> Share:
    """x (rows, d) at FRAC → the same; LayerNorm, or RMSNorm where `centre` is false."""
    d = x.shape[1]
    fine, coarse = x.raised(CENTRED_FRAC), x
    if centre:
        mean, rough = await _mean(ctx, x)
        fine, coarse = fine - mean, coarse - rough
    scaled, inverse = await together(
        _gained(ctx, fine, affine), _inverse(ctx, coarse, round(d * eps * 2.0 ** (2 * FRAC)))
    )
    y = await multiply_truncate(ctx, scaled, inverse, CENTRED_FRAC + INVERSE_FRAC - FRAC)
    return y if affine is None or affine.bias is None else y + affine.bias


async def _mean(ctx: Context, x: Share) -> tuple[Share, Share]:
    """Of the rows, (rows, 1), at CENTRED_FRAC and at FRAC."""
    divisor = round(2**DIVISOR_FRAC / x.shape[1])
    total = x.total().times(divisor, DIVISOR_FRAC).term()
    return await together(
        truncate(ctx, total, total.frac - CENTRED_FRAC), truncate(ctx, total, DIVISOR_FRAC)
    )


async def _gained(ctx: Context, x: Share, affine: Affine | None) -> Share:
    return x if affine is None else await multiply_truncate(ctx, x, affine.gain, FRAC)


async def _inverse(ctx: Context, x: Share, eps: int) -> Share:
    """√d·S^(-1/2), (rows, 1) at INVERSE_FRAC. eps: d·ε at scale 2·FRAC."""
    d = x.shape[1]
    total = await reduce(ctx, (await product(ctx, x, x)).total().plus(eps))
    return await rsqrt(ctx, total, _window(d), d**0.5, _SCALES)


def _window(d: int) -> Window:
    """S of d elements at 2·FRAC bits, for inverse standard deviations up to 2^9."""
    return Window(FRAC - 2 + (d - 1).bit_length(), HIGHEST)


def norm_cost(group: Group, rows: int, d: int, centre: bool = True, affine: bool = True) -> Cost:
    """See the module."""
    size = rows * d
    mean = truncate_cost(rows) | truncate_cost(rows) if centre else NOTHING
    inverse = product_cost(group, size) + reduce_cost(group, rows)
    inverse += rsqrt_cost(group, rows, _window(d))
    gained = multiply_truncate_cost(group, size, d) if affine else NOTHING
    return mean + (gained | inverse) + multiply_truncate_cost(group, size, rows)
