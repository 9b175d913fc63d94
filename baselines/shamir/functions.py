"""The non-linear functions on Shamir shares: protocol, cost and float64 approximation of each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from baselines.shamir.compare import below, below_cost
from baselines.shamir.context import Context
from baselines.shamir.cost import Cost
from baselines.shamir.exponential import neg_exp, neg_exp_cost
from baselines.shamir.group import Group
from baselines.shamir.norm import norm, norm_cost
from baselines.shamir.openings import Running
from baselines.shamir.piecewise import piecewise, piecewise_cost
from baselines.shamir.reciprocal import reciprocal, reciprocal_cost
from baselines.shamir.rsqrt import rsqrt, rsqrt_cost
from baselines.shamir.share import FRAC, Share
from baselines.shamir.softmax import softmax, softmax_cost
from protocols.shares import approximations as approx
from protocols.shares.approximations import GELU, SILU, Piecewise
from protocols.transformer.forward import Functions, functions_of
from protocols.workload import NonlinearOp

EPS = 1e-5  # of the layernorm experiment


@dataclass(frozen=True)
class Function:
    """run: x at FRAC → the same shape at FRAC. cost: of a shape. plain: the approximation."""

    run: Callable[[Context, Share], Running[Share]]
    cost: Callable[[Group, tuple[int, ...]], Cost]
    plain: Callable[[Tensor], Tensor]


async def negative(ctx: Context, x: Share) -> Share:
    """1 where x < 0, else 0, at FRAC."""
    return (await below(ctx, x)).reshape(*x.shape).raised(FRAC)


def _elementwise(
    run: Callable[[Context, Share], Running[Share]],
    cost: Callable[[Group, int], Cost],
    plain: Callable[[Tensor], Tensor],
) -> Function:
    return Function(run, lambda group, shape: cost(group, prod(shape)), plain)


def _curve(curve: Piecewise) -> Function:
    return _elementwise(
        lambda ctx, x: piecewise(ctx, x, curve),
        lambda group, n: piecewise_cost(group, n, curve),
        curve,
    )


def _rows(shape: tuple[int, ...]) -> tuple[int, int]:
    return prod(shape[:-1]), shape[-1]


async def _on_rows(x: Share, run: Callable[[Share], Running[Share]]) -> Share:
    return (await run(x.reshape(*_rows(x.shape)))).reshape(*x.shape)


SILU_FUNCTION = _curve(SILU)
FUNCTIONS: Mapping[NonlinearOp, Function] = {
    "gelu": _curve(GELU),
    "softmax": Function(
        lambda ctx, x: _on_rows(x, lambda rows: softmax(ctx, rows)),
        lambda group, shape: softmax_cost(group, *_rows(shape)),
        approx.softmax,
    ),
    "layernorm": Function(
        lambda ctx, x: _on_rows(x, lambda rows: norm(ctx, rows, EPS)),
        lambda group, shape: norm_cost(group, *_rows(shape), affine=False),
        lambda x: approx.layer_norm(x, EPS),
    ),
    "exp": _elementwise(neg_exp, neg_exp_cost, approx.neg_exp),
    "reciprocal": _elementwise(reciprocal, reciprocal_cost, approx.reciprocal),
    "rsqrt": _elementwise(rsqrt, rsqrt_cost, approx.rsqrt),
    "comparison": _elementwise(negative, below_cost, lambda x: (x < 0).to(torch.float64)),
}


PLAIN: Functions = functions_of(approx.normalize, approx.softmax, GELU, SILU)
