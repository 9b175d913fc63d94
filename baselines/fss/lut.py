"""A public table at a masked index of k bits, shares of m bits out.

The keys are those of a uniform point ρ (`dpf`); the parties are told r − ρ and so have i + ρ of the index i.
Over all points the bits of one party, times the table turned to its place, add up to this party's half of

    u = w·T[i]        and of        w = ±1           w = 1 if the first party's bit at ρ is set

They open û = u + q, and w·û + (r′ − w·q) = T[i] + r′, with shares of q and of r′ − w·q.

| gate | key, bits | hops | bits a party |
|---|---|---|---|
| look_up | DPF of k bits, k, 2·m | 1 | m |

| phase | from | to | what | payload | hop |
|---|---|---|---|---|---|
| offline | P2 | P0, P1 | a key for each element, as above | ⌈n·bits/8⌉ | 1 |
| online | P0, P1 | each other | shares of u + q | ⌈n·m/8⌉ | 1 |

Each learns û, which q hides. Source: Pika (Wagh, PoPETs 2022) as in SIGMA (ePrint 2023/1269), which counts
as many bits.

An index may have two digits, the lower of ν = 7 bits: each is masked by itself.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from baselines.fss.bits import low_bits
from baselines.fss.context import Context, gate
from baselines.fss.dpf import LEAF_BITS


@dataclass(frozen=True)
class Table:
    """entries: int64 (2^bits,). two_digits: whether an index has two."""

    entries: Tensor
    two_digits: bool = False

    @property
    def bits(self) -> int:
        """Of an index."""
        return (len(self.entries) - 1).bit_length()

    def minus(self, x: Tensor, y: Tensor) -> Tensor:
        """x − y, digit by digit."""
        if not self.two_digits:
            return (x - y) & low_bits(self.bits)
        upper = ((x >> LEAF_BITS) - (y >> LEAF_BITS)) & low_bits(self.bits - LEAF_BITS)
        return upper << LEAF_BITS | (x - y) & low_bits(LEAF_BITS)


@gate("look_up")
def look_up(ctx: Context, *wanted: tuple[Tensor, Table], width: int) -> list[Tensor]:
    """Shares of each table at each masked index, `width` bits. One hop for all."""
    begun = [_begin(ctx, index, table, width) for index, table in wanted]
    opened = ctx.open_all(*[(share, width) for share, _ in begun])
    return [finish(u) for u, (_, finish) in zip(opened, begun, strict=True)]


def _begin(
    ctx: Context, index: Tensor, table: Table, width: int
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    shape, bits = tuple(index.shape), table.bits
    rho, q, out = ctx.mask(shape, bits), ctx.mask(shape, width), ctx.mask(shape, width)
    key = ctx.point(shape, bits, lambda: rho, trees=True)
    turn = ctx.told(shape, bits, lambda: table.minus(index, rho))
    blind = ctx.shared(shape, width, lambda: q)
    rest = ctx.shared(shape, width, lambda: out - key.sign * q)
    if not ctx.online:
        return q, lambda _: out
    u, w = key.lookup(table.minus(index, turn), table.entries, table.two_digits)
    return u + blind, lambda opened: w * opened + rest
