"""Products of two masked values: elementwise, a sum of squares, matrices.

    x·y + r′ = x̂·ŷ − x̂·[b] − [a]·ŷ + [a·b + r′]           x̂ = x + a, ŷ = y + b; P0 adds x̂·ŷ

| gate | key, bits | hops |
|---|---|---|
| multiply | n of each element of x, of y and of the product | 0 |
| square_sum of rows | n of each element and of each row | 0 |
| matmul | n of each element of both operands and of the product | 1 |

| phase | from | to | what | payload | hop |
|---|---|---|---|---|---|
| offline | P2 | P0, P1 | shares of a, b, a·b + r′ | as above, packed | 1 |

No message online but the opening of the product, which is part of matmul. Source: SIGMA (ePrint 2023/1269),
section 4; Boyle et al. (TCC 2019) for masked wires.
"""

from torch import Tensor

from baselines.fss.context import Context, gate
from protocols.arith import ring


@gate("multiply")
def multiply(ctx: Context, x: Tensor, y: Tensor, width: int) -> Tensor:
    """Shares of x∘y mod 2^width at the sum of the scales; y broadcasts to x."""
    shape = tuple(x.shape)
    out = ctx.mask(shape, width)
    a = ctx.shared(shape, width, lambda: x)
    b = ctx.shared(tuple(y.shape), width, lambda: y)
    rest = ctx.shared(shape, width, lambda: x * y + out)
    if not ctx.online:
        return out
    return x * ((y if ctx.leads else 0) - b) - a * y + rest


@gate("square_sum")
def square_sum(ctx: Context, x: Tensor, width: int) -> Tensor:
    """Shares of Σ x² of the rows, (…, k) → (…, 1), at twice the scale."""
    shape = (*x.shape[:-1], 1)
    out = ctx.mask(shape, width)
    a = ctx.shared(tuple(x.shape), width, lambda: x)
    rest = ctx.shared(shape, width, lambda: x.square().sum(-1, keepdim=True) + out)
    if not ctx.online:
        return out
    own = x * ((x if ctx.leads else 0) - 2 * a)
    return own.sum(-1, keepdim=True) + rest


@gate("matmul")
def matmul(ctx: Context, x: Tensor, y: Tensor, y_share: Tensor) -> Tensor:
    """The masked x·yᵀ a head: x (h, n, k), y (h, m, k) → (h, n, m). y_share: of y's mask, at P0 and P1."""
    shape, width = (*x.shape[:2], y.shape[1]), ctx.bits
    out = ctx.mask(shape, width)
    a = ctx.shared(tuple(x.shape), width, lambda: x)
    rest = ctx.shared(shape, width, lambda: ring.matmul_t(x, y) + out)
    if not ctx.online:
        return out
    factor = y - y_share if ctx.leads else -y_share
    share = ring.matmul_t(x, factor) - ring.matmul_t(a, y) + rest  # x̂·(ŷ − [b])ᵀ − [a]·ŷᵀ + [·]
    return ctx.open(share, width)
