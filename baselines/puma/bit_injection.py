"""From shared bits to the ring: conversion (B2A) and multiplication by a bit, two hops each.

A shared bit is b = a ⊕ b_2 with a = b_0 ⊕ b_1 known to P0 and b_2 known to P1 and P2, so over the integers
b = a + b_2 − 2·a·b_2. P0 shares a as (σ, a − σ, 0), σ ← κ_0. Terms that P1 and P2 alone hold are
re-shared between them: z_1 ← κ_1, z_0 ← κ_0, z_2 = (t_1 − z_1) + (t_2 − z_0).

Conversion of J bits an element, weighted by public K tables of J integers: Σ_j K_j·b_j with
    t_1 = Σ_j K_j·(b_2j + (a − σ)_j·(1 − 2·b_2j))        t_2 = Σ_j K_j·σ_j·(1 − 2·b_2j)

| from | to | what | bits an element | hop |
|---|---|---|---|---|
| P0 | P1 | a − σ | 64·J | 1 |
| P1, P2 | P2, P1 | t_1 − z_1, t_2 − z_0 | 64·K each | 2 |

Multiplication b·x: with u = b_2·x, whose terms are b_2·(x_1 + x_2) at P1 and b_2·x_0 at P2,
    b·x = u + a·(x − 2u)

| from | to | what | bits an element | hop |
|---|---|---|---|---|
| P0 | P1 | a − σ | 64 | 1 |
| P1, P2 | P2, P1 | u's terms, re-shared | 64 each | 1 |
| P_i | P_(i-1) | the product's terms, re-shared | 64 | 2 |

P1 learns a − σ (σ hides it) and t_2 − z_0; P2 learns t_1 − z_1; z_0 and z_1 are unknown to them.
Source: bit injection of ABY3 (ePrint 2018/403), section 5.4, with the known parts of a bit used
directly instead of a three-party oblivious transfer.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from baselines.puma.context import Context
from baselines.puma.cost import Cost, one_round
from baselines.puma.multiply import product, reshare, reshare_cost
from baselines.puma.round_scheduler import Round
from baselines.puma.share import Bits, Share
from protocols.party import P0, P1, P2

Constants = NDArray[np.int64]

_SINGLE = ((1,),)


async def to_ring(ctx: Context, bits: Bits) -> Share:
    """One bit a uint8 → integers 0 and 1 at scale 0; a vector."""
    (share,) = await weighted(ctx, bits, (0,), _SINGLE)
    return share


async def weighted(
    ctx: Context, words: Bits, positions: Sequence[int], tables: Sequence[Sequence[int]]
) -> list[Share]:
    """Σ_j table[j]·(bit positions[j] of the word), one share at scale 0 for each table."""
    play = (_give_known, _weigh_masked, _weigh_masks)[ctx.index]
    first, second = await play(ctx, words, np.array(positions), np.array(tables))
    return [Share(a, b, 0) for a, b in zip(first, second, strict=True)]


async def _give_known(
    ctx: Context, words: Bits, positions: Constants, tables: Constants
) -> tuple[Tensor, Tensor]:
    """P0."""
    count, bits = words.first.numel(), len(positions)
    drawn = ctx.draw(0, bits + len(tables), count)
    z1 = ctx.draw(1, len(tables), count)
    await Round({P1: (_unpacked(words.first ^ words.second, positions).sub_(drawn[:bits]),)})
    await Round()
    return drawn[bits:], z1


async def _weigh_masked(
    ctx: Context, words: Bits, positions: Constants, tables: Constants
) -> tuple[Tensor, Tensor]:
    """P1: t_1."""
    z1 = ctx.draw(1, len(tables), words.first.numel())
    (masked,) = (await Round({}, {P0: 1}))[P0]
    own = torch.empty_like(z1)
    _terms(1, positions, tables, *_arrays(words.second, masked, z1, own))
    (other,) = (await Round({P2: (own,)}, {P2: 1}))[P2]
    return z1, other.add_(own)


async def _weigh_masks(
    ctx: Context, words: Bits, positions: Constants, tables: Constants
) -> tuple[Tensor, Tensor]:
    """P2: t_2."""
    bits = len(positions)
    drawn = ctx.draw(0, bits + len(tables), words.first.numel())
    own = torch.empty_like(drawn[bits:])
    _terms(0, positions, tables, *_arrays(words.first, drawn[:bits], drawn[bits:], own))
    await Round()
    (other,) = (await Round({P1: (own,)}, {P1: 1}))[P1]
    return other.add_(own), drawn[bits:]


def _arrays(*tensors: Tensor) -> list[NDArray[np.int64]]:
    return [tensor.numpy() for tensor in tensors]


def _unpacked(words: Tensor, positions: Constants) -> Tensor:
    """The bits at `positions` of each word, int64 (J, n)."""
    if words.dtype == torch.uint8:
        words = words.to(torch.int64)
    return torch.stack([(words >> int(at)) & 1 for at in positions])


@njit(cache=True, nogil=True)
def _terms(
    own_bit: int,
    positions: NDArray[np.int64],
    tables: NDArray[np.int64],
    words: NDArray[np.int64],
    parts: NDArray[np.int64],
    masks: NDArray[np.int64],
    out: NDArray[np.int64],
) -> None:
    """Σ_j K_j·(own_bit·b_j + part_j·(1 − 2·b_j)) − mask."""
    for row in range(tables.shape[0]):
        for i in range(words.size):
            out[row, i] = -masks[row, i]
        for j in range(positions.size):
            weight, at = tables[row, j], positions[j]
            if weight == 0:
                continue
            for i in range(words.size):
                bit = (np.int64(words[i]) >> at) & 1
                term = own_bit * bit + parts[j, i] * (1 - 2 * bit)
                out[row, i] += weight * term


async def times_bit(ctx: Context, x: Share, bits: Bits) -> Share:
    """x where the bit is 1, else 0; x a vector, one bit a uint8."""
    a, u = await (_split_known, _split_masked, _split_masks)[ctx.index](ctx, x, bits)
    return await reshare(ctx, product(a, x - u.times(2)) + u.term())


async def _split_known(ctx: Context, x: Share, bits: Bits) -> tuple[Share, Share]:
    """P0: its parts of a and u."""
    sigma, z0 = ctx.draw(0, 2, x.first.numel())
    z1 = ctx.draw(1, x.first.numel())
    masked = (bits.first ^ bits.second).to(torch.int64).sub_(sigma)
    await Round({P1: (masked,)})
    return Share(sigma, masked, 0), Share(z0, z1, x.frac)


async def _split_masked(ctx: Context, x: Share, bits: Bits) -> tuple[Share, Share]:
    """P1."""
    z1 = ctx.draw(1, x.first.numel())
    own = (x.first + x.second).mul_(bits.second).sub_(z1)
    received = await Round({P2: (own,)}, {P0: 1, P2: 1})
    (masked,), (other,) = received[P0], received[P2]
    return Share(masked, torch.zeros_like(z1), 0), Share(z1, other.add_(own), x.frac)


async def _split_masks(ctx: Context, x: Share, bits: Bits) -> tuple[Share, Share]:
    """P2."""
    sigma, z0 = ctx.draw(0, 2, x.first.numel())
    own = (x.second * bits.first).sub_(z0)
    (other,) = (await Round({P1: (own,)}, {P1: 1}))[P1]
    return Share(torch.zeros_like(sigma), sigma, 0), Share(other.add_(own), z0, x.frac)


async def select(ctx: Context, bits: Bits, x: Share, y: Share) -> Share:
    """x where the bit is 1, else y; vectors."""
    return y + await times_bit(ctx, x - y, bits)


def weighted_cost(elements: int, bits: int = 1, tables: int = 1) -> Cost:
    """64·bits from P0, 64·tables from P1 and P2 an element, 2 hops."""
    given = one_round({(P0, P1): 8 * bits * elements})
    size = 8 * tables * elements
    return given + one_round({(P1, P2): size, (P2, P1): size})


def times_bit_cost(elements: int) -> Cost:
    """128 bits an element from each role, 2 hops."""
    size = 8 * elements
    first = one_round({(P0, P1): size, (P1, P2): size, (P2, P1): size})
    return first + reshare_cost(elements)
