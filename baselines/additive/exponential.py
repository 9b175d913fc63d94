"""e^x as the limit (1 + x/2^8)^(2^8): eight squarings, 512 bits a party, 8 hops.

Repeated squaring of v = 1 + x/2^8 doubles its relative error each time, so v needs 8 bits more than the
result at the start and one less after every step. With u = v − 1 and U = u·2^F at the current scale F,

    v² − 1 = 2u + u²:    U ← (2^(F+1)·U + U²) / 2^(F+1),    F ← F − 1

costs one opened element and keeps U at the magnitude x·2^(F−8), where it opens safely. x enters at a
scale of F0 − 8 as it stands: U = x·2^(F0−8). The last step takes any multiple and any scale:

    gain·e^x = gain + gain·(2^(F+1)·U + U²) / 2^2F

Range: −512 ≤ x ≤ 6, where it is within 4 ulp of the limit in exact arithmetic (of 2^-16; above 6 within
2^-20 of itself). Below −512 the limit itself grows again and is no exponential; nothing is clamped, as in
the original. Failure (`wide`): 8·|x|·2^(frac−64). Messages and what is learnt: `wide`, squares.
Source: CrypTen, `exp` with 8 iterations.
"""

from torch import Tensor

from baselines.additive.context import Context
from baselines.additive.encoding import constant
from baselines.additive.product_truncation import quadratic

SQUARINGS = 8
GAIN_BITS = 16


def exponential(ctx: Context, x: Tensor, frac: int, out_frac: int, gain: float = 1.0) -> Tensor:
    """Shares of gain·(1 + x/2^8)^(2^8) at scale out_frac; x at scale frac ≥ 20, gain < 2^15."""
    scale = frac + SQUARINGS
    for _ in range(SQUARINGS - 1):
        x = quadratic(ctx, x, scale + 1, linear=1 << (scale + 1))
        scale -= 1
    factor = constant(gain, GAIN_BITS)
    shift = 2 * scale + GAIN_BITS - out_frac
    x = quadratic(ctx, x, shift, square=factor, linear=factor << (scale + 1))
    return ctx.public(x, constant(gain, out_frac))
