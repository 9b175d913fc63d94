"""The sign of a masked value from one DPF key: DReLU(x) = [x ≥ 0], and what is built on its bit.

x = x̂ − r mod 2^m is negative if its highest bit is set. With z′ for the lower m − 1 bits of z,

    [x < 0] = msb(x̂) ⊕ msb(r) ⊕ [r′ > x̂′]              (a borrow)

and the last term is one comparison with the point r′ (`dpf`). The bit is masked by one more.

| gate | key, bits | hops | bits a party |
|---|---|---|---|
| drelu of m bits | DPF of m − 1 bits, and 1 | 1 | 1 |
| select: b·x | 4·m | 0 | – |
| scaled: b·c for public c | 2·m | 0 | – |

**select**: b = b̂ ⊕ s, so b = b̂ + s·(1 − 2·b̂) and b·x = b·(x̂ − r), with shares of s, r, s·r and r′:

    b̂·(x̂ − [r]) + (1 − 2·b̂)·([s]·x̂ − [s·r]) + [r′]

| phase | from | to | what | payload | hop |
|---|---|---|---|---|---|
| offline | P2 | P0, P1 | a key for each element, as above | ⌈n·bits/8⌉ | 1 |
| online (drelu) | P0, P1 | each other | shares of the masked bit | ⌈n/8⌉ | 1 |

Each learns the masked bit. Source: SIGMA (ePrint 2023/1269), section 4, after Storrier et al.
"""

from torch import Tensor

from baselines.fss.bits import top_bit
from baselines.fss.context import Context, gate


@gate("drelu")
def drelu(ctx: Context, x: Tensor, width: int) -> Tensor:
    """The masked bit [x ≥ 0] of x mod 2^width, as a signed number."""
    return ctx.open(drelu_share(ctx, x, width), 1)


def drelu_share(ctx: Context, x: Tensor, width: int) -> Tensor:
    """The share of it."""
    shape = tuple(x.shape)
    out = ctx.mask(shape, 1)
    key = ctx.point(shape, width - 1, lambda: x)
    rest = ctx.shared(shape, 1, lambda: out ^ top_bit(x, width) ^ 1)  # [r′ ⊕ msb(r) ⊕ 1]
    if not ctx.online:
        return out
    own = key.above(x) ^ rest
    return own ^ top_bit(x, width) if ctx.leads else own


@gate("select")
def select(ctx: Context, bit: Tensor, x: Tensor, width: int) -> Tensor:
    """Shares of b·x mod 2^width: b masked by one bit, x by `width` bits or more, of one shape."""
    shape = tuple(x.shape)
    out = ctx.mask(shape, width)
    s = ctx.shared(shape, width, lambda: bit)
    r = ctx.shared(shape, width, lambda: x)
    product = ctx.shared(shape, width, lambda: bit * x)
    rest = ctx.shared(shape, width, lambda: out)
    if not ctx.online:
        return out
    known = x - r if ctx.leads else -r
    return bit * known + (1 - 2 * bit) * (s * x - product) + rest


@gate("scaled")
def scaled(ctx: Context, bit: Tensor, factor: Tensor | int, width: int) -> Tensor:
    """Shares of b·factor mod 2^width, for a public factor of b's shape or one number."""
    shape = tuple(bit.shape)
    out = ctx.mask(shape, width)
    s, rest = ctx.shared(shape, width, lambda: bit), ctx.shared(shape, width, lambda: out)
    if not ctx.online:
        return out
    known = (1 - 2 * bit) * s
    return factor * (known + bit if ctx.leads else known) + rest
