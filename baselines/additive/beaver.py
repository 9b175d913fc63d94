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

from torch import Tensor

from baselines.additive.context import Context, Parts, Shape
from baselines.additive.kernels import broadcast
from protocols.arith import ring


def multiply(ctx: Context, x: Tensor, y: Tensor) -> Tensor:
    """Shares of x∘y at the sum of the scales; shapes broadcast."""
    shape = broadcast(x, y)
    triple = _triple(ctx, x, y, shape)
    if not triple:
        return ctx.without_data(*shape)
    a, b, c = triple
    e, f = ctx.open(x - a, y - b)  # e = x − a, f = y − b, in the clear
    return e * (b + f if ctx.leads else b) + a * f + c  # e·[b] + [a]·f + [c], and e·f at P0


def _triple(ctx: Context, x: Tensor, y: Tensor, shape: Shape) -> Parts:
    def complete(zero: Parts, one: Parts) -> Parts:
        (a0, b0, c0), (a1, b1) = zero, one
        return ((a0 + a1) * (b0 + b1) - c0,)  # c1 = a·b − c0

    masks = (tuple(x.shape), tuple(y.shape))
    return ctx.deal("product", (*masks, shape), masks, complete)


def matmul(ctx: Context, x: Tensor, y: Tensor) -> Tensor:
    """Shares of x·yᵀ a head: x (h, n, k), y (h, m, k) → (h, n, m) at the sum of the scales."""
    shape = (*x.shape[:2], y.shape[1])
    triple = _matrix_triple(ctx, x, y, shape)
    if not triple:
        return ctx.without_data(*shape)
    a, b, c = triple
    e, f = ctx.open(x - a, y - b)  # x − a (h, n, k), y − b (h, m, k), in the clear
    own = ring.matmul_t(e, b + f if ctx.leads else b)  # e·[b]ᵀ, and e·fᵀ at P0   (h, n, m)
    return own + ring.matmul_t(a, f) + c  # + [a]·fᵀ + [c]


def _matrix_triple(ctx: Context, x: Tensor, y: Tensor, shape: Shape) -> Parts:
    def complete(zero: Parts, one: Parts) -> Parts:
        (a0, b0, c0), (a1, b1) = zero, one
        return (ring.matmul_t(a0 + a1, b0 + b1) - c0,)  # c1 = a·bᵀ − c0

    masks = (tuple(x.shape), tuple(y.shape))
    return ctx.deal("matmul", (*masks, shape), masks, complete)
