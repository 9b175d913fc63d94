"""Shifts of a masked value of m bits by s: x >> s, exact.

With z′ for the lower s bits of z and x̂ = x + r mod 2^m,

    x >> s = (x̂ >> s) − (r >> s) − [r′ > x̂′]                   mod 2^(m−s)

The borrow is one comparison (`dpf`). It is opened under a bit c, of which the parties have arithmetic
shares; their last bits mask it. That is **truncate-reduce**: the ring shrinks to m − s bits.

**truncate** keeps the ring, for |x| < 2^(m−2) − 2^(s−1): x + 2^(m−2) is below 2^(m−1), so that its sum
with r wraps if and only if r's highest bit is set and the sum's is not, and then 2^(m−s) is missing. It
rounds to the nearest: 2^(s−1) is added first.

| gate | key, bits | hops | bits a party |
|---|---|---|---|
| reduce | DPF of s bits, 2·(m − s) | 1 | 1 |
| truncate | DPF of s bits, 2·m, and s | 2 | 1, then m |

| phase | from | to | what | payload | hop |
|---|---|---|---|---|---|
| offline | P2 | P0, P1 | a key for each element, as above | ⌈n·bits/8⌉ | 1 |
| online | P0, P1 | each other | shares of the masked borrow | ⌈n/8⌉ | 1 |
| online (truncate) | P0, P1 | each other | shares of the masked result | ⌈n·m/8⌉ | 1 |

Each learns the masked borrow and result. Source: SIGMA (ePrint 2023/1269), section 4.
"""

from collections.abc import Callable

from torch import Tensor

from baselines.fss.bits import low_bits
from baselines.fss.context import Context, gate

Finish = Callable[[Tensor], Tensor]  # the opened bit → shares of the result


@gate("reduce")
def reduce(ctx: Context, x: Tensor, width: int, bits: int) -> tuple[Tensor, Finish]:
    """Truncate-reduce: the share of a bit to open, and what makes shares of x >> bits, in width − bits
    bits, of the opened bit."""
    shape, rest_width = tuple(x.shape), width - bits
    out = ctx.mask(shape, rest_width)
    share, borrow = _borrow(ctx, x, bits, rest_width)
    rest = ctx.shared(shape, rest_width, lambda: out - shift(x, width, bits))

    def finish(opened: Tensor) -> Tensor:
        if not ctx.online:
            return out
        own = rest - borrow(opened)
        return own + shift(x, width, bits) if ctx.leads else own

    return share, finish


@gate("truncate")
def truncate(ctx: Context, x: Tensor, bits: int) -> Tensor:
    """The masked x / 2^bits, of |x| < 2^(n − 2) − 2^(bits − 1), rounded to the nearest."""
    width, shape = ctx.bits, tuple(x.shape)
    offset = 1 << (width - 2)
    x = ctx.plus(x, offset + (1 << (bits - 1)))
    out = ctx.mask(shape, width)
    share, borrow = _borrow(ctx, x, bits, width)
    rest = ctx.shared(shape, width, lambda: out - shift(x, width, bits))
    top = ctx.shared(shape, bits, lambda: shift(x, width, width - 1))
    opened = ctx.open(share, 1)
    if not ctx.online:
        return out
    wrapped = (top * (1 - shift(x, width, width - 1))) << (width - bits)
    own = rest - borrow(opened) + wrapped
    if ctx.leads:
        own = own + shift(x, width, bits) - (offset >> bits)
    return ctx.open(own, width)


def shift(x: Tensor, width: int, bits: int) -> Tensor:
    """The lowest `width` bits of x, read as unsigned, >> bits, 0 < bits."""
    return ((x & low_bits(width)) >> bits) & low_bits(width - bits)


def _borrow(ctx: Context, x: Tensor, bits: int, width: int) -> tuple[Tensor, Finish]:
    """The share of the masked borrow, and its share mod 2^width once that is opened."""
    shape = tuple(x.shape)
    key = ctx.point(shape, bits, lambda: x)
    mask = ctx.mask(shape, 1)
    c = ctx.shared(shape, width, lambda: mask)
    share = key.above(x) ^ (c & 1) if ctx.online else mask

    def borrow(opened: Tensor) -> Tensor:
        own = (1 - 2 * opened) * c
        return own + opened if ctx.leads else own

    return share, borrow
