"""Real numbers as the whole numbers that circuits compute on, and back: all scales are public but one, that
of the weights.

linear:  x = s·q with s = 4 / 2^(b−1), q in [−2^(b−1), 2^(b−1) − 1], rounded, values beyond clipped;
         W = t·w with t = max|W| / (2^(b−1) − 1); b = s·t·c, c clipped to ±2^(2b−2); y = s·t·(q·wᵀ + c)
table:   2^b bins of equal width over the range of `RANGES`, values beyond in the last ones; in each bin f at
         its middle, rounded to one of 2^b levels from the least to the largest of these
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from protocols.expected_answer import apply_nonlinear
from protocols.transformer.weights import Linear as LinearWeights
from protocols.workload import NonlinearOp

LARGEST_INPUT = 4.0  # of a linear layer: 4 standard deviations
# A sign is kept by bins: 0 lies between two of them.
RANGES: Mapping[NonlinearOp, tuple[float, float]] = {
    "gelu": (-8.0, 8.0),
    "comparison": (-8.0, 8.0),
    "reciprocal": (0.5, 50.0),
    "rsqrt": (0.5, 50.0),
    "exp": (-8.0, 0.0),
}


def input_scale(bits: int) -> float:
    """s: what a step of a linear layer's input is worth."""
    return float(LARGEST_INPUT / (1 << (bits - 1)))


def quantised_input(x: Tensor, bits: int) -> Tensor:
    """q of float64 x, int64 of its shape."""
    half = 1 << (bits - 1)
    return (x / input_scale(bits)).round().clamp(-half, half - 1).long()


@dataclass(frozen=True)
class QuantisedLinear:
    """weight: w (d_out, d_in), bias: c (d_out,), int64; scale: t."""

    weight: Tensor
    bias: Tensor
    scale: float


def quantised_linear(layer: LinearWeights, bits: int) -> QuantisedLinear:
    """P0's matrix and bias."""
    most = (1 << (bits - 1)) - 1
    weight = layer.weight.double()
    scale = float(weight.abs().max()) / most or 1.0
    quantised = (weight / scale).round().long()
    largest = 1 << (2 * bits - 2)
    bias = torch.zeros(weight.shape[0]) if layer.bias is None else layer.bias
    steps = (bias.double() / (scale * input_scale(bits))).round()
    return QuantisedLinear(quantised, steps.clamp(-largest, largest).long(), scale)


def dequantised(y: Tensor, scale: float, bits: int) -> Tensor:
    """y of the whole numbers q·wᵀ + c, float64."""
    return y.double() * (input_scale(bits) * scale)


@dataclass(frozen=True)
class Table:
    """One function of 2^b bins. low, step: of the bins; levels: what stands in each, int64 (2^b,);
    bottom, rise: what level 0 and a level more are worth."""

    low: float
    step: float
    levels: Tensor
    bottom: float
    rise: float

    def bin_of(self, x: Tensor) -> Tensor:
        """The bin of each value, int64 of x's shape."""
        last = len(self.levels) - 1
        return ((x - self.low) / self.step).floor().clamp(0, last).long()

    def value_of(self, level: Tensor) -> Tensor:
        """What levels are worth, float64."""
        return self.bottom + self.rise * level.double()


@cache
def table(op: NonlinearOp, bits: int) -> Table:
    """The table of a function of one value, the same at both parties."""
    low, high = RANGES[op]
    count = 1 << bits
    step = (high - low) / count
    middles = low + step * (torch.arange(count, dtype=torch.float64) + 0.5)
    values = apply_nonlinear(op, middles)
    bottom, top = float(values.min()), float(values.max())
    rise = (top - bottom) / (count - 1)
    return Table(low, step, ((values - bottom) / rise).round().long(), bottom, rise)
