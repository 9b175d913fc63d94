"""The non-linear functions by name: protocol, cost and float64 approximation of each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from baselines.puma import approx
from baselines.puma.approx import FRAC, GELU, SILU
from baselines.puma.bit_injection import to_ring, weighted_cost
from baselines.puma.compare import sign, sign_cost
from baselines.puma.context import Context
from baselines.puma.cost import Cost
from baselines.puma.exponential import neg_exp, neg_exp_cost
from baselines.puma.norm import norm, norm_cost
from baselines.puma.piecewise import piecewise, piecewise_cost
from baselines.puma.reciprocal import reciprocal, reciprocal_cost
from baselines.puma.round_scheduler import Running
from baselines.puma.rsqrt import rsqrt, rsqrt_cost
from baselines.puma.share import Share
from baselines.puma.softmax import softmax, softmax_cost

EPS = 1e-5  # of the layernorm experiment


@dataclass(frozen=True)
class Function:
    """run: x at FRAC → the same shape at FRAC. cost: of a shape. plain: the approximation."""

    run: Callable[[Context, Share], Running[Share]]
    cost: Callable[[tuple[int, ...]], Cost]
    plain: Callable[[Tensor], Tensor]


async def negative(ctx: Context, x: Share) -> Share:
    """1 where x < 0, else 0, at FRAC."""
    bits = await to_ring(ctx, await sign(ctx, x))
    return bits.raised(FRAC).reshape(*x.shape)


def negative_cost(elements: int) -> Cost:
    """Comparison and conversion."""
    return sign_cost(elements) + weighted_cost(elements)


def _rows(shape: tuple[int, ...]) -> tuple[int, int]:
    return prod(shape[:-1]), shape[-1]


async def _on_rows(x: Share, run: Callable[[Share], Running[Share]]) -> Share:
    return (await run(x.reshape(*_rows(x.shape)))).reshape(*x.shape)


FUNCTIONS: Mapping[str, Function] = {
    "gelu": Function(
        run=lambda ctx, x: piecewise(ctx, x, GELU),
        cost=lambda shape: piecewise_cost(prod(shape), GELU),
        plain=approx.gelu,
    ),
    "silu": Function(
        run=lambda ctx, x: piecewise(ctx, x, SILU),
        cost=lambda shape: piecewise_cost(prod(shape), SILU),
        plain=approx.silu,
    ),
    "softmax": Function(
        run=lambda ctx, x: _on_rows(x, lambda rows: softmax(ctx, rows)),
        cost=lambda shape: softmax_cost(*_rows(shape)),
        plain=approx.softmax,
    ),
    "layernorm": Function(
        run=lambda ctx, x: _on_rows(x, lambda rows: norm(ctx, rows, EPS)),
        cost=lambda shape: norm_cost(*_rows(shape), affine=False),
        plain=lambda x: approx.layer_norm(x, EPS),
    ),
    "exp": Function(
        run=neg_exp,
        cost=lambda shape: neg_exp_cost(prod(shape)),
        plain=approx.neg_exp,
    ),
    "reciprocal": Function(
        run=reciprocal,
        cost=lambda shape: reciprocal_cost(prod(shape)),
        plain=approx.reciprocal,
    ),
    "rsqrt": Function(
        run=rsqrt,
        cost=lambda shape: rsqrt_cost(prod(shape)),
        plain=approx.rsqrt,
    ),
    "comparison": Function(
        run=negative,
        cost=lambda shape: negative_cost(prod(shape)),
        plain=lambda x: (x < 0).to(torch.float64),
    ),
}
