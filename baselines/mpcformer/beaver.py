"""Products of two secrets in Z_2^64 by Beaver's triples: no truncation, exact.

Correlation: a, b uniform and c = a·b, each shared. Opening e = x − a and f = y − b, 64 bits of each
element of x and y a party,

    x·y = (e + a)·(f + b) = e·f + e·b + a·f + c,        P0 adds e·f

| phase | from | to | what | payload | hop |
|---|---|---|---|---|---|
| offline | P2 | P1 | its share of c | 8·\\|z\\| | 1 |
| online | P0, P1 | each other | x − a, y − b | 8·(\\|x\\| + \\|y\\|) | 1 |

Each learns e and f, which a and b hide. Source: Beaver, Efficient multiparty protocols using circuit
randomization (1991), as CrypTen (arXiv:2109.00984) uses it.
"""

import torch
from torch import Tensor

from baselines.mpcformer.context import Context, Parts
from protocols.arith import ring


def multiply(ctx: Context, x: Tensor, y: Tensor) -> Tensor:
    """Shares of x∘y at the sum of the scales; shapes broadcast."""
    a, b, c = _triple(ctx, x, y)
    e, f = ctx.open(x - a, y - b)
    return e * (b + f if ctx.leads else b) + a * f + c


def _triple(ctx: Context, x: Tensor, y: Tensor) -> Parts:
    shape = tuple(torch.broadcast_shapes(x.shape, y.shape))

    def complete(zero: Parts, one: Parts) -> Parts:
        (a0, b0, c0), (a1, b1) = zero, one
        return ((a0 + a1) * (b0 + b1) - c0,)

    masks = (tuple(x.shape), tuple(y.shape))
    return ctx.deal("product", (*masks, shape), masks, complete)


def matmul(ctx: Context, x: Tensor, y: Tensor) -> Tensor:
    """Shares of x·yᵀ a head: x (h, n, k), y (h, m, k) → (h, n, m) at the sum of the scales."""
    a, b, c = _matrix_triple(ctx, x, y)
    e, f = ctx.open(x - a, y - b)
    return products(e, b + f if ctx.leads else b) + products(a, f) + c


def _matrix_triple(ctx: Context, x: Tensor, y: Tensor) -> Parts:
    def complete(zero: Parts, one: Parts) -> Parts:
        (a0, b0, c0), (a1, b1) = zero, one
        return (ring.matmul_t(a0 + a1, b0 + b1) - c0,)

    masks = (tuple(x.shape), tuple(y.shape))
    return ctx.deal("matmul", (*masks, (*x.shape[:2], y.shape[1])), masks, complete)


def products(x: Tensor, y: Tensor) -> Tensor:
    """x·yᵀ a head mod 2^64, also on tensors without data."""
    if x.is_meta or y.is_meta:
        return x @ y.transpose(1, 2)
    return ring.matmul_t(x, y)
