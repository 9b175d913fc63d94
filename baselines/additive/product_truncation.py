"""Products of two secrets with truncation, on correlations that are shared in Z_2^128.

CrypTen multiplies in Z_2^64 and shifts the shares: with 16 fractional bits that leaves too few bits
for Newton steps and repeated squaring, and more bits fail too often. Here the same 64-bit openings
are used, but the dealer shares its masks over 128 bits. For |x| < 2^63 the opened e = x − a, read as a
signed number, gives x = e + a over the integers, so that

    x·y  = e·f + e·b + f·a + c                 c = a·b        mod 2^128, P0 adds e·f
    x²   = e² + 2e·a + c                       c = a²

are shares of the whole product, from which any multiple and any shift is taken at once:

    product(K, s) = K·x·y / 2^s        quadratic(A, B, s) = (A·x² + B·x) / 2^s        within 1 ulp

as long as what is divided stays below 2^120 and the result below 2^63. What can fail is x = e + a:
x − a may leave 64 bits, with probability |x|·2^-64 (x as an integer). `truncation=local` accepts that;
with `exact` the dealer takes a from [−2^63 + 2^52, 2^63 − 2^52), so that |x| < 2^52 never fails, and
the distributions of e for two secrets x, x' differ by at most |x − x'|·2^-63.

| phase | from | to | what | payload | hop |
|---|---|---|---|---|---|
| offline | P2 | P1 | shares of a and b, and of c | 16·(\\|x\\| + \\|y\\|) + 16·\\|z\\| | 1 |
| offline (square) | P2 | P1 | shares of a and of a² | 32·\\|x\\| | 1 |
| online | P0, P1 | each other | x − a, y − b | 8·(\\|x\\| + \\|y\\|) | 1 |
| online (square) | P0, P1 | each other | x − a | 8·\\|x\\| | 1 |

Each learns e and f, which a and b hide. Online bytes and hops are those of CrypTen's products.
"""

import torch
from torch import Tensor

from baselines.additive import int128_kernels as kernels
from baselines.additive.context import Context, Parts, Shape
from baselines.additive.kernels import broadcast, run

EXACT_BITS = 52
_MIDDLE = -(1 << 63)


def product(ctx: Context, x: Tensor, y: Tensor, shift: int, factor: int = 1) -> Tensor:
    """Shares of factor·x∘y / 2^shift; shapes broadcast, `factor` is a public signed 64-bit number."""
    shape = broadcast(x, y)
    dealt = _deal_product(ctx, x, y, shape)
    if not dealt:
        return ctx.without_data(*shape)
    a_low, a_high, b_low, b_high, c_low, c_high = dealt
    e, f = ctx.open(x - a_low, y - b_low)
    operands = [t.broadcast_to(shape) for t in (e, f, a_low, a_high, b_low, b_high)]
    parts = (*operands, c_low, c_high)
    return run(kernels.product, shape, *parts, factor, shift, ctx.leads)


def quadratic(ctx: Context, x: Tensor, shift: int, square: int = 1, linear: int = 0) -> Tensor:
    """Shares of (square·x² + linear·x) / 2^shift, both coefficients public signed 64-bit numbers."""
    parts = _opened_square(ctx, x)
    if not parts:
        return x
    return run(kernels.quadratic, tuple(x.shape), *parts, square, linear, shift, ctx.leads)


def square_sum(ctx: Context, x: Tensor, shift: int, factor: int = 1) -> Tensor:
    """Shares of factor·Σ x² / 2^shift over the last axis, (..., n) → (..., 1)."""
    shape = (*x.shape[:-1], 1)
    parts = _opened_square(ctx, x)
    if not parts:
        return ctx.without_data(*shape)
    return run(kernels.square_sum, shape, *parts, factor, shift, ctx.leads)


def _opened_square(ctx: Context, x: Tensor) -> Parts:
    """e, then a and c as (low, high)."""
    dealt = _deal_square(ctx, x)
    return (*ctx.open(x - dealt[0]), *dealt) if dealt else ()


def _deal_square(ctx: Context, x: Tensor) -> Parts:
    """a and c = a², each as (low, high)."""
    shape, safe = tuple(x.shape), ctx.settings.exact_truncation

    def complete(zero: Parts, one: Parts) -> Parts:
        a = _mask(zero[0], one[0], safe)
        return (*_rest(a, zero[:2]), *_product_rest(a, a, zero[2:]))

    return ctx.deal("wide square", (shape,) * 4, (shape,), complete)[-4:]


def _deal_product(ctx: Context, x: Tensor, y: Tensor, out: Shape) -> Parts:
    """a, b and c = a·b, each as (low, high)."""
    p, q, safe = tuple(x.shape), tuple(y.shape), ctx.settings.exact_truncation

    def complete(zero: Parts, one: Parts) -> Parts:
        a, b = _mask(zero[0], one[0], safe), _mask(zero[2], one[1], safe)
        wide = a.broadcast_to(out), b.broadcast_to(out)
        return (*_rest(a, zero[:2]), *_rest(b, zero[2:4]), *_product_rest(*wide, zero[4:]))

    return ctx.deal("wide product", (p, p, q, q, out, out), (p, q), complete)[-6:]


def _mask(zero: Tensor, one: Tensor, safe: bool) -> Tensor:
    """A uniform signed number; if `safe`, one whose magnitude leaves room for 2^EXACT_BITS."""
    a = zero + one
    if not safe:
        return a
    edge = (1 << 63) - (1 << EXACT_BITS)
    return torch.where((a >= edge) | (a < -edge), a ^ _MIDDLE, a)


def _rest(a: Tensor, zero: Parts) -> Parts:
    """What P0's half of a leaves for P1, as (low, high)."""
    both = run(kernels.difference, (2, *a.shape), a, a >> 63, *zero)
    return both[0], both[1]


def _product_rest(a: Tensor, b: Tensor, zero: Parts) -> Parts:
    """What P0's half of a·b leaves for P1, as (low, high)."""
    both = run(kernels.product_rest, (2, *a.shape), a, b, *zero)
    return both[0], both[1]
