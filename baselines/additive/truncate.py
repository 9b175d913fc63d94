"""Truncation of a secret in Z_2^64 by s bits: shares of x / 2^s, within 1 ulp.

**local** (as CrypTen): each party shifts its share arithmetically, and P0 adds 1, which centres the
error of two roundings down. No message. The two signed shares add up to x unless their sum wraps, and
then the result is off by 2^(64−s): with a uniform share this has probability |x|·2^-64 an element.
(A product of 16-bit-scale numbers with |value| ≤ 4: 2^-30.)

**exact**: never fails for |x| < 2^62. Correlation: r uniform, with shares of r >> s (logical) and of its
highest bit m. The parties open c = x + 2^62 + r. As x + 2^62 < 2^63, that sum wraps if and only if m
is 1 and c's highest bit is not, so over the integers x + 2^62 = c − r + 2^64·m·(1 − msb(c)), and

    x / 2^s = (c >> s) − (r >> s) + 2^(64−s)·m·(1 − msb(c)) − 2^(62−s)      up to 1 ulp, unbiased

| phase | from | to | what | payload | hop |
|---|---|---|---|---|---|
| offline (exact) | P2 | P1 | its shares of r >> s and m | 16·n | 1 |
| online (exact) | P0, P1 | each other | x + 2^62 + r | 8·n | 1 |

Each learns c, which r hides perfectly. Source: SecureML (Mohassel, Zhang 2017) for local; the wrap
by the highest bits as in Dalskov, Escudero, Keller (arXiv:1910.12435) for exact.
"""

import torch
from torch import Tensor

from baselines.additive.context import Context, Parts

_OFFSET = 1 << 62


def truncate(ctx: Context, x: Tensor, bits: int) -> Tensor:
    """Shares of x / 2^bits, 0 ≤ bits < 62."""
    if bits == 0:
        return x
    if ctx.settings.exact_truncation:
        return _exact(ctx, x, bits)
    return x if x.is_meta else ctx.public(x >> bits, 1)


def _exact(ctx: Context, x: Tensor, bits: int) -> Tensor:
    mask = _mask(ctx, x, bits)
    if not mask:
        return x
    r, shifted, top = mask
    (c,) = ctx.open(ctx.public(x + r, _OFFSET))
    wrapped = top * ((c >= 0).to(torch.int64) << (64 - bits))
    return ctx.public(wrapped - shifted, logical_shift(c, bits) - (_OFFSET >> bits))


def _mask(ctx: Context, x: Tensor, bits: int) -> Parts:
    def complete(zero: Parts, one: Parts) -> Parts:
        r = zero[0] + one[0]
        return logical_shift(r, bits) - zero[1], logical_shift(r, 63) - zero[2]

    shape = tuple(x.shape)
    return ctx.deal(f"truncation by {bits}", (shape, shape, shape), (shape,), complete)


def logical_shift(x: Tensor, bits: int) -> Tensor:
    """x >> bits, 0 < bits, on the unsigned reading of int64."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
