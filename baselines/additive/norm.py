"""LayerNorm and RMSNorm of the rows, without gain and bias: (x − mean) / √(variance + eps).

    c = x − Σx / n                  public factor: no message, and with `exact` one opening a row
    v = Σ c² / n                    one square an element: 64 bits a party and element, 1 hop
    r = 1/√(v + eps)                1472 bits a row, 17 hops
    y = c·r                         64 bits an element and a row, 1 hop

RMSNorm leaves out the first line. The original measured BatchNorm in LayerNorm's place (CrypTen has no
LayerNorm): that is one product an element and no square of the data; here the rows' own moments are
computed. Gains and biases are P0's and as secret as its matrices: see `layer`.

`centre` is the first line alone (arXiv 2305.18396, "privacy-computing friendly"): trained models need to be
trained for it.

Scales: c and v with 20 fractional bits (RMSNorm squares x as it is), r with 24. Range: 0.1 ≤ v ≤ 150
(`rsqrt`). Failure: of a mean |mean|·n·2^-30 a row (`truncate`), the rest `wide`. Messages and what
is learnt: `truncate`, `wide`, `rsqrt`.
"""

from torch import Tensor

from baselines.additive.context import FRAC, Context
from baselines.additive.encoding import constant
from baselines.additive.product_truncation import product, square_sum
from baselines.additive.rsqrt import IN_FRAC, rsqrt
from baselines.additive.truncate import truncate

CENTRED_FRAC = 20
INVERSE_FRAC = 24
_FACTOR_BITS = 17  # of 1/n in the mean
_WIDE_FACTOR_BITS = 40  # of 1/n in the variance


def normalize(ctx: Context, x: Tensor, eps: float, rms: bool) -> Tensor:
    """Shares of the normed rows of x (..., n), both at FRAC."""
    centred, frac = (x, FRAC) if rms else (_centred(ctx, x), CENTRED_FRAC)
    factor, bits = inverse_of(x.shape[-1], _WIDE_FACTOR_BITS)
    with ctx.party.step("variance"):
        variance = square_sum(ctx, centred, 2 * frac + bits - IN_FRAC, factor)
    with ctx.party.step("rsqrt"):
        inverse = rsqrt(ctx, ctx.public(variance, constant(eps, IN_FRAC)), INVERSE_FRAC)
    with ctx.party.step("product"):
        return product(ctx, centred, inverse, frac + INVERSE_FRAC - FRAC)


def _centred(ctx: Context, x: Tensor) -> Tensor:
    """x − mean at CENTRED_FRAC."""
    factor, bits = inverse_of(x.shape[-1], _FACTOR_BITS)
    total = x.sum(-1, keepdim=True) * factor
    spare = CENTRED_FRAC - FRAC - bits
    mean = total << spare if spare >= 0 else truncate(ctx, total, -spare)
    return (x << (CENTRED_FRAC - FRAC)) - mean


def centre(ctx: Context, x: Tensor, eps: float, rms: bool) -> Tensor:
    """Shares of x − mean, both at FRAC: the friendly LayerNorm, without a division; of RMSNorm x itself.
    eps has no part in it."""
    if rms:
        return x
    factor, bits = inverse_of(x.shape[-1], _FACTOR_BITS)
    return x - truncate(ctx, x.sum(-1, keepdim=True) * factor, bits)


def mean_is_truncated(n: int) -> bool:
    """Whether the mean of n values has more than CENTRED_FRAC fractional bits: unless n divides 2^4."""
    return inverse_of(n, _FACTOR_BITS)[1] > CENTRED_FRAC - FRAC


def inverse_of(n: int, precision: int) -> tuple[int, int]:
    """(factor, bits) with factor·2^−bits = 1/n up to `precision` bits, both as small as can be."""
    bits = n.bit_length() + precision
    factor = round(2**bits / n)
    while factor % 2 == 0:
        factor, bits = factor // 2, bits - 1
    return factor, bits
