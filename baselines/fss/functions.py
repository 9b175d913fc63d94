"""The non-linear functions on masked values: protocol, float64 twin and cost of each, under their name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import torch
from torch import Tensor

from baselines.fss import approx, costs
from baselines.fss.activation import GELU, SILU, activate
from baselines.fss.context import FRAC, Context, gate
from baselines.fss.costs import Cost
from baselines.fss.drelu import drelu, scaled, select
from baselines.fss.exponential import decay
from baselines.fss.float_lut import float_look_up, float_table
from baselines.fss.lut import Table
from baselines.fss.norm import normalize
from baselines.fss.softmax import WEIGHT_FRAC, softmax
from protocols.transformer.forward import Functions, functions_of

NORM_EPS = 1e-5


@dataclass(frozen=True)
class Function:
    """`protocol`: masked values at FRAC → masked values at out_frac. `plain`: in float64. `cost`: of a
    tensor of a shape, in a ring of so many bits."""

    protocol: Callable[[Context, Tensor], Tensor]
    plain: Callable[[Tensor], Tensor]
    cost: Callable[[tuple[int, ...], int], Cost]
    out_frac: int = FRAC


@gate("negative")
def negative(ctx: Context, x: Tensor) -> Tensor:
    """The masked integers [x < 0]. Two hops."""
    share = scaled(ctx, drelu(ctx, x, ctx.bits), 1, ctx.bits)
    return ctx.plus(-ctx.open(share, ctx.bits), 1)


@gate("reciprocal")
def reciprocal(ctx: Context, x: Tensor) -> Tensor:
    """1/x at FRAC, of either sign: ten hops."""
    positive = drelu(ctx, x, ctx.bits)
    inverse = float_look_up(ctx, _signed(ctx, positive, x), inverses())
    return _signed(ctx, positive, inverse)


def _signed(ctx: Context, positive: Tensor, x: Tensor) -> Tensor:
    """x where the bit is set, else −x. One hop."""
    return 2 * ctx.open(select(ctx, positive, x, ctx.bits), ctx.bits) - x


@lru_cache
def inverses() -> Table:
    """1/x at FRAC of x at FRAC."""
    return float_table(lambda x: 2.0**FRAC / x, FRAC)


@lru_cache
def inverse_roots() -> Table:
    """1/√x at FRAC of x at FRAC."""
    return float_table(lambda x: torch.rsqrt(x * 2.0**-FRAC), FRAC)


def _is_negative(x: Tensor) -> Tensor:
    """[x < 0] of x as fixed point has it."""
    return (torch.round(x * 2.0**FRAC) < 0).to(torch.float64)


FUNCTIONS: Mapping[str, Function] = {
    "gelu": Function(
        lambda ctx, x: activate(ctx, x, GELU),
        GELU,
        lambda shape, bits: costs.activate(prod(shape), bits, GELU.bits),
    ),
    "silu": Function(
        lambda ctx, x: activate(ctx, x, SILU),
        SILU,
        lambda shape, bits: costs.activate(prod(shape), bits, SILU.bits),
    ),
    "softmax": Function(
        softmax,
        approx.softmax,
        lambda shape, bits: costs.softmax(prod(shape) // shape[-1], shape[-1], bits),
        WEIGHT_FRAC,
    ),
    "layernorm": Function(
        lambda ctx, x: normalize(ctx, x, NORM_EPS, False),
        lambda x: approx.normalize(x, NORM_EPS, False),
        lambda shape, bits: costs.normalize(prod(shape) // shape[-1], shape[-1], bits, False),
    ),
    "exp": Function(
        lambda ctx, x: decay(ctx, -x, ctx.bits),
        lambda x: approx.decay(-x),
        lambda shape, bits: costs.decay(prod(shape), bits, bits),
    ),
    "reciprocal": Function(
        reciprocal,
        approx.reciprocal,
        lambda shape, bits: costs.reciprocal(prod(shape), bits),
    ),
    "rsqrt": Function(
        lambda ctx, x: float_look_up(ctx, x, inverse_roots()),
        approx.rsqrt,
        lambda shape, bits: costs.float_look_up(prod(shape), bits),
    ),
    "comparison": Function(
        negative, _is_negative, lambda shape, bits: costs.negative(prod(shape), bits), out_frac=0
    ),
}

PLAIN: Functions = functions_of(approx.normalize, approx.softmax, GELU, SILU)
