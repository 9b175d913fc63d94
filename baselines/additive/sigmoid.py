"""σ(x) = 1/(1 + e^−x), tanh, and what is made of them: GeLU and SiLU.

    l = [x < 0];  p = |x| = x·(1 − 2l);  d = 1 + e^−p in (1, 2]
    y = 1/d by three Newton steps from 0.75, the first of which is public: y1 = 1.5 − 0.5625·d
    σ(x) = y·(1 − l) + (1 − y)·l

1728 + 128 + 512 + 2·192 + 256 = 3008 bits a party, 8 + 1 + 8 + 4 + 1 = 22 hops (the original's last two
products travel one after the other: 23).

    tanh(x) = 2σ(2x) − 1                                    3008 bits, 22 hops
    gelu(x) = x·σ(2·√(2/π)·(x + 0.044715·x³))               + square, 2 products: 3328, 25 hops
    silu(x) = x·σ(x)                                        + product: 3136, 23 hops

Three steps from 0.75 leave an error of 2^-9 at x = 0 and less elsewhere (`approx`). Range: |x| ≤ 512 for
σ, so |x| ≤ 18 for GeLU. Scales: d with 24 fractional bits, y with 28. Failure (`wide`): about 2^-34 an
element. Messages and what is learnt: `compare`, `wide`, `beaver`. Source: CrypTen, `sigmoid`
("reciprocal"); GeLU by tanh as in Hendrycks, Gimpel (arXiv:1606.08415), since CrypTen's Taylor series of
erf diverges beyond 3.
"""

import math

import torch
from torch import Tensor

from baselines.additive.beaver import multiply
from baselines.additive.compare import less_than_zero
from baselines.additive.context import FRAC, Context
from baselines.additive.encoding import constant
from baselines.additive.exponential import exponential
from baselines.additive.product_truncation import product, quadratic
from baselines.additive.reciprocal import newton
from baselines.additive.truncate import truncate

IN_FRAC = 24
OUT_FRAC = 28
SHARED_STEPS = 2
CUBIC = 0.044715
SLOPE = 2 * math.sqrt(2 / math.pi)
_COEFFICIENT_BITS = 30


def wide_sigmoid(ctx: Context, x: Tensor) -> Tensor:
    """Shares of σ(x) at OUT_FRAC for x at IN_FRAC."""
    negative = less_than_zero(ctx, x)
    magnitude = multiply(ctx, x, ctx.public(-2 * negative, 1))
    d = ctx.public(exponential(ctx, -magnitude, IN_FRAC, IN_FRAC), constant(1.0, IN_FRAC))
    y = ctx.public(-9 * d, constant(1.5, OUT_FRAC))  # 0.5625 = 9/2^4
    y = newton(ctx, d, IN_FRAC, y, OUT_FRAC, SHARED_STEPS)
    return _selected(ctx, negative, ctx.public(-y, constant(1.0, OUT_FRAC)), y)


def _selected(ctx: Context, bit: Tensor, if_one: Tensor, if_zero: Tensor) -> Tensor:
    """Shares of the one or the other, by two products in one message."""
    both = multiply(ctx, torch.stack([if_one, if_zero]), torch.stack([bit, ctx.public(-bit, 1)]))
    return both[0] + both[1]


def sigmoid(ctx: Context, x: Tensor) -> Tensor:
    """Shares of σ(x), both at FRAC."""
    return truncate(ctx, wide_sigmoid(ctx, x << (IN_FRAC - FRAC)), OUT_FRAC - FRAC)


def tanh(ctx: Context, x: Tensor) -> Tensor:
    """Shares of tanh(x), both at FRAC."""
    y = wide_sigmoid(ctx, x << (IN_FRAC - FRAC + 1))
    return ctx.public(truncate(ctx, y, OUT_FRAC - FRAC - 1), -constant(1.0, FRAC))


def gelu(ctx: Context, x: Tensor) -> Tensor:
    """Shares of GeLU(x) by tanh, both at FRAC."""
    cubic = constant(SLOPE * CUBIC, _COEFFICIENT_BITS)
    inner = quadratic(ctx, x, 2 * FRAC + _COEFFICIENT_BITS - IN_FRAC, square=cubic)
    inner = product(ctx, x, ctx.public(inner, constant(SLOPE, IN_FRAC)), FRAC)
    return product(ctx, x, wide_sigmoid(ctx, inner), OUT_FRAC)


def silu(ctx: Context, x: Tensor) -> Tensor:
    """Shares of x·σ(x), both at FRAC."""
    return product(ctx, x, wide_sigmoid(ctx, x << (IN_FRAC - FRAC)), OUT_FRAC)
