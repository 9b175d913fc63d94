"""Puma's piecewise polynomials and clipped exponential on additive shares.

    y = p_m(x) + Σ_k [x < T_k]·(p_k(x) − p_(k+1)(x))                    GeLU: 6016 bits a party, 12 hops
    negExp(x) = [x ≥ −14]·(1 + x/2^5)^(2^5)                              2176 bits, 14 hops

Powers x², then x³ and x⁴, then x⁶ are truncated products; the comparisons go side by side. Where x lies
outside all curved pieces the powers may wrap, but their bits add up to exactly nothing: the result is
exact there. Needs |x| < 2^15. A softmax is the tournament, negExp and one reciprocal by Newton's iteration.

Scales: high powers have fewer fractional bits and their coefficients more, 36 in all. Failure: |y|·2^-28
(`truncate`). Messages and what is learnt: `compare`, `beaver`, `product_truncation`, `maximum`. Source:
Puma (arXiv 2307.12533), section 4; see `protocols.shares.approximations`.
"""

from itertools import pairwise

import torch
from torch import Tensor

from baselines.additive.beaver import multiply
from baselines.additive.compare import less_than_zero
from baselines.additive.context import FRAC, Context
from baselines.additive.encoding import constant
from baselines.additive.maximum import maximum
from baselines.additive.product_truncation import product, quadratic
from baselines.additive.reciprocal import OUT_FRAC, positive_reciprocal
from baselines.additive.softmax import WEIGHT_FRAC, down_scale, hidden
from baselines.additive.truncate import truncate
from protocols.shares.approximations import EXP_CLIP, EXP_SQUARINGS, Piecewise, Polynomial

_POWER_FRACS = {1: 16, 2: 16, 3: 12, 4: 12, 6: 10}
_TOTAL_FRAC = 36
_EXP_FRAC = 24


def piecewise(ctx: Context, x: Tensor, function: Piecewise) -> Tensor:
    """Shares of function(x), both at FRAC."""
    powers = _powers(ctx, x)
    with ctx.party.step("comparisons"):
        distances = [ctx.public(x, -constant(bound, FRAC)) for bound in function.bounds]
        below = less_than_zero(ctx, torch.stack(distances))
    values = [_polynomial(ctx, powers, piece) for piece in function.pieces]
    steps = torch.stack([a - b for a, b in pairwise(values)])
    with ctx.party.step("selection"):
        total = values[-1] + multiply(ctx, steps, below).sum(0)
        return truncate(ctx, total, _TOTAL_FRAC - FRAC)


def _powers(ctx: Context, x: Tensor) -> list[Tensor]:
    """Those of _POWER_FRACS."""
    with ctx.party.step("powers"):
        x2 = quadratic(ctx, x, FRAC)  # 2·16 − 16 bits
        x3, x4 = product(ctx, torch.stack([x, x2]), torch.stack([x2, x2]), 20)  # 2·16 − 12
        return [x, x2, x3, x4, product(ctx, x2, x4, 18)]  # 16 + 12 − 10


def _polynomial(ctx: Context, powers: list[Tensor], piece: Polynomial) -> Tensor:
    """At _TOTAL_FRAC."""
    total = torch.zeros_like(powers[0])
    for (power, frac), values in zip(_POWER_FRACS.items(), powers, strict=True):
        if power in piece:
            total = total + values * constant(piece[power], _TOTAL_FRAC - frac)
    return ctx.public(total, constant(piece.get(0, 0.0), _TOTAL_FRAC))


def negative_exponential(ctx: Context, x: Tensor, frac: int) -> Tensor:
    """Shares of negExp(x) at `frac` ≤ 24 for x ≤ 0 at FRAC."""
    with ctx.party.step("clip"):
        kept = ctx.public(-less_than_zero(ctx, ctx.public(x, -constant(EXP_CLIP, FRAC))), 1)
    y = ctx.public(x << (_EXP_FRAC - FRAC - EXP_SQUARINGS), 1 << _EXP_FRAC)
    for step in range(1, EXP_SQUARINGS + 1):
        y = quadratic(ctx, y, 2 * _EXP_FRAC - (frac if step == EXP_SQUARINGS else _EXP_FRAC))
    return multiply(ctx, y, kept)


def clipped_softmax(ctx: Context, x: Tensor, visible: Tensor | None = None) -> Tensor:
    """Shares of the weights of rows x (..., n) at FRAC → WEIGHT_FRAC; `visible` as in `softmax`."""
    points = down_scale("exact", x.shape[-1])
    frac = min(WEIGHT_FRAC, OUT_FRAC - points)
    x = hidden(ctx, x, visible)
    with ctx.party.step("numerator"):
        numerator = negative_exponential(ctx, x - maximum(ctx, x), frac)
    with ctx.party.step("reciprocal"):
        inverse = positive_reciprocal(ctx, numerator.sum(-1, keepdim=True), frac + points)
    with ctx.party.step("product"):
        return product(ctx, numerator, inverse, frac + OUT_FRAC + points - WEIGHT_FRAC)
