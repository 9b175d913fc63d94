"""Fixed point: a real number r is the integer round(r·2^frac) mod 2^64."""

import torch
from torch import Tensor

from baselines.additive.context import FRAC


def encode(x: Tensor, frac: int = FRAC) -> Tensor:
    """Real tensor → int64 at scale 2^frac."""
    return torch.round(x.to(torch.float64) * 2.0**frac).to(torch.int64)


def decode(x: Tensor, frac: int = FRAC) -> Tensor:
    """int64 at scale 2^frac → float64."""
    return x.to(torch.float64) * 2.0**-frac


def constant(value: float, frac: int) -> int:
    """A public number at scale 2^frac."""
    return round(value * 2.0**frac)
