"""The largest entry of each row, and the index of a vector's largest, by a tournament.

A level compares the first half of the entries with the second, pair by pair, all rows at once, and keeps
the larger: 1 comparison (288 bits) and 1 multiplication by its bit (128 bits) a pair, 10 hops. An entry
without a partner goes on to the next level. A row of n entries takes n − 1 pairs and ⌈log2 n⌉ levels.

The index is carried as shared bits, and costs almost nothing: at each level the comparison's bit is a new bit
of the winner's index, and the lower bits are those of the winner,
    low = low_left ⊕ c & (low_left ⊕ low_right)
one and of a byte for each eight levels, beside the first hop of the multiplication. At the end P0
sends its part to P1, which holds the other two:

| from | to | what | bytes | hop |
|---|---|---|---|---|
| P0 | P1 | part 0 of the index's bits | 8 | 1 |

P1 learns the index, nobody anything else. Source: Puma (arXiv 2307.12533) takes both from SPU, which
carries the index as a second ring element.
"""

from dataclasses import dataclass

import torch

from baselines.puma.bit_injection import times_bit, times_bit_cost
from baselines.puma.boolean import both, both_cost
from baselines.puma.compare import less_than, sign_cost
from baselines.puma.context import Context
from baselines.puma.cost import NOTHING, Cost, one_round
from baselines.puma.round_scheduler import Round, together
from baselines.puma.share import Bits, Share, concatenate, join
from protocols.party import P0, P1


async def row_maximum(ctx: Context, x: Share) -> Share:
    """x (rows, n) → (rows, 1)."""
    while x.shape[1] > 1:
        left, middle, right = _halves(x)
        larger, _ = await _larger(ctx, left, right)
        x = concatenate([larger, middle], dim=1)
    return x


def _halves(x: Share) -> tuple[Share, Share, Share]:
    """The first ⌊n/2⌋ columns, the one without a partner if n is odd, the last ⌊n/2⌋."""
    n = x.shape[1]
    pairs = n // 2
    left, middle, right = x.split((pairs, n - 2 * pairs, pairs))
    return left, middle, right


async def _larger(ctx: Context, left: Share, right: Share) -> tuple[Share, Bits]:
    bits = await less_than(ctx, left, right)
    gain = await times_bit(ctx, (right - left).flat(), bits)
    return left + gain.reshape(*left.shape), bits


def row_maximum_cost(rows: int, n: int) -> Cost:
    """See the module."""
    total = NOTHING
    while n > 1:
        pairs = rows * (n // 2)
        total += sign_cost(pairs) + times_bit_cost(pairs)
        n -= n // 2
    return total


@dataclass(frozen=True)
class Contest:
    """The entries still in the tournament: values (n,), and the bits of their index so far.

    steps: what each level's bit adds to the index.
    """

    values: Share
    index: Bits
    steps: tuple[int, ...]


async def argmax(ctx: Context, x: Share) -> int | None:
    """The index of the largest entry of the vector x at P1, None at the others."""
    none = torch.zeros(x.shape[0], dtype=torch.uint8)
    contest = Contest(x, Bits(none, none), ())
    while contest.values.shape[0] > 1:
        contest = await _level(ctx, contest)
    return await _reveal(ctx, contest)


async def _level(ctx: Context, contest: Contest) -> Contest:
    n, bits_so_far = contest.values.shape[0], len(contest.steps)
    pairs = n // 2
    left, middle, right = contest.values.split((pairs, n - 2 * pairs, pairs))
    bits = await less_than(ctx, left, right)
    low_left, kept, low_right = contest.index.split((pairs, n - 2 * pairs, pairs))
    if bits_so_far:
        gain, moved = await together(
            times_bit(ctx, right - left, bits),
            both(ctx, _wide(bits, low_left.first.dtype), low_left ^ low_right),
        )
        low_left = low_left ^ moved
    else:
        gain = await times_bit(ctx, right - left, bits)
    dtype, known = _index_type(bits_so_far + 1), (1 << bits_so_far) - 1
    low_left, kept = (low.each(lambda v: v.to(dtype) & known) for low in (low_left, kept))
    index = low_left ^ bits.each(lambda b: b.to(dtype) << bits_so_far)
    return Contest(
        concatenate([left + gain, middle]),
        join([index, kept]),
        (*contest.steps, n - pairs),
    )


def _wide(bits: Bits, dtype: torch.dtype) -> Bits:
    """One bit a byte → all bits of a word equal to it."""
    return bits.each(lambda b: torch.neg(b.to(dtype)))


def _index_type(bits: int) -> torch.dtype:
    """The smallest word for so many bits of an index."""
    return torch.uint8 if bits <= 8 else torch.int16 if bits <= 16 else torch.int32


async def _reveal(ctx: Context, contest: Contest) -> int | None:
    """The index at P1, from bits that each say whether the winner came from the second half."""
    part = contest.index.first.to(torch.int64)
    if ctx.index == 0:
        await Round({P1: (part,)})
    elif ctx.index == 1:
        (missing,) = (await Round({}, {P0: 1}))[P0]
        word = int((missing ^ part ^ contest.index.second.to(torch.int64))[0])
        return sum(step for level, step in enumerate(contest.steps) if word >> level & 1)
    else:
        await Round()
    return None


def argmax_cost(n: int) -> Cost:
    """See the module."""
    total, level = NOTHING, 0
    while n > 1:
        pairs = n // 2
        moved = both_cost(pairs * _index_type(level).itemsize) if level else NOTHING
        total += sign_cost(pairs) + (times_bit_cost(pairs) | moved)
        n, level = n - pairs, level + 1
    return total + one_round({(P0, P1): 8})
