"""Comparisons of secrets, from the bits of their difference (`binary`).

    less_than_zero(x) = B2A(highest bit of A2B(x))         1664 + 64 = 1728 bits a party, 8 hops
    is_zero(x)        = B2A(zero test of x)                832, 7 hops
    relu(x)           = x·(1 − less_than_zero(x))          1728 + 128 = 1856, 9 hops

Exact for every x in Z_2^64. Messages, what is learnt and sources: `binary`, `beaver`.
"""

from torch import Tensor

from baselines.additive.a2b import add_bits, is_zero_bit, to_arithmetic
from baselines.additive.beaver import multiply
from baselines.additive.context import Context


def less_than_zero(ctx: Context, x: Tensor) -> Tensor:
    """Shares of the integers [x < 0]."""
    return to_arithmetic(ctx, (add_bits(ctx, x) >> 63) & 1)


def is_zero(ctx: Context, x: Tensor) -> Tensor:
    """Shares of the integers [x = 0]."""
    return to_arithmetic(ctx, is_zero_bit(ctx, x))


def relu(ctx: Context, x: Tensor) -> Tensor:
    """Shares of max(x, 0), at x's scale."""
    return multiply(ctx, x, ctx.public(-less_than_zero(ctx, x), 1))
