"""Probabilistic truncation by s bits, fused with the re-sharing of a product.

Input: terms u_0 + u_1 + u_2 = x in Z_2^64 with |x| < 2^62 (a product's, or a share's first parts).
Output: a share of y = floor(x / 2^s) + b with b ∈ {0, 1}, P(b = 1) = the fraction cut off. So the
error is below one unit, 0 on average, and 0 always where x is a multiple of 2^s; there is no wrap
failure. Opened to P0 and P1, under a pad that P2 knows:

    r = w0 + w1 − u_2                   w0 ← κ_0 (P0, P2), w1 ← κ_2 (P1, P2)
    c = x + 2^62 + r = c0 + c1          c0 = u_0 + w0 + 2^62 (P0), c1 = u_1 + w1 (P1)

x + 2^62 has a clear top bit, so with r = r' + 2^63·m, c = c' + 2^63·n (r', c' < 2^63) the carry into
the top bit is n ⊕ m, and

    y = ⌊c'/2^s⌋ − ⌊r'/2^s⌋ + 2^(63−s)·(n ⊕ m) − 2^(62−s),    n ⊕ m = n + (1 − 2n)·m

is linear in ⌊r'/2^s⌋ and m, which P2 shares between P0 and P1: h0, m0 ← κ_0, the rest in a message.
P0 and P1 then hold y = y0 + y1 and re-share it: z_0 ← κ_0, z_2 ← κ_2, z_1 = (y0 − z_0) + (y1 − z_2).

| from | to | what | bits an element | hop |
|---|---|---|---|---|
| P0, P1 | P1, P0 | c0, c1 | 64 each | 1 |
| P2 | P1 | ⌊r'/2^s⌋ − h0, m − m0 | 128 | 1 |
| P0, P1 | P1, P0 | y0 − z_0, y1 − z_2 | 64 each | 2 |

128 bits from each role, 2 hops, whether x is a share or an unshared product: the multiplication
before it is free. P0 learns c, P1 learns c: uniform, since w1 hides c from P0 and w0 hides it from P1;
the other messages are hidden by h0, m0, z_0, z_2, each unknown to its receiver.

Sources: truncation by a masked opening, Dalskov, Escudero, Keller (ePrint 2020/1330), section 5; the
fusion with multiplication as in ABY3 (ePrint 2018/403), section 5.1.2.
"""

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from baselines.puma.context import Context
from baselines.puma.cost import Cost, one_round
from baselines.puma.multiply import product
from baselines.puma.round_scheduler import Round
from baselines.puma.share import Share, Term
from protocols.party import P0, P1, P2

_LOW = np.int64((1 << 63) - 1)
_OFFSET = 1 << 62


async def truncate(ctx: Context, x: Term, bits: int) -> Share:
    """x at `bits` fewer fractional bits. 1 ≤ bits ≤ 62, |x| < 2^(62 − x.frac)."""
    if not 1 <= bits <= 62:
        raise ValueError(f"cannot truncate by {bits} bits")
    play = (_opener, _helped_opener, _helper)[ctx.index]
    first, second = await play(ctx, x.value.reshape(-1), bits)
    shape = x.value.shape
    return Share(first.reshape(shape), second.reshape(shape), x.frac - bits)


async def _opener(ctx: Context, u: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """P0."""
    c0, h0, m0, z0 = ctx.draw(0, 4, u.numel())
    c0.add_(u).add_(_OFFSET)
    c1 = (await Round({P1: (c0,)}, {P1: 1}))[P1][0]
    masked = torch.empty_like(u)
    _open_sum(bits, *_arrays(c0, c1, h0, m0, z0, masked))
    other = (await Round({P1: (masked,)}, {P1: 1}))[P1][0]
    return z0, other.add_(masked)


async def _helped_opener(ctx: Context, u: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """P1."""
    c1, z2 = ctx.draw(2, 2, u.numel())
    c1.add_(u)
    received = await Round({P0: (c1,)}, {P0: 1, P2: 1})
    (c0,), (corrections,) = received[P0], received[P2]
    masked = torch.empty_like(u)
    _open_correction(bits, *_arrays(c0, c1, corrections, z2, masked))
    other = (await Round({P0: (masked,)}, {P0: 1}))[P0][0]
    return other.add_(masked), z2


async def _helper(ctx: Context, u: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """P2."""
    w0, h0, m0, z0 = ctx.draw(0, 4, u.numel())
    w1, z2 = ctx.draw(2, 2, u.numel())
    corrections = torch.empty(2, u.numel(), dtype=torch.int64)
    _correct(bits, *_arrays(u, w0, w1, h0, m0, corrections))
    await Round({P1: (corrections,)})
    await Round()
    return z2, z0


def _arrays(*tensors: Tensor) -> list[NDArray[np.int64]]:
    return [tensor.numpy() for tensor in tensors]


@njit(cache=True, nogil=True)
def _open_sum(
    s: int,
    c0: NDArray[np.int64],
    c1: NDArray[np.int64],
    h0: NDArray[np.int64],
    m0: NDArray[np.int64],
    z0: NDArray[np.int64],
    out: NDArray[np.int64],
) -> None:
    """y0 − z_0 with y0 = ⌊c'/2^s⌋ + 2^(63−s)·(n + (1 − 2n)·m0) − 2^(62−s) − h0."""
    centre = np.int64(1) << (62 - s)
    for i in range(out.size):
        c = c0[i] + c1[i]
        m = (m0[i] if c >= 0 else 1 - m0[i]) << (63 - s)
        out[i] = ((c & _LOW) >> s) + m - centre - h0[i] - z0[i]


@njit(cache=True, nogil=True)
def _open_correction(
    s: int,
    c0: NDArray[np.int64],
    c1: NDArray[np.int64],
    corrections: NDArray[np.int64],
    z2: NDArray[np.int64],
    out: NDArray[np.int64],
) -> None:
    """y1 − z_2 with y1 = 2^(63−s)·(1 − 2n)·m1 − h1."""
    h1, m1 = corrections[0], corrections[1]
    for i in range(out.size):
        m = m1[i] if c0[i] + c1[i] >= 0 else -m1[i]
        out[i] = (m << (63 - s)) - h1[i] - z2[i]


@njit(cache=True, nogil=True)
def _correct(
    s: int,
    u: NDArray[np.int64],
    w0: NDArray[np.int64],
    w1: NDArray[np.int64],
    h0: NDArray[np.int64],
    m0: NDArray[np.int64],
    out: NDArray[np.int64],
) -> None:
    """h1 = ⌊r'/2^s⌋ − h0 and m1 = m − m0 of r = w0 + w1 − u_2."""
    h1, m1 = out[0], out[1]
    for i in range(u.size):
        r = w0[i] + w1[i] - u[i]
        h1[i] = ((r & _LOW) >> s) - h0[i]
        m1[i] = (1 if r < 0 else 0) - m0[i]


async def multiply_truncate(ctx: Context, x: Share, y: Share, bits: int) -> Share:
    """x·y at `bits` fewer fractional bits than the sum of their scales."""
    return await truncate(ctx, product(x, y), bits)


def truncate_cost(elements: int) -> Cost:
    """128 bits an element from each role, 2 hops."""
    size = 8 * elements
    both = {(P0, P1): size, (P1, P0): size}
    return one_round({**both, (P2, P1): 2 * size}) + one_round(both)
