"""Cheaper functions in the place of Puma's: MPCFormer's and the friendly ones (`approx`).

    quad       0.125·x² + 0.25·x + 0.5, one truncated product            128 bits, 2 hops
    ReLU       x − x·[x < 0]                                             416 bits, 10 hops
    2Quad      g(s)/Σ g(s), g(s) = (s + 5)²                              g 128 bits, 2 hops
    2ReLU      g(s)/Σ g(s), g(s) = ReLU(s)                               g 416 bits, 10 hops
    centred    g∘(x − mean) + b, without a division by the deviation     128 bits, 4 hops

A row of weights takes one reciprocal besides, and a product for each entry (128 bits, 2 hops). Scores that
a token may not see are public positions: their g is multiplied by 0. The sum of g must be in 2^-8 … n·2^10;
below it the weights add up to less than 1, and the friendly 10^-6 is below the resolution of the sum.

Each step's messages stand in its own file; no role learns anything. Sources: MPCFormer (arXiv 2211.01452);
"privacy-computing friendly" transformers (arXiv 2305.18396).
"""

from torch import Tensor

from baselines.puma.bit_injection import times_bit, times_bit_cost
from baselines.puma.compare import sign, sign_cost
from baselines.puma.context import Context
from baselines.puma.cost import NOTHING, Cost
from baselines.puma.highest_bit import Window
from baselines.puma.multiply import product
from baselines.puma.norm import DIVISOR_FRAC, Affine
from baselines.puma.reciprocal import reciprocal, reciprocal_cost
from baselines.puma.share import FRAC, Share, Term
from baselines.puma.softmax import RECIPROCAL_FRAC
from baselines.puma.truncate import multiply_truncate, truncate, truncate_cost

SUM_FRAC = 26  # of g and its sums
_QUAD_FRAC = 2 * FRAC + 3  # 0.125 = 2^-3


async def quad(ctx: Context, x: Share) -> Share:
    """x at FRAC → the same shape and scale."""
    flat = x.flat()
    square = Term(product(flat, flat).value, _QUAD_FRAC)
    linear = flat.times(1 << (_QUAD_FRAC - FRAC - 2), _QUAD_FRAC - FRAC)
    total = ctx.add(square + linear.term(), 1 << (_QUAD_FRAC - 1))
    return (await truncate(ctx, total, _QUAD_FRAC - FRAC)).reshape(*x.shape)


async def relu(ctx: Context, x: Share) -> Share:
    """x → the same shape and scale; exact."""
    flat = x.flat()
    return (flat - await times_bit(ctx, flat, await sign(ctx, flat))).reshape(*x.shape)


async def two_quad(ctx: Context, x: Share, visible: Tensor | None) -> Share:
    """Weights of the rows (rows, n) at FRAC; visible: bool, broadcasts to x, or None."""
    shifted = ctx.plus(x, 5 << FRAC)
    g = await multiply_truncate(ctx, shifted, shifted, 2 * FRAC - SUM_FRAC)
    return await _weights(ctx, g, visible)


async def two_relu(ctx: Context, x: Share, visible: Tensor | None) -> Share:
    """The same by ReLU."""
    return await _weights(ctx, (await relu(ctx, x)).raised(SUM_FRAC), visible)


async def _weights(ctx: Context, g: Share, visible: Tensor | None) -> Share:
    """g/Σ g of rows at SUM_FRAC, where it counts."""
    if visible is not None:
        g = g.each(lambda part: part * visible)
    total = g.each(lambda part: part.sum(1, keepdim=True))
    with ctx.step("reciprocal"):
        r = await reciprocal(ctx, total, _window(g.shape[1]), RECIPROCAL_FRAC, signed=False)
    with ctx.step("product"):
        return await multiply_truncate(ctx, g, r, SUM_FRAC + RECIPROCAL_FRAC - FRAC)


def _window(n: int) -> Window:
    high = SUM_FRAC + 10 + n.bit_length()
    return Window(SUM_FRAC - 8, high, high)


async def centred(
    ctx: Context, x: Share, eps: float, centre: bool = True, affine: Affine | None = None
) -> Share:
    """x (rows, d) at FRAC → the same; of RMSNorm the gains alone. eps has no part in it. |mean| < 2^8."""
    if centre:
        total = x.each(lambda part: part.sum(1, keepdim=True))
        divided = total.times(round(2**DIVISOR_FRAC / x.shape[1]), DIVISOR_FRAC)
        x = x - await truncate(ctx, divided.term(), DIVISOR_FRAC)
    if affine is None:
        return x
    y = await multiply_truncate(ctx, x, affine.gain, FRAC)
    return y if affine.bias is None else y + affine.bias


def quad_cost(elements: int) -> Cost:
    """See the module."""
    return truncate_cost(elements)


def relu_cost(elements: int) -> Cost:
    """See the module."""
    return sign_cost(elements) + times_bit_cost(elements)


def two_quad_cost(rows: int, n: int) -> Cost:
    """See the module."""
    return truncate_cost(rows * n) + _weights_cost(rows, n)


def two_relu_cost(rows: int, n: int) -> Cost:
    """See the module."""
    return relu_cost(rows * n) + _weights_cost(rows, n)


def _weights_cost(rows: int, n: int) -> Cost:
    return reciprocal_cost(rows, _window(n), signed=False) + truncate_cost(rows * n)


def centred_cost(rows: int, d: int, centre: bool = True, affine: bool = True) -> Cost:
    """See the module."""
    mean = truncate_cost(rows) if centre else NOTHING
    return mean + (truncate_cost(rows * d) if affine else NOTHING)
