"""LayerNorm and RMSNorm of the rows, without gain and bias: (x − mean) / √(variance + eps), in 13 hops.

    c = x − Σx / d                  public factor, one truncation a row: 2 hops
    s = Σ c²                        1 hop
    r = 1/√(s/d + eps)              a table over the float of s (`float_lut`): 7 hops
    y = c·r                         3 hops

RMSNorm leaves out the first line: 11 hops. Gains and biases are P0's and as secret as its matrices: see
`layer`.

Scales: c at FRAC, r at DEVIATION_FRAC, s at 2·FRAC. Range: s below 2^(n−1−24) in real numbers, which for
n = 50 and d = 768 is a deviation of 209. Each learns what the gates list: masked values. Source: SIGMA
(ePrint 2023/1269), section 5, whose mean has FRAC bits of 1/d; here it has more, for 1/768 is 5.33/2^12. So
has r: with 12 bits that of a deviation of 208 is off by up to 2.5 %.
"""

from functools import lru_cache

import torch
from torch import Tensor

from baselines.fss.context import FRAC, Context
from baselines.fss.float_lut import float_look_up, float_table
from baselines.fss.lut import Table
from baselines.fss.multiply import multiply, square_sum
from baselines.fss.truncation import truncate

DEVIATION_FRAC = 18
_FACTOR_BITS = 12  # of 1/d in the mean, after the first


def normalize(ctx: Context, x: Tensor, eps: float, rms: bool) -> Tensor:
    """The masked normed rows of x (..., d), both at FRAC."""
    width, d = ctx.bits, x.shape[-1]
    centred = x if rms else x - _mean(ctx, x)
    with ctx.step("variance"):
        squares = ctx.open(square_sum(ctx, centred, width), width)
    with ctx.step("rsqrt"):
        inverse = float_look_up(ctx, squares, deviations(d, eps))
    with ctx.step("product"):
        product = ctx.open(multiply(ctx, centred, inverse, width), width)
        return truncate(ctx, product, DEVIATION_FRAC)


def _mean(ctx: Context, x: Tensor) -> Tensor:
    factor, bits = inverse_of(x.shape[-1])
    total = x.sum(-1, keepdim=True) * factor
    with ctx.step("mean"):
        return truncate(ctx, total, bits) if bits else total


def inverse_of(d: int) -> tuple[int, int]:
    """(factor, bits) with factor·2^−bits = 1/d to 13 significant bits, both as small as can be."""
    bits = d.bit_length() + _FACTOR_BITS
    factor = round(2**bits / d)
    while factor % 2 == 0:
        factor, bits = factor // 2, bits - 1
    return factor, bits


@lru_cache
def deviations(d: int, eps: float) -> Table:
    """1/√(s/d + eps) at DEVIATION_FRAC, of s at 2·FRAC."""

    def inverse(s: Tensor) -> Tensor:
        return torch.rsqrt(s * 2.0 ** (-2 * FRAC) / d + eps)

    return float_table(inverse, DEVIATION_FRAC)
