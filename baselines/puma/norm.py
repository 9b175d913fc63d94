"""LayerNorm and RMSNorm of the rows by the inverse square root.

    μ = Σ x / d (LayerNorm; 0 for RMSNorm)          S = Σ (x − μ)² + d·ε
    y = ((x − μ)·g)·(√d·S^(-1/2)) + b

μ is truncated twice, to 26 bits for x − μ and to 18 for S, whose 36 bits are kept: its highest bit may be
anywhere below 2^62, so d·σ² < 2^26. √d is a public factor of the inverse square root's constants.
Products with the gains g, P0's secret, run beside the inverse square root. Error against the formula
in exact arithmetic below 4 units for standard deviations from 2^-8 to 2^6 and |μ| < 2^8.

An element costs 128 bits for each of 2 products (1 without gains) from each role; a row adds the mean,
the inverse square root and 64 bits for S. 31 hops for LayerNorm, 29 for RMSNorm.
Source: Puma (arXiv 2307.12533), section 4.
"""

from dataclasses import dataclass

from baselines.puma.context import Context
from baselines.puma.cost import NOTHING, Cost
from baselines.puma.highest_bit import Window
from baselines.puma.multiply import reshare, reshare_cost, square_sum
from baselines.puma.round_scheduler import together
from baselines.puma.rsqrt import Scales, rsqrt, rsqrt_cost
from baselines.puma.share import FRAC, Share
from baselines.puma.truncate import multiply_truncate, truncate, truncate_cost

CENTRED_FRAC = 26
INVERSE_FRAC = 27
DIVISOR_FRAC = 36
_SCALES = Scales(polynomial=24, constant=26, result=INVERSE_FRAC)


@dataclass(frozen=True)
class Affine:
    """Shared gains (d,) and biases (d,) or None, at FRAC."""

    gain: Share
    bias: Share | None


async def norm(
    ctx: Context, x: Share, eps: float, centre: bool = True, affine: Affine | None = None
) -> Share:
    """x (rows, d) at FRAC → the same; LayerNorm, or RMSNorm where `centre` is false. |μ| < 2^8."""
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
    total = x.each(lambda part: part.sum(1, keepdim=True)).times(divisor, DIVISOR_FRAC).term()
    return await together(
        truncate(ctx, total, total.frac - CENTRED_FRAC), truncate(ctx, total, DIVISOR_FRAC)
    )


async def _gained(ctx: Context, x: Share, affine: Affine | None) -> Share:
    return x if affine is None else await multiply_truncate(ctx, x, affine.gain, FRAC)


async def _inverse(ctx: Context, x: Share, eps: int) -> Share:
    """√d·S^(-1/2), (rows, 1) at INVERSE_FRAC. eps: d·ε at scale 2·FRAC."""
    d = x.shape[1]
    total = await reshare(ctx, ctx.add(square_sum(x), eps))
    inverse = await rsqrt(ctx, total, _window(d), d**0.5, _SCALES)
    return inverse.reshape(-1, 1)


def _window(d: int) -> Window:
    """S of d elements at 2·FRAC bits, for inverse standard deviations up to 2^9."""
    return Window(FRAC - 2 + (d - 1).bit_length(), 62)


def norm_cost(rows: int, d: int, centre: bool = True, affine: bool = True) -> Cost:
    """See the module."""
    mean = truncate_cost(rows) | truncate_cost(rows) if centre else NOTHING
    inverse = reshare_cost(rows) + rsqrt_cost(rows, _window(d))
    gained = truncate_cost(rows * d) if affine else NOTHING
    return mean + (gained | inverse) + truncate_cost(rows * d)
