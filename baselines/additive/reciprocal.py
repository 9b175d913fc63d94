"""1/x by Newton's iteration y ← 2y − x·y², ten times, from y = 3·e^(1−2x) + 0.003.

Of positive x: 8 squarings and 10·(square + product) = 512 + 10·192 = 2432 bits a party, 8 + 20 = 28
hops. Of any sign: s = 1 − 2·[x < 0], then s·(1/(s·x)): 1728 + 128 + 2432 + 128 = 4416 bits, 38 hops.

Scales: y with 24 fractional bits, y² with 28. Range: 1/512 ≤ |x| ≤ 250, where ten steps have converged
(the relative error is (1 − x·y0)^1024); 0 gives 2^10·y0. Above 253 the limit that stands for e^(1−2x)
grows again and the iteration diverges, as in the original: `softmax` scales its sums down before.
Failure (`wide`): y²·2^-36 a step. Messages and what is learnt: `wide`, `compare`.
Source: CrypTen, `reciprocal` ("NR").
"""

from torch import Tensor

from baselines.additive.beaver import multiply
from baselines.additive.compare import less_than_zero
from baselines.additive.context import FRAC, Context
from baselines.additive.encoding import constant
from baselines.additive.exponential import exponential
from baselines.additive.product_truncation import product, quadratic
from baselines.additive.truncate import truncate

OUT_FRAC = 24
SQUARE_FRAC = 28
ITERATIONS = 10
START_SCALE, START_OFFSET = 3.0, 0.003


def positive_reciprocal(ctx: Context, x: Tensor, frac: int = FRAC) -> Tensor:
    """Shares of 1/x at scale OUT_FRAC for 0 < x at scale frac ≤ OUT_FRAC + 1."""
    argument = ctx.public(-(x << (OUT_FRAC + 1 - frac)), constant(1.0, OUT_FRAC))
    y = exponential(ctx, argument, OUT_FRAC, OUT_FRAC, START_SCALE)
    y = ctx.public(y, constant(START_OFFSET, OUT_FRAC))
    return newton(ctx, x, frac, y, OUT_FRAC, ITERATIONS)


def newton(ctx: Context, x: Tensor, x_frac: int, y: Tensor, y_frac: int, iterations: int) -> Tensor:
    """`iterations` steps y ← 2y − x·y² at y's scale."""
    for _ in range(iterations):
        square = quadratic(ctx, y, 2 * y_frac - SQUARE_FRAC)
        y = 2 * y - product(ctx, square, x, SQUARE_FRAC + x_frac - y_frac)
    return y


def reciprocal(ctx: Context, x: Tensor) -> Tensor:
    """Shares of 1/x for x of any sign, both at FRAC."""
    sign = ctx.public(-2 * less_than_zero(ctx, x), 1)
    y = positive_reciprocal(ctx, multiply(ctx, x, sign))
    return multiply(ctx, truncate(ctx, y, OUT_FRAC - FRAC), sign)
