"""Weights of the rows: p_j = e^(x_j − max) / Σ, one table of the reciprocal a row.

| part | hops, of k scores |
|---|---|
| max of the row (`maximum`) | 2·⌈log2 k⌉ |
| e^−(max − x) (`exponential`) | 9 |
| 1/Σ: Σ rounded to 6 fractional bits, a table of 6 + ⌈log2(k + 1)⌉ bits | 4 |
| the product, truncated | 3 |

Scores are compared mod 2^39, as SIGMA does for BERT-base: what stands above is not needed.

The reciprocal has RECIPROCAL_FRAC fractional bits, and p keeps WEIGHT_FRAC: with 12 (as in SIGMA) a weight
of 1/128 would be a number of five bits. A row of one score alone gets 1, for 1 is in the table.

Scores that a token may not see are public positions: a low value stands there, under no mask, and their
weight is 0. Each learns what the gates list: masked values. Source: SIGMA (ePrint 2023/1269), section 5.
"""

from functools import lru_cache

import torch
from torch import Tensor

from baselines.fss.context import FRAC, Context, gate
from baselines.fss.encoding import encode
from baselines.fss.exponential import decay
from baselines.fss.lut import Table, look_up
from baselines.fss.maximum import maximum
from baselines.fss.multiply import multiply
from baselines.fss.truncation import reduce, truncate

WEIGHT_FRAC = RECIPROCAL_FRAC = 18
SUM_FRAC = 6
SCORE_BITS = 39  # of scores less than 2^25
_HIDDEN = -(1 << (FRAC + 14))


def softmax(ctx: Context, x: Tensor, visible: Tensor | None = None) -> Tensor:
    """The masked weights of rows x (..., k) at FRAC → WEIGHT_FRAC.

    visible: public, True where a score counts; broadcasts to x. None: everywhere.
    """
    width = ctx.bits
    x = hidden(ctx, x, visible)
    largest = maximum(ctx, x, SCORE_BITS)
    numerator = decay(ctx, largest - x, SCORE_BITS)
    inverse = reciprocal_of_sum(ctx, numerator.sum(-1, keepdim=True), x.shape[-1])
    with ctx.step("product"):
        product = ctx.open(multiply(ctx, numerator, inverse, width), width)
        return truncate(ctx, product, FRAC + RECIPROCAL_FRAC - WEIGHT_FRAC)


def hidden(ctx: Context, x: Tensor, visible: Tensor | None) -> Tensor:
    """x with a low public value where it does not count."""
    if visible is None or x.is_meta:
        return x
    return torch.where(visible, x, _HIDDEN if ctx.online else 0)


@gate("reciprocal")
def reciprocal_of_sum(ctx: Context, total: Tensor, k: int) -> Tensor:
    """The masked 1/Σ at RECIPROCAL_FRAC of sums from 1 to k at FRAC. Four hops."""
    width, bits = ctx.bits, sum_bits(k)
    cut = FRAC - SUM_FRAC
    share, finish = reduce(ctx, ctx.plus(total, 1 << (cut - 1)), bits + cut, cut)
    index = ctx.open(finish(ctx.open(share, 1)), bits)
    (inverse,) = look_up(ctx, (index, reciprocals(bits)), width=width)
    return ctx.open(inverse, width)


def sum_bits(k: int) -> int:
    """Of a sum of k numbers up to 1: 6 + ⌈log2(k + 1)⌉."""
    return SUM_FRAC + k.bit_length()


@lru_cache
def reciprocals(bits: int) -> Table:
    """At RECIPROCAL_FRAC; below 1, where no sum is, 1."""
    sums = torch.arange(1 << bits, dtype=torch.float64) * 2.0**-SUM_FRAC
    return Table(encode(sums.clamp(min=1.0).reciprocal(), RECIPROCAL_FRAC))
