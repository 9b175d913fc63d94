"""Any function of a positive value by a table over its 13-bit float, in 7 hops.

The float of x > 0 has an exponent E of 6 bits and a mantissa m of 7 bits: x = (128 + m)·2^(E − 1) up to
what is cut off, x = m for E = 0. With c_j = [x ≥ 2^j], j = 7 … J = n − 2,

    E = Σ c_j        F = 2^(J−7) + Σ_(j>7) c_j·(2^(J−j) − 2^(J−j+1))        m = (F·x mod 2^J) >> (J − 7)

since F = 2^(J−7−E+1) moves x's highest bit to J. All c_j come from one DPF key, evaluated at x̂ − 2^j.

| hop | what | opened, bits a party |
|---|---|---|
| 1 | c_j, each under a mask of its own | n − 8 |
| 2 | F and E, from arithmetic shares of the masks | n + 6 |
| 3 | F·x mod 2^J | n − 2 |
| 4, 5 | its upper 7 bits (`truncation.reduce`) | 1, then 7 |
| 6, 7 | the table at the digits E, m (`lut`) | n, then n |

| gate | key, bits |
|---|---|
| exponents | DPF of n − 1 bits, 1, and (n − 8)·n |

Each learns the masked c_j, F, E, F·x and m. Error: m is cut to 7 bits, and the table has the middle of
what that leaves: at most 2^-8 of x is missed, and
nothing below 256. Source: SIGMA (ePrint 2023/1269), section 5.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from baselines.fss.bits import low_bits, top_bit
from baselines.fss.context import Context, gate
from baselines.fss.dpf import LEAF_BITS
from baselines.fss.encoding import encode
from baselines.fss.lut import Table, look_up
from baselines.fss.multiply import multiply
from baselines.fss.truncation import reduce

MANTISSA, EXPONENT = LEAF_BITS, 6  # the lower digit of a table's index, and the upper one


def thresholds(width: int) -> int:
    """How many c_j there are."""
    return width - 1 - MANTISSA


def float_table(function: Callable[[Tensor], Tensor], frac: int) -> Table:
    """Of the function of an integer x, float64 in and out, at `frac` fractional bits."""
    code = torch.arange(1 << (MANTISSA + EXPONENT))
    return Table(encode(function(middle(code)), frac), two_digits=True)


def float_code(x: Tensor) -> Tensor:
    """The 13-bit float of integers x ≥ 0, float64 → int64."""
    _, above = torch.frexp(x)  # x < 2^above
    exponent = (above - MANTISSA).clamp(min=0)
    mantissa = torch.floor(x * 2.0 ** (1.0 - exponent.clamp(min=1))).long()
    return exponent << MANTISSA | mantissa & low_bits(MANTISSA)


def middle(code: Tensor) -> Tensor:
    """The middle of the values that have a float, float64; up to 255 there is one, and 0 is read as 1/2."""
    exponent, mantissa = code >> MANTISSA, code & low_bits(MANTISSA)
    lead = torch.where(exponent > 0, 1 << MANTISSA, 0)
    half = torch.where((exponent > 1) | (code == 0), 0.5, 0.0)
    return (lead + mantissa + half) * 2.0 ** (exponent.clamp(min=1) - 1.0)


@gate("float_look_up")
def float_look_up(ctx: Context, x: Tensor, table: Table) -> Tensor:
    """The masked entries of positive x."""
    width, top = ctx.bits, ctx.bits - 2
    factor, exponent = normalised(ctx, x)
    product = ctx.open(multiply(ctx, factor, x, top), top)
    share, finish = reduce(ctx, product, top, top - MANTISSA)
    mantissa = ctx.open(finish(ctx.open(share, 1)), MANTISSA)
    code = (exponent & low_bits(EXPONENT)) << MANTISSA | mantissa & low_bits(MANTISSA)
    (entry,) = look_up(ctx, (code, table), width=width)
    return ctx.open(entry, width)


@gate("exponents")
def normalised(ctx: Context, x: Tensor) -> tuple[Tensor, Tensor]:
    """The masked F, of n bits, and E, of 6. Two hops."""
    shape, width, top = tuple(x.shape), ctx.bits, ctx.bits - 2
    count = thresholds(width)
    rows = (count, *shape)
    masks, out, index = ctx.mask(rows, 1), ctx.mask(shape, width), ctx.mask(shape, EXPONENT)
    key = ctx.point(shape, width - 1, lambda: x)
    sign = ctx.shared(shape, 1, lambda: top_bit(x, width) ^ 1)
    c = ctx.shared(rows, width, lambda: masks)
    factor_rest = ctx.shared(shape, width, lambda: out)
    index_rest = ctx.shared(shape, EXPONENT, lambda: index)
    if not ctx.online:
        return out, index
    powers = torch.arange(MANTISSA, top + 1).reshape(-1, *[1] * x.dim())
    below = x - (1 << powers)
    share = key.above(below) ^ sign ^ (c & 1)
    opened = ctx.open(share ^ top_bit(below, width) if ctx.leads else share, 1)
    bits = (1 - 2 * opened) * c + (opened if ctx.leads else 0)  # [c_j]
    steps = (1 << (top - powers[1:])) - (1 << (top - powers[1:] + 1))
    factor = (bits[1:] * steps).sum(0) + factor_rest
    if ctx.leads:
        factor = factor + (1 << (top - MANTISSA))
    factor, code = ctx.open_all((factor, width), (bits.sum(0) + index_rest, EXPONENT))
    return factor, code
