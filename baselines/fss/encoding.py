"""Fixed point mod 2^n: a real number v is the integer round(v·2^frac)."""

import torch
from torch import Tensor

from baselines.fss.bits import low_bits
from baselines.fss.context import FRAC


def encode(x: Tensor, frac: int = FRAC) -> Tensor:
    """Real tensor → int64 at scale 2^frac."""
    return torch.round(x.to(torch.float64) * 2.0**frac).to(torch.int64)


def signed(x: Tensor, width: int) -> Tensor:
    """int64 in [−2^(width−1), 2^(width−1)) of the lowest `width` bits."""
    if width == 64:
        return x
    low, top = x & low_bits(width), 1 << (width - 1)
    return (low ^ top) - top


def decode(x: Tensor, width: int, frac: int = FRAC) -> Tensor:
    """The lowest `width` bits at scale 2^frac → float64."""
    return signed(x, width).to(torch.float64) * 2.0**-frac
