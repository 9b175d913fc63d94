"""Weights of the rows: p_j = g(x_j) / Σ g(x), one reciprocal a row.

| approx | g(x) | bits a party and score, hops |
|---|---|---|
| 2quad | (x + 5)² | 64, 1 |
| 2relu, friendly | max(x, 0) | 1856, 9 |
| exact | e^(x − max), max by `tournament` | 1856·(n−1)/n + 512, 9·⌈log2 n⌉ + 8 |

then the reciprocal of a row's sum (2432 bits, 28 hops) and the product of each g with it (64 for each
score, 64 a row, 1 hop). Sums are positive, so the cheaper reciprocal serves. It converges up to 250, so
the sum S is read as S/2^k (moving the point costs nothing), with 2^k in proportion to the number n of
scores, and p is divided by 2^k more. (The original divides by S itself, about 25·n for 2quad, and leaves
the range from ten scores on.) Ranges: 2quad: the mean of (x + 5)² in a row up to 250; 2relu: the mean of
max(x, 0) up to 7, and where S < 2^(k−9) the weights add up to less than 1; exact: always.

Scores that a token may not see are public positions: their g is multiplied by 0. p has 20 fractional
bits, which leaves the probability that the following product's truncation fails at 2^-28·|o| an element.
Failure, messages and what is learnt: `wide`, `tournament`. Source: MPCFormer (arXiv:2211.01452), section
4, and CrypTen's `softmax`.
"""

from math import ceil, log2

import torch
from torch import Tensor

from baselines.additive.compare import relu
from baselines.additive.context import FRAC, Context
from baselines.additive.encoding import constant
from baselines.additive.exponential import exponential
from baselines.additive.maximum import maximum
from baselines.additive.options import Approx
from baselines.additive.product_truncation import product, quadratic
from baselines.additive.reciprocal import OUT_FRAC, positive_reciprocal

WEIGHT_FRAC = 20
OFFSET = 5.0
_EXPONENT_FRAC = 24
_HIDDEN = -float(1 << 14)
# Largest sum that a row of n scores is expected to have, relative to n: decides 2^k.
_SPAN = {"quad+2quad": 1.0, "quad+2relu": 32.0, "friendly": 32.0, "exact": 128.0}


def softmax(ctx: Context, x: Tensor, visible: Tensor | None = None) -> Tensor:
    """Shares of the weights of rows x (..., n) at FRAC → WEIGHT_FRAC.

    visible: public, True where a score counts; broadcasts to x. None: everywhere.
    """
    points = down_scale(ctx.settings.approx, x.shape[-1])
    with ctx.party.step("numerator"):
        numerator, frac = _numerator(ctx, x, visible, points)
    if visible is not None and not x.is_meta:
        numerator = numerator * visible
    total = numerator.sum(-1, keepdim=True)
    with ctx.party.step("reciprocal"):
        inverse = positive_reciprocal(ctx, total, frac + points)
    with ctx.party.step("product"):
        return product(ctx, numerator, inverse, frac + OUT_FRAC + points - WEIGHT_FRAC)


def down_scale(approx: Approx, n: int) -> int:
    """k: a sum of n scores is read as S/2^k."""
    return max(0, ceil(log2(n / _SPAN[approx])))


def _numerator(ctx: Context, x: Tensor, visible: Tensor | None, points: int) -> tuple[Tensor, int]:
    """Shares of g(x), and their scale."""
    frac = min(WEIGHT_FRAC, OUT_FRAC - points)
    if ctx.settings.approx == "quad+2quad":
        shifted = ctx.public(x, constant(OFFSET, FRAC))
        return quadratic(ctx, shifted, 2 * FRAC - frac), frac
    if ctx.settings.approx in ("quad+2relu", "friendly"):
        return relu(ctx, x), FRAC
    x = hidden(ctx, x, visible)
    below = (x - maximum(ctx, x)) << (_EXPONENT_FRAC - FRAC)
    return exponential(ctx, below, _EXPONENT_FRAC, frac), frac


def hidden(ctx: Context, x: Tensor, visible: Tensor | None) -> Tensor:
    """x with a low public value where it does not count, so that it is no maximum."""
    if visible is None or x.is_meta:
        return x
    low = constant(_HIDDEN, FRAC) if ctx.leads else 0
    return torch.where(visible, x, low)
