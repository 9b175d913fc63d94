"""The approximations in exact arithmetic: float64, the same constants, starts and numbers of steps.

What the protocols compute up to fixed point; how far it is from the true function is the approximation's
own error. Every function takes and returns float64 tensors.
"""

import torch
from torch import Tensor

from baselines.additive import euler_softmax as eulers
from baselines.additive import reciprocal as reciprocals
from baselines.additive import rsqrt as rsqrts
from baselines.additive import sigmoid as sigmoids
from baselines.additive.exponential import SQUARINGS
from baselines.additive.fourier_gelu import SineSeries
from baselines.additive.options import Approx
from baselines.additive.softmax import OFFSET, down_scale
from protocols.shares.approximations import neg_exp


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


def rsqrt(x: Tensor, steps: int = 3) -> Tensor:
    """1/√x."""
    start = rsqrts.START_SCALE * exponential(-(x / 2 + rsqrts.START_SHIFT))
    y: Tensor = start + rsqrts.START_OFFSET - x / 2**rsqrts.START_SLOPE_BITS
    for _ in range(steps):
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
    if approx in ("quad+2relu", "friendly"):
        return x.relu()
    if visible is not None:
        x = torch.where(visible, x, -torch.inf)
    return exponential((x - x.amax(-1, keepdim=True)).clamp(min=-256.0))


def normalize(x: Tensor, eps: float, rms: bool, steps: int = 3) -> Tensor:
    """The normed rows, without gain and bias."""
    centred = x if rms else x - x.mean(-1, keepdim=True)
    return centred * rsqrt(centred.square().mean(-1, keepdim=True) + eps, steps)


def fourier(x: Tensor, series: SineSeries) -> Tensor:
    """ReLU and the series below its width."""
    size = x.abs()
    return x.relu() + torch.where(size < series.width, series(size), 0.0)


def euler_softmax(x: Tensor, visible: Tensor | None = None) -> Tensor:
    """The weights of rows (..., n) by Euler steps; `visible` as for the protocol."""
    z = x.clamp(eulers.LOW, eulers.HIGH) / eulers.STEPS
    y = eulers.even(x, visible).to(x.dtype)
    for _ in range(eulers.STEPS):
        y = y * (1 + z - (y * z).sum(-1, keepdim=True))
    return y


def clipped_softmax(x: Tensor, visible: Tensor | None = None) -> Tensor:
    """The weights of rows (..., n) by Puma's exponential and Newton's reciprocal; `visible` likewise."""
    if visible is not None:
        x = torch.where(visible, x, -torch.inf)
    numerator = neg_exp((x - x.amax(-1, keepdim=True)).clamp(min=-256.0))
    points = 2.0 ** down_scale("exact", x.shape[-1])
    total = numerator.sum(-1, keepdim=True)
    return numerator * positive_reciprocal(total / points) / points
