"""The non-linear functions on replicated shares: protocol, cost and float64 approximation of each.

What stands in for the functions of a transformer is a choice (`approx`): an `Approximation`. All others
there are once, under their name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from baselines.puma import stand_ins
from baselines.puma.bit_injection import to_ring, weighted_cost
from baselines.puma.compare import sign, sign_cost
from baselines.puma.context import Context
from baselines.puma.cost import Cost
from baselines.puma.exponential import neg_exp, neg_exp_cost
from baselines.puma.norm import Affine, norm, norm_cost
from baselines.puma.options import Approx
from baselines.puma.piecewise import piecewise, piecewise_cost
from baselines.puma.reciprocal import reciprocal, reciprocal_cost
from baselines.puma.round_scheduler import Running
from baselines.puma.rsqrt import rsqrt, rsqrt_cost
from baselines.puma.share import FRAC, Share
from baselines.puma.softmax import softmax, softmax_cost
from protocols.shares import approximations as approx
from protocols.shares.approximations import GELU, SILU
from protocols.transformer.forward import Functions, functions_of

EPS = 1e-5  # of the layernorm experiment


@dataclass(frozen=True)
class Function:
    """run: x at FRAC → the same shape at FRAC. cost: of a shape. plain: the approximation."""

    run: Callable[[Context, Share], Running[Share]]
    cost: Callable[[tuple[int, ...]], Cost]
    plain: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Weights:
    """Of rows (rows, n) at FRAC, of which those count that are `visible`. cost: of rows, n. low: scores
    that do not count must be low already, and `visible` is not looked at."""

    run: Callable[[Context, Share, Tensor | None], Running[Share]]
    cost: Callable[[int, int], Cost]
    plain: Callable[[Tensor, Tensor | None], Tensor]
    low: bool = False


@dataclass(frozen=True)
class Norm:
    """Of rows (rows, d) at FRAC, with eps, LayerNorm or not, gains. cost: of rows, d, and the same."""

    run: Callable[[Context, Share, float, bool, Affine | None], Running[Share]]
    cost: Callable[[int, int, bool, bool], Cost]
    plain: Callable[[Tensor, float, bool], Tensor]


@dataclass(frozen=True)
class Approximation:
    """What stands in for the functions of a transformer."""

    gelu: Function
    silu: Function
    softmax: Weights
    norm: Norm


async def negative(ctx: Context, x: Share) -> Share:
    """1 where x < 0, else 0, at FRAC."""
    bits = await to_ring(ctx, await sign(ctx, x))
    return bits.raised(FRAC).reshape(*x.shape)


def negative_cost(elements: int) -> Cost:
    """Comparison and conversion."""
    return sign_cost(elements) + weighted_cost(elements)


async def _own_softmax(ctx: Context, x: Share, visible: Tensor | None) -> Share:
    """What is not visible is low already (`attention.Cache.scores`)."""
    return await softmax(ctx, x)


def _plain_weights(g: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor | None], Tensor]:
    def plain(x: Tensor, visible: Tensor | None) -> Tensor:
        values = g(x) if visible is None else g(x) * visible
        return values * approx.reciprocal(values.sum(-1, keepdim=True).clamp(min=2.0**-8))

    return plain


def _elementwise(
    run: Callable[[Context, Share], Running[Share]],
    cost: Callable[[int], Cost],
    plain: Callable[[Tensor], Tensor],
) -> Function:
    return Function(run, lambda shape: cost(prod(shape)), plain)


def _curve(curve: approx.Piecewise) -> Function:
    return _elementwise(
        lambda ctx, x: piecewise(ctx, x, curve), lambda n: piecewise_cost(n, curve), curve
    )


_QUAD = _elementwise(stand_ins.quad, stand_ins.quad_cost, approx.quad)
_RELU = _elementwise(stand_ins.relu, stand_ins.relu_cost, torch.relu)
_TWO_QUAD = Weights(
    stand_ins.two_quad, stand_ins.two_quad_cost, _plain_weights(lambda x: (x + 5).square())
)
_TWO_RELU = Weights(stand_ins.two_relu, stand_ins.two_relu_cost, _plain_weights(torch.relu))
_NORM = Norm(norm, norm_cost, approx.normalize)
APPROXIMATIONS: Mapping[Approx, Approximation] = {
    "puma": Approximation(
        _curve(GELU),
        _curve(SILU),
        Weights(_own_softmax, softmax_cost, approx.softmax, low=True),
        _NORM,
    ),
    "quad+2quad": Approximation(_QUAD, _QUAD, _TWO_QUAD, _NORM),
    "quad+2relu": Approximation(_QUAD, _QUAD, _TWO_RELU, _NORM),
    "friendly": Approximation(
        _RELU, _RELU, _TWO_RELU, Norm(stand_ins.centred, stand_ins.centred_cost, approx.centre)
    ),
}
_ALIKE: Mapping[str, Function] = {
    "exp": _elementwise(neg_exp, neg_exp_cost, approx.neg_exp),
    "reciprocal": _elementwise(reciprocal, reciprocal_cost, approx.reciprocal),
    "rsqrt": _elementwise(rsqrt, rsqrt_cost, approx.rsqrt),
    "comparison": _elementwise(negative, negative_cost, lambda x: (x < 0).to(torch.float64)),
}


def functions(which: Approx = "puma") -> dict[str, Function]:
    """All functions by name; those of rows take any shape."""
    chosen = APPROXIMATIONS[which]
    weights, norm = chosen.softmax, chosen.norm
    rows = {
        "softmax": Function(
            lambda ctx, x: _on_rows(x, lambda rows: weights.run(ctx, rows, None)),
            lambda shape: weights.cost(*_rows(shape)),
            lambda x: weights.plain(x, None),
        ),
        "layernorm": Function(
            lambda ctx, x: _on_rows(x, lambda rows: norm.run(ctx, rows, EPS, True, None)),
            lambda shape: norm.cost(*_rows(shape), True, False),
            lambda x: norm.plain(x, EPS, False),
        ),
    }
    return {"gelu": chosen.gelu, "silu": chosen.silu, **rows, **_ALIKE}


def _rows(shape: tuple[int, ...]) -> tuple[int, int]:
    return prod(shape[:-1]), shape[-1]


async def _on_rows(x: Share, run: Callable[[Share], Running[Share]]) -> Share:
    return (await run(x.reshape(*_rows(x.shape)))).reshape(*x.shape)


def plain_functions(which: Approx) -> Functions:
    """Norm, softmax and activation in float64, for a model in the clear."""
    chosen = APPROXIMATIONS[which]
    return functions_of(
        chosen.norm.plain, chosen.softmax.plain, chosen.gelu.plain, chosen.silu.plain
    )
