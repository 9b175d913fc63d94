"""The approximations in exact arithmetic: float64, the same constants, starts and numbers of steps.

What the protocols compute up to fixed point; how far it is from the true function is the approximation's
own error. Every function takes and returns float64 tensors.
"""

import torch
from torch import Tensor

from baselines.mpcformer import quad_gelu as quads
from baselines.mpcformer import reciprocal as reciprocals
from baselines.mpcformer import rsqrt as rsqrts
from baselines.mpcformer import sigmoid as sigmoids
from baselines.mpcformer.exponential import SQUARINGS
from baselines.mpcformer.options import Approx
from baselines.mpcformer.softmax import OFFSET, down_scale


def exponential(x: Tensor) -> Tensor:
    """(1 + x/2^8)^(2^8)."""
    base: Tensor = 1 + x / 2**SQUARINGS
    return base.pow(2**SQUARINGS)


def _newton(x: Tensor, y: Tensor, iterations: int) -> Tensor:
    for _ in range(iterations):
        y = 2 * y - x * y.square()
    return y


def positive_reciprocal(x: Tensor) -> Tensor:
    """1/x for x > 0."""
    start = reciprocals.START_SCALE * exponential(1 - 2 * x) + reciprocals.START_OFFSET
    return _newton(x, start, reciprocals.ITERATIONS)


def reciprocal(x: Tensor) -> Tensor:
    """1/x for x of any sign; the sign of 0 is plus."""
    sign = torch.where(x < 0, -1.0, 1.0).to(x.dtype)
    return positive_reciprocal(sign * x) * sign


def rsqrt(x: Tensor) -> Tensor:
    """1/√x."""
    start = rsqrts.START_SCALE * exponential(-(x / 2 + rsqrts.START_SHIFT))
    y: Tensor = start + rsqrts.START_OFFSET - x / 2**rsqrts.START_SLOPE_BITS
    for _ in range(rsqrts.ITERATIONS):
        y = y * (3 - x * y.square()) / 2
    return y


def sigmoid(x: Tensor) -> Tensor:
    """1/(1 + e^−x)."""
    d = 1 + exponential(-x.abs())
    y = _newton(d, torch.full_like(d, 0.75), 1 + sigmoids.SHARED_STEPS)
    return torch.where(x < 0, 1 - y, y)


def tanh(x: Tensor) -> Tensor:
    """2σ(2x) − 1."""
    return 2 * sigmoid(2 * x) - 1


def gelu(x: Tensor) -> Tensor:
    """x·σ(2·√(2/π)·(x + 0.044715·x³))."""
    return x * sigmoid(sigmoids.SLOPE * (x + sigmoids.CUBIC * x**3))


def silu(x: Tensor) -> Tensor:
    """x·σ(x)."""
    return x * sigmoid(x)


def quad(x: Tensor) -> Tensor:
    """0.125·x² + 0.25·x + 0.5."""
    return quads.SQUARE * x.square() + quads.LINEAR * x + quads.CONSTANT


def softmax(x: Tensor, approx: Approx, visible: Tensor | None = None) -> Tensor:
    """The weights of rows (..., n); `visible` as for the protocol."""
    numerator = _numerator(x, approx, visible)
    if visible is not None:
        numerator = numerator * visible
    points = 2.0 ** down_scale(approx, x.shape[-1])
    total = numerator.sum(-1, keepdim=True)
    return numerator * positive_reciprocal(total / points) / points


def _numerator(x: Tensor, approx: Approx, visible: Tensor | None) -> Tensor:
    if approx == "quad+2quad":
        return (x + OFFSET).square()
    if approx == "quad+2relu":
        return x.relu()
    if visible is not None:
        x = torch.where(visible, x, -torch.inf)
    return exponential((x - x.amax(-1, keepdim=True)).clamp(min=-256.0))


def normalize(x: Tensor, eps: float, rms: bool) -> Tensor:
    """The normed rows, without gain and bias."""
    centred = x if rms else x - x.mean(-1, keepdim=True)
    return centred * rsqrt(centred.square().mean(-1, keepdim=True) + eps)
