"""1/√x by Newton's iteration y ← y·(3 − x·y²)/2 from 2.2·e^−(x/2 + 0.2) + 0.2 − x/1024.

8 squarings and, in CrypTen, 3·(square + 2 products) = 512 + 3·320 = 1472 bits a party, 8 + 9 = 17 hops;
SHAFT makes 5 steps: 2112 bits, 23 hops.

Scales: x with 20 fractional bits, y with 30, y² with 28. In exact arithmetic three steps leave a relative
error below 0.5 % for 0.1 ≤ x ≤ 150 (`approx`); towards 0 the result stays below 6.75, and above 200 the
start is negative and so is what follows, as in the original. Failure (`wide`): about 2^-29 an element.
Messages and what is learnt: `wide`. Source: CrypTen, `inv_sqrt`.
"""

from torch import Tensor

from baselines.additive.context import FRAC, Context
from baselines.additive.encoding import constant
from baselines.additive.exponential import exponential
from baselines.additive.product_truncation import product, quadratic

IN_FRAC = 20
Y_FRAC = 30
SQUARE_FRAC = 28
START_SCALE, START_SHIFT, START_OFFSET = 2.2, 0.2, 0.2
START_SLOPE_BITS = 10


def rsqrt(ctx: Context, x: Tensor, out_frac: int = FRAC) -> Tensor:
    """Shares of 1/√x at out_frac for x at IN_FRAC."""
    # −(x/2 + 0.2) with one bit more than x is −x as it stands.
    argument = ctx.public(-x, -constant(START_SHIFT, IN_FRAC + 1))
    y = exponential(ctx, argument, IN_FRAC + 1, Y_FRAC, START_SCALE)
    # x/1024 at Y_FRAC = IN_FRAC + 10 likewise.
    y = ctx.public(y - (x << (Y_FRAC - IN_FRAC - START_SLOPE_BITS)), constant(START_OFFSET, Y_FRAC))
    steps = ctx.settings.rsqrt_steps
    for step in range(steps):
        square = quadratic(ctx, y, 2 * Y_FRAC - SQUARE_FRAC)
        xy2 = product(ctx, square, x, IN_FRAC)
        rest = ctx.public(-xy2, constant(3.0, SQUARE_FRAC))
        scale = out_frac if step == steps - 1 else Y_FRAC
        y = product(ctx, y, rest, Y_FRAC + SQUARE_FRAC + 1 - scale)
    return y
