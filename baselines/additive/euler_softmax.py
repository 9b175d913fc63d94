"""Softmax as the end of a differential equation, by 16 Euler steps: 7808 bits a party and score, 41 hops.

    z = clip(x, −4, 12)/16        y ← 1/m        16 times: y ← y∘(1 + z − Σ_j z_j·y_j)

y(t) = softmax(t·x) solves y' = (x − ⟨x, y⟩)∘y from y(0) = 1/m. The clip is two ReLUs side by side
(9 hops), a step two products (2 hops); so the hops do not depend on the length of a row, and there is no
maximum, exponential or reciprocal.

Sixteen steps are coarse: of normal scores of deviation 1 a weight is off by up to 0.05, of deviation 3 by up
to 0.12.

Scores that a token may not see are public positions: their y begins at 0 and ends as 0; m counts the
others. Scales: z with 28 fractional bits, for nothing; y with 24, and 20 at the end. Failure
(`product_truncation`): 2^-36 an element and step. Messages and what is learnt: `compare`,
`product_truncation`. Source: SHAFT (Kei, Chow, NDSS 2025).
"""

import torch
from torch import Tensor

from baselines.additive.compare import relu
from baselines.additive.context import FRAC, Context
from baselines.additive.encoding import constant, encode
from baselines.additive.product_truncation import product
from baselines.additive.softmax import WEIGHT_FRAC

LOW, HIGH = -4.0, 12.0
STEP_BITS = 4
STEPS = 1 << STEP_BITS
_Z_FRAC = 28
_Y_FRAC = 24


def euler_softmax(ctx: Context, x: Tensor, visible: Tensor | None = None) -> Tensor:
    """Shares of the weights of rows x (..., n) at FRAC → WEIGHT_FRAC; `visible` as in `softmax`."""
    with ctx.party.step("clip"):
        z = clipped(ctx, x) << (_Z_FRAC - FRAC - STEP_BITS)
    y = _even(ctx, x, visible)
    for step in range(1, STEPS + 1):
        frac = WEIGHT_FRAC if step == STEPS else _Y_FRAC
        with ctx.party.step("steps"):
            mean = product(ctx, y, z, _Y_FRAC).sum(-1, keepdim=True)
            growth = ctx.public(z - mean, 1 << _Z_FRAC)
            y = product(ctx, y, growth, _Z_FRAC + _Y_FRAC - frac)
    return y if visible is None or y.is_meta else y * visible


def clipped(ctx: Context, x: Tensor) -> Tensor:
    """Shares of x within LOW and HIGH: x − ReLU(x − HIGH) + ReLU(LOW − x)."""
    above = ctx.public(x, -constant(HIGH, FRAC))
    below = ctx.public(-x, constant(LOW, FRAC))
    excess = relu(ctx, torch.stack([above, below]))
    return x - excess[0] + excess[1]


def _even(ctx: Context, x: Tensor, visible: Tensor | None) -> Tensor:
    """The share of 1/m, where it counts."""
    if x.is_meta:
        return ctx.without_data(*x.shape)
    return ctx.public(torch.zeros_like(x), encode(even(x, visible), _Y_FRAC))


def even(x: Tensor, visible: Tensor | None) -> Tensor:
    """1/m where it counts, float64 of x's shape."""
    seen = torch.ones(x.shape[-1:], dtype=torch.bool) if visible is None else visible
    weights = seen.double() / seen.sum(-1, keepdim=True)
    return weights.expand(x.shape)
