"""The non-linear functions on additive shares: protocol, float64 twin and cost of each.

What stands in for the functions of a transformer is a choice (`approx`): an `Approximation`. All others
there are once, under their name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from baselines.additive import approx, primitive_costs
from baselines.additive.compare import less_than_zero, relu
from baselines.additive.context import FRAC, Context
from baselines.additive.encoding import encode
from baselines.additive.euler_softmax import euler_softmax
from baselines.additive.exponential import exponential
from baselines.additive.fourier_gelu import GELU, SILU, SineSeries, fourier
from baselines.additive.norm import centre, normalize
from baselines.additive.options import Approx, Settings
from baselines.additive.piecewise import clipped_softmax, piecewise
from baselines.additive.primitive_costs import Cost
from baselines.additive.quad_gelu import quad
from baselines.additive.reciprocal import reciprocal
from baselines.additive.rsqrt import IN_FRAC, rsqrt
from baselines.additive.sigmoid import gelu, sigmoid, silu, tanh
from baselines.additive.softmax import WEIGHT_FRAC, softmax
from protocols.shares import approximations as shared
from protocols.transformer.forward import Functions, functions_of

NORM_EPS = 1e-5
_EXP_FRAC = 24


@dataclass(frozen=True)
class Function:
    """`protocol`: shares at FRAC → shares at out_frac. `plain`: the approximation in float64. `cost`: of
    n elements."""

    protocol: Callable[[Context, Tensor], Tensor]
    plain: Callable[[Tensor], Tensor]
    cost: Callable[[Settings, int], Cost]
    out_frac: int = FRAC


@dataclass(frozen=True)
class Weights:
    """Of rows (..., n), of which those count that are `visible`; at WEIGHT_FRAC. `cost`: of rows, n."""

    protocol: Callable[[Context, Tensor, Tensor | None], Tensor]
    plain: Callable[[Tensor, Tensor | None], Tensor]
    cost: Callable[[Settings, int, int], Cost]


@dataclass(frozen=True)
class Norm:
    """Of rows (..., n), with eps, RMSNorm or not, at FRAC. `cost`: of rows, n."""

    protocol: Callable[[Context, Tensor, float, bool], Tensor]
    plain: Callable[[Tensor, float, bool, Settings], Tensor]
    cost: Callable[[Settings, int, int, bool], Cost]


@dataclass(frozen=True)
class Approximation:
    """What stands in for the functions of a transformer."""

    gelu: Function
    silu: Function
    softmax: Weights
    norm: Norm


def _is_negative(x: Tensor) -> Tensor:
    """[x < 0] of x as fixed point has it."""
    return (encode(x) < 0).to(torch.float64)


def _rounded(settings: Settings, n: int) -> Cost:
    return primitive_costs.wide_sigmoid(n) + primitive_costs.truncation(settings, n)


def _plain_norm(x: Tensor, eps: float, rms: bool, settings: Settings) -> Tensor:
    return approx.normalize(x, eps, rms, settings.rsqrt_steps)


def _crypten_softmax(which: Approx) -> Weights:
    return Weights(
        softmax,
        lambda x, seen: approx.softmax(x, which, seen),
        lambda _, rows, n: primitive_costs.softmax(which, rows, n),
    )


def _piecewise(curve: shared.Piecewise) -> Function:
    return Function(
        lambda ctx, x: piecewise(ctx, x, curve),
        curve,
        lambda settings, n: primitive_costs.piecewise(settings, n, len(curve.bounds)),
    )


def _fourier(series: SineSeries) -> Function:
    return Function(
        lambda ctx, x: fourier(ctx, x, series),
        lambda x: approx.fourier(x, series),
        lambda _, n: primitive_costs.fourier(n, len(series.betas)),
    )


RELU = Function(relu, torch.relu, lambda _, n: primitive_costs.relu(n))
QUAD = Function(quad, shared.quad, lambda _, n: primitive_costs.wide_square(n))
NEWTON_NORM = Norm(normalize, _plain_norm, primitive_costs.normalize)
APPROXIMATIONS: Mapping[Approx, Approximation] = {
    "exact": Approximation(
        Function(gelu, approx.gelu, lambda _, n: primitive_costs.gelu(n)),
        Function(silu, approx.silu, lambda _, n: primitive_costs.silu(n)),
        _crypten_softmax("exact"),
        NEWTON_NORM,
    ),
    "quad+2quad": Approximation(QUAD, QUAD, _crypten_softmax("quad+2quad"), NEWTON_NORM),
    "quad+2relu": Approximation(QUAD, QUAD, _crypten_softmax("quad+2relu"), NEWTON_NORM),
    "puma": Approximation(
        _piecewise(shared.GELU),
        _piecewise(shared.SILU),
        Weights(
            clipped_softmax,
            approx.clipped_softmax,
            lambda _, rows, n: primitive_costs.clipped_softmax(rows, n),
        ),
        NEWTON_NORM,
    ),
    "fourier": Approximation(
        _fourier(GELU),
        _fourier(SILU),
        Weights(
            euler_softmax,
            approx.euler_softmax,
            lambda _, rows, n: primitive_costs.euler_softmax(rows, n),
        ),
        NEWTON_NORM,
    ),
    "friendly": Approximation(
        RELU,
        RELU,
        _crypten_softmax("friendly"),
        Norm(centre, lambda x, eps, rms, _: shared.centre(x, eps, rms), primitive_costs.centre),
    ),
}
_FUNCTIONS: Mapping[str, Function] = {
    "exp": Function(
        lambda ctx, x: exponential(ctx, x << (_EXP_FRAC - FRAC), _EXP_FRAC, FRAC),
        approx.exponential,
        lambda _, n: primitive_costs.exponential(n),
    ),
    "reciprocal": Function(reciprocal, approx.reciprocal, primitive_costs.reciprocal),
    "comparison": Function(
        less_than_zero, _is_negative, lambda _, n: primitive_costs.less_than_zero(n), out_frac=0
    ),
    "relu": RELU,
    "sigmoid": Function(sigmoid, approx.sigmoid, _rounded),
    "tanh": Function(tanh, approx.tanh, _rounded),
    "quad": QUAD,
}


def known(op: str) -> bool:
    """Whether there is a function called `op`."""
    return op in ("gelu", "silu", "softmax", "layernorm", "rsqrt", *_FUNCTIONS)


def function(op: str, settings: Settings, shape: tuple[int, ...] = ()) -> Function:
    """The function called `op`; of tensors of `shape` where it is one of rows, whose cost depends on
    their length. Raises KeyError."""
    chosen, row = APPROXIMATIONS[settings.approx], shape[-1] if shape else 1
    match op:
        case "gelu":
            return chosen.gelu
        case "silu":
            return chosen.silu
        case "softmax":
            return _on_rows_softmax(chosen.softmax, row)
        case "layernorm":
            return _on_rows_norm(chosen.norm, row, settings)
        case "rsqrt":
            return _rsqrt(settings)
        case _:
            return _FUNCTIONS[op]


def function_cost(op: str, settings: Settings, shape: tuple[int, ...]) -> Cost:
    """Of the function called `op` on a tensor of `shape`. Raises KeyError."""
    return function(op, settings, shape).cost(settings, prod(shape))


def _on_rows_softmax(weights: Weights, row: int) -> Function:
    return Function(
        lambda ctx, x: weights.protocol(ctx, x, None),
        lambda x: weights.plain(x, None),
        lambda settings, n: weights.cost(settings, n // row, row),
        WEIGHT_FRAC,
    )


def _on_rows_norm(norm: Norm, row: int, settings: Settings) -> Function:
    return Function(
        lambda ctx, x: norm.protocol(ctx, x, NORM_EPS, False),
        lambda x: norm.plain(x, NORM_EPS, False, settings),
        lambda settings, n: norm.cost(settings, n // row, row, False),
    )


def _rsqrt(settings: Settings) -> Function:
    return Function(
        lambda ctx, x: rsqrt(ctx, x << (IN_FRAC - FRAC)),
        lambda x: approx.rsqrt(x, settings.rsqrt_steps),
        lambda settings, n: primitive_costs.rsqrt(n, settings.rsqrt_steps),
    )


def functions(settings: Settings) -> Functions:
    """Norm, softmax and activation in float64, for a model in the clear."""
    chosen = APPROXIMATIONS[settings.approx]

    def normalize(x: Tensor, eps: float, rms: bool) -> Tensor:
        return chosen.norm.plain(x, eps, rms, settings)

    return functions_of(normalize, chosen.softmax.plain, chosen.gelu.plain, chosen.silu.plain)
