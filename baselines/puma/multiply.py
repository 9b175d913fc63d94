"""Products of two shared values, and the re-sharing that follows them.

With x = x_0 + x_1 + x_2 and y likewise, each role computes locally, on elements or on matrices,

    t_i = x_i·y_i + x_i·y_(i+1) + x_(i+1)·y_i            t_0 + t_1 + t_2 = x·y

adds its term of a fresh sharing of zero, α_i = F(κ_i) − F(κ_(i+1)), and sends the sum to the role that
lacks it:

| from | to | what | bits an element | hop |
|---|---|---|---|---|
| P_i | P_(i-1) | t_i + α_i | 64 | 1 |

P_(i-1) learns t_i + α_i, which F(κ_(i+1)) hides. Products add up their scales: a product of two
values with f fractional bits is re-shared by `truncate.truncate` instead, which costs no more than
the truncation alone. Source: ABY3 (ePrint 2018/403), section 3.2; Araki et al. (CCS 2016).
"""

from torch import Tensor

from baselines.puma.context import Context
from baselines.puma.cost import Cost, rotation
from baselines.puma.share import Share, Term
from protocols.arith import ring


def product(x: Share, y: Share) -> Term:
    """x·y, elementwise with broadcasting: local."""
    value = y.first + y.second
    value = x.first * value  # x_i·(y_i + y_(i+1))
    value += x.second * y.first  # + x_(i+1)·y_i
    return Term(value, x.frac + y.frac)


def square_sum(x: Share) -> Term:
    """Σ x² over the last dimension: local."""
    value = 2 * x.second
    value += x.first
    value *= x.first
    return Term(value.sum(-1), 2 * x.frac)


def matrix_product(x: Share, w: Share) -> Term:
    """x·wᵀ a head: x (h, n, k), w (h, m, k) → (h, n, m), local."""
    value = ring.matmul_t(x.first, w.first + w.second)  # x_i·(w_i + w_(i+1))ᵀ   (h, n, m)
    value += ring.matmul_t(x.second, w.first)  # + x_(i+1)·w_iᵀ
    return Term(value, x.frac + w.frac)


async def reshare(ctx: Context, x: Term) -> Share:
    """A share of what the terms add up to."""
    own = _masked(ctx, x.value)
    return Share(own, await ctx.rotate(own), x.frac)


def _masked(ctx: Context, value: Tensor) -> Tensor:
    return ctx.draw_zero(*value.shape).add_(value)


async def multiply(ctx: Context, x: Share, y: Share) -> Share:
    """x·y at the sum of their scales."""
    return await reshare(ctx, product(x, y))


def reshare_cost(elements: int) -> Cost:
    """64 bits an element from each role, 1 hop."""
    return rotation(8 * elements)
