"""The tables in exact arithmetic: float64, with the same steps of their indices.

What the protocols compute up to fixed point; how far it is from the true function is the table's own error.
Every function takes and returns float64 tensors.
"""

import torch
from torch import Tensor

from baselines.fss.context import FRAC
from baselines.fss.exponential import BITS
from baselines.fss.float_lut import float_code, middle
from baselines.fss.softmax import SUM_FRAC

_LONGEST = (2.0**BITS - 1) * 2.0**-FRAC


def decay(z: Tensor) -> Tensor:
    """e^−z, z clipped at 16."""
    return torch.exp(-z.clamp(max=_LONGEST))


def softmax(x: Tensor, visible: Tensor | None = None) -> Tensor:
    """The weights of rows (..., n); `visible` as for the protocol."""
    if visible is not None:
        x = torch.where(visible, x, -torch.inf)
    z = x.amax(-1, keepdim=True) - x
    numerator = torch.where(torch.isinf(z), 0.0, decay(z))
    total = numerator.sum(-1, keepdim=True)
    return numerator / (torch.floor(total * 2.0**SUM_FRAC + 0.5) * 2.0**-SUM_FRAC)


def rounded(x: Tensor, frac: int) -> Tensor:
    """The middle of the 13-bit float of positive x, whose unit is 2^-frac."""
    scaled = torch.round(x * 2.0**frac)
    return middle(float_code(scaled)) * 2.0**-frac


def reciprocal(x: Tensor) -> Tensor:
    """1/x for x of any sign; the sign of 0 is plus."""
    sign = torch.where(x < 0, -1.0, 1.0).to(x.dtype)
    return sign / rounded(x.abs(), FRAC)


def rsqrt(x: Tensor) -> Tensor:
    """1/√x."""
    return torch.rsqrt(rounded(x, FRAC))


def normalize(x: Tensor, eps: float, rms: bool) -> Tensor:
    """The normed rows, without gain and bias."""
    centred = x if rms else x - x.mean(-1, keepdim=True)
    squares = rounded(centred.square().sum(-1, keepdim=True), 2 * FRAC)
    return centred * torch.rsqrt(squares / x.shape[-1] + eps)
