"""What P1 brings and what it gets: it knows the masks of both.

| phase | from | to | what | payload | hop |
|---|---|---|---|---|---|
| offline | P2 | P1 | masks of w bits | ⌈n·w/8⌉ | with the keys |
| input, online | P1 | P0 | its masked input | ⌈n·w/8⌉ | 1 |

P0 learns the masked input, which its mask hides; of an answer, whose masked value both have, nothing.
"""

import torch
from torch import Tensor

from baselines.fss.bits import low_bits
from baselines.fss.context import Context, Shape
from baselines.fss.encoding import signed
from protocols.party import P0, P1


def masked_input(ctx: Context, own: Tensor | None, shape: Shape) -> Tensor:
    """P1 passes integers (None: zeros) → masked values."""
    with ctx.step("input"):
        out = ctx.mask(shape, ctx.bits)
        mask = ctx.known(P1, shape, ctx.bits, lambda: out)
        if not ctx.online:
            return out
        if ctx.leads:
            return ctx.receive_masked(P1, shape, ctx.bits)
        value = torch.zeros(shape, dtype=torch.int64) if own is None else own
        masked = (value + mask) & low_bits(ctx.bits)
        ctx.send_masked(P0, masked, ctx.bits)
        return masked


def revealed(ctx: Context, x: Tensor, width: int) -> Tensor | None:
    """x at P1, signed numbers of `width` bits; None elsewhere. No message online."""
    with ctx.step("answer"):
        mask = ctx.known(P1, tuple(x.shape), width, lambda: x)
        return None if ctx.leads or not ctx.online else signed(x - mask, width)
