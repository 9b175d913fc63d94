"""P0's weights as integers."""

from dataclasses import dataclass

import torch
from torch import Tensor

from protocols.transformer.weights import Linear, Norm

_ROWS = 1024  # converted at a time


@dataclass(frozen=True)
class FixedWeight:
    """A matrix (m, k) at scale `frac` in the smallest integer type, and bias (m,) at 2·frac or None."""

    values: Tensor
    bias: Tensor | None


def fixed(linear: Linear, frac: int, transposed: bool = False) -> FixedWeight:
    """Round a float matrix. Raises ValueError where a weight does not fit 32 bits."""
    weight = linear.weight
    largest = float(weight.abs().max()) * 2.0**frac if weight.numel() else 0.0
    if largest >= 2**31 - 1:
        raise ValueError(f"a weight of magnitude {largest * 2.0**-frac:g} does not fit 32 bits")
    values = torch.empty(weight.shape, dtype=torch.int16 if largest < 2**15 - 1 else torch.int32)
    for rows, out in zip(torch.split(weight, _ROWS), torch.split(values, _ROWS), strict=True):
        out.copy_((rows * 2.0**frac).round_())
    bias = linear.bias
    if bias is not None:
        bias = encode(bias, 2 * frac)
    return FixedWeight(values.T.contiguous() if transposed else values, bias)


def encode(x: Tensor, frac: int) -> Tensor:
    """round(x·2^frac), int64."""
    return torch.round(x.to(torch.float64) * 2.0**frac).to(torch.int64)


def fixed_gains(norm: Norm, frac: int, scale: float = 1.0) -> FixedWeight:
    """A norm's gain and bias, both times `scale`, as a diagonal matrix (d, 1)."""
    bias = None if norm.bias is None else norm.bias.double() * scale
    return fixed(Linear((norm.gain.double() * scale).reshape(-1, 1), bias), frac)
