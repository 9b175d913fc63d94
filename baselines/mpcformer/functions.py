"""The non-linear functions that can be measured on their own, by name: protocol and approximation."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from baselines.mpcformer import approx
from baselines.mpcformer.compare import less_than_zero, relu
from baselines.mpcformer.context import FRAC, Context
from baselines.mpcformer.encoding import encode
from baselines.mpcformer.exponential import exponential
from baselines.mpcformer.norm import normalize
from baselines.mpcformer.options import Approx
from baselines.mpcformer.quad_gelu import quad
from baselines.mpcformer.reciprocal import reciprocal
from baselines.mpcformer.rsqrt import IN_FRAC, rsqrt
from baselines.mpcformer.sigmoid import gelu, sigmoid, silu, tanh
from baselines.mpcformer.softmax import WEIGHT_FRAC, softmax

NORM_EPS = 1e-5
_EXP_FRAC = 24


@dataclass(frozen=True)
class Function:
    """`protocol`: shares at FRAC → shares at out_frac. `plain`: the approximation in float64."""

    protocol: Callable[[Context, Tensor], Tensor]
    plain: Callable[[Tensor], Tensor]
    out_frac: int = FRAC


def _is_negative(x: Tensor) -> Tensor:
    """[x < 0] of x as fixed point has it."""
    return (encode(x) < 0).to(torch.float64)


_FUNCTIONS = {
    "layernorm": Function(
        lambda ctx, x: normalize(ctx, x, NORM_EPS, rms=False),
        lambda x: approx.normalize(x, NORM_EPS, rms=False),
    ),
    "exp": Function(
        lambda ctx, x: exponential(ctx, x << (_EXP_FRAC - FRAC), _EXP_FRAC, FRAC),
        approx.exponential,
    ),
    "reciprocal": Function(reciprocal, approx.reciprocal),
    "rsqrt": Function(lambda ctx, x: rsqrt(ctx, x << (IN_FRAC - FRAC)), approx.rsqrt),
    "comparison": Function(less_than_zero, _is_negative, out_frac=0),
    "relu": Function(relu, torch.relu),
    "sigmoid": Function(sigmoid, approx.sigmoid),
    "tanh": Function(tanh, approx.tanh),
    "silu": Function(silu, approx.silu),
    "quad": Function(quad, approx.quad),
}


def known(op: str) -> bool:
    """Whether there is a function called `op`."""
    return op in ("gelu", "softmax", *_FUNCTIONS)


def function(op: str, which: Approx) -> Function:
    """The function called `op`; `which` decides what stands in for gelu and softmax. Raises KeyError."""
    if op == "gelu":
        return Function(gelu, approx.gelu) if which == "exact" else _FUNCTIONS["quad"]
    if op == "softmax":
        return Function(softmax, lambda x: approx.softmax(x, which), WEIGHT_FRAC)
    return _FUNCTIONS[op]
