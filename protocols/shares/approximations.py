"""Approximations that several systems compute, in plain float64: without the rounding of their protocols.

Puma's functions, MPCFormer's Quad, and the friendly norm. Sources: GeLU and the exponential, Puma (arXiv
2307.12533), section 4; starting values of reciprocal and inverse square root as in SPU; Quad, MPCFormer
(arXiv 2211.01452); `centre`, "privacy-computing friendly" transformers (arXiv 2305.18396). SiLU, which Puma
does not give, is fitted by us in the manner of its GeLU, with the least largest error on each piece
(0.0027 at x = −8, 0.0020 on [−3, 3]).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

_ULP = 2.0**-18  # of Puma's numbers, on whose grid the bounds lie

Polynomial = Mapping[int, float]  # coefficient of each power


@dataclass(frozen=True)
class Piecewise:
    """Polynomial `pieces[k]` below `bounds[k]` (and from `bounds[k-1]`), the last one above all."""

    bounds: tuple[float, ...]
    pieces: tuple[Polynomial, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """The value for float64 x."""
        y = _evaluate(self.pieces[-1], x)
        for bound, piece in reversed(list(zip(self.bounds, self.pieces, strict=False))):
            y = torch.where(x < bound, _evaluate(piece, x), y)
        return y


GELU = Piecewise(
    bounds=(-4.0, round(-1.95 / _ULP) * _ULP, 3.0 + _ULP),
    pieces=(
        {},
        {
            3: -0.011034134030615728,
            2: -0.11807612951181953,
            1: -0.42226581151983866,
            0: -0.5054031199708174,
        },
        {
            6: 0.0018067462606141187,
            4: -0.037688200365904236,
            2: 0.3603292692789629,
            1: 0.5,
            0: 0.008526321541038084,
        },
        {1: 1.0},
    ),
)
SILU = Piecewise(
    bounds=(-8.0, -3.0, 3.0 + _ULP, 8.0 + _ULP),
    pieces=(
        {},
        {3: -0.001505, 2: -0.03284432, 1: -0.24322171, 0: -0.61631044},
        {6: 0.00054263, 4: -0.01496155, 2: 0.2415589, 1: 0.5, 0: 0.00197772},
        {3: 0.001505, 2: -0.03284432, 1: 1.24322171, 0: -0.61631044},  # x + silu(−x)
        {1: 1.0},
    ),
)
QUAD: Polynomial = {2: 0.125, 1: 0.25, 0: 0.5}
HIDDEN = -float(1 << 20)  # the score of a key that is not seen
EXP_CLIP = -14.0
EXP_SQUARINGS = 5
RECIPROCAL_START = 2.9142  # − 2c, for c in [0.5, 1)
RSQRT = (4.14285016, -15.47994394, 38.4714796, -49.86605845, 26.02942339)  # on [0.25, 0.5)


def gelu(x: Tensor) -> Tensor:
    """Puma's piecewise GeLU; within 0.020 of the exact one (at x = 3)."""
    return GELU(x)


def silu(x: Tensor) -> Tensor:
    """Piecewise SiLU; within 0.0027 of the exact one."""
    return SILU(x)


def neg_exp(x: Tensor) -> Tensor:
    """0 below −14, else (1 + x/2^5)^(2^5), for x ≤ 0; within 0.0086 of the exact one."""
    power = (1 + x / 2**EXP_SQUARINGS) ** (2**EXP_SQUARINGS)
    return torch.where(x < EXP_CLIP, torch.zeros_like(x), power)


def reciprocal(x: Tensor) -> Tensor:
    """1/x by two steps of Goldschmidt's iteration; relative error up to 5.5e-5.

    x is scaled by a power of two to c in [0.5, 1), or (0.5, 1] where it is negative.
    """
    mantissa, exponent = torch.frexp(x.abs())
    edge = (x < 0) & (mantissa == 0.5)
    c, exponent = torch.where(edge, 1.0, mantissa), torch.where(edge, exponent - 1, exponent)
    start = RECIPROCAL_START - 2 * c
    error = 1 - c * start
    return torch.sign(x) * torch.ldexp(start * (1 + error) * (1 + error**2), -exponent)


def rsqrt(x: Tensor) -> Tensor:
    """x^(-1/2) for x > 0 by a polynomial on [0.25, 0.5); relative error up to 8.3e-5."""
    mantissa, exponent = torch.frexp(x)
    p = _evaluate(dict(enumerate(RSQRT)), mantissa / 2)
    return p * torch.exp2(-(exponent + 1).double() / 2)


def softmax(x: Tensor, visible: Tensor | None = None) -> Tensor:
    """Of the rows: `neg_exp` of the distance to the largest, times one `reciprocal` a row. visible: which
    scores count; None: all."""
    if visible is not None:
        x = x.masked_fill(~visible, HIDDEN)
    e = neg_exp(x - x.amax(-1, keepdim=True))
    return e * reciprocal(e.sum(-1, keepdim=True))


def layer_norm(x: Tensor, eps: float) -> Tensor:
    """Of the rows, with `rsqrt`."""
    return rms_norm(x - x.mean(-1, keepdim=True), eps)


def rms_norm(x: Tensor, eps: float) -> Tensor:
    """Of the rows, with `rsqrt` of the sum of squares times the root of their number."""
    total = x.square().sum(-1, keepdim=True) + x.shape[-1] * eps
    return x * rsqrt(total) * math.sqrt(x.shape[-1])


def normalize(x: Tensor, eps: float, rms: bool) -> Tensor:
    """`rms_norm` or `layer_norm`."""
    return rms_norm(x, eps) if rms else layer_norm(x, eps)


def quad(x: Tensor) -> Tensor:
    """0.125·x² + 0.25·x + 0.5."""
    return _evaluate(QUAD, x)


def centre(x: Tensor, eps: float, rms: bool) -> Tensor:
    """x − mean; x itself for RMSNorm."""
    return x if rms else x - x.mean(-1, keepdim=True)


def _evaluate(polynomial: Polynomial, x: Tensor) -> Tensor:
    y: Tensor = torch.zeros_like(x)
    for power, c in polynomial.items():
        y += c * torch.pow(x, power)
    return y
