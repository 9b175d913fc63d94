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
from baselines.puma.rounds import Round
from baselines.puma.share import Bits, Share
from protocols.party import P0, P1, P2

_SINGLE = ((1,),)


async def to_ring(ctx: Context, bits: Bits) -> Share:
    """One bit a uint8 → integers 0 and 1 at scale 0; a vector."""
    (share,) = await weighted(ctx, bits, (0,), _SINGLE)
    return share


async def weighted(
    ctx: Context, words: Bits, positions: Sequence[int], tables: Sequence[Sequence[int]]
) -> list[Share]:
    """Σ_j table[j]·(bit positions[j] of the word), one share at scale 0 for each table."""
    count, bits = words.first.numel(), len(positions)
    if ctx.index == 0:
        sigma, z0 = _pieces(ctx.draw(0, bits + len(tables), count), bits)
        z1 = ctx.draw(1, len(tables), count)
        known = _unpacked(words.first ^ words.second, positions)
        await Round({P1: (known.sub_(sigma),)})
        await Round()
        return [Share(a, b, 0) for a, b in zip(z0, z1, strict=True)]
    at, table = np.array(positions), np.array(tables)
    if ctx.index == 1:
        z = ctx.draw(1, len(tables), count)
        (masked,) = (await Round({}, {P0: 1}))[P0]
        own = torch.empty_like(z)
        _terms(words.second.numpy(), masked.numpy(), 1, at, table, z.numpy(), own.numpy())
        (other,) = (await Round({P2: (own,)}, {P2: 1}))[P2]
        return [Share(a, b, 0) for a, b in zip(z, other.add_(own), strict=True)]
    sigma, z = _pieces(ctx.draw(0, bits + len(tables), count), bits)
    own = torch.empty_like(z)
    _terms(words.first.numpy(), sigma.numpy(), 0, at, table, z.numpy(), own.numpy())
    await Round()
    (other,) = (await Round({P1: (own,)}, {P1: 1}))[P1]
    return [Share(a, b, 0) for a, b in zip(other.add_(own), z, strict=True)]


def _pieces(drawn: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    return drawn[:rows], drawn[rows:]


def _unpacked(words: Tensor, positions: Sequence[int]) -> Tensor:
    """The bits at `positions` of each word, int64 (J, n)."""
    if words.dtype == torch.uint8:
        words = words.to(torch.int64)
    return torch.stack([(words >> at) & 1 for at in positions])


@njit(cache=True, nogil=True)
def _terms(
    words: NDArray[np.int64],
    parts: NDArray[np.int64],
    own_bit: int,
    positions: NDArray[np.int64],
    tables: NDArray[np.int64],
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
    count = x.first.numel()
    if ctx.index == 0:
        sigma, z0 = ctx.draw(0, 2, count)
        u = Share(z0, ctx.draw(1, count), x.frac)
        own = (bits.first ^ bits.second).to(torch.int64).sub_(sigma)
        await Round({P1: (own,)})
        a = Share(sigma, own, 0)
    elif ctx.index == 1:
        z1 = ctx.draw(1, count)
        own = (x.first + x.second).mul_(bits.second).sub_(z1)
        received = await Round({P2: (own,)}, {P0: 1, P2: 1})
        (known,), (other,) = received[P0], received[P2]
        u, a = Share(z1, other.add_(own), x.frac), Share(known, torch.zeros_like(z1), 0)
    else:
        sigma, z0 = ctx.draw(0, 2, count)
        own = (x.second * bits.first).sub_(z0)
        (other,) = (await Round({P1: (own,)}, {P1: 1}))[P1]
        u, a = Share(other.add_(own), z0, x.frac), Share(torch.zeros_like(sigma), sigma, 0)
    return await reshare(ctx, product(a, x - u.times(2)) + u.term())


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
