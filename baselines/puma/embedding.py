"""Embedding by equality tests: a row of a shared table for a shared token id.

One-hot: o_v = [id = v] for each v of the vocabulary, the and of ⌈log2 V⌉ bits of id or their complements.
The V tests have most of their ands in common, which are done once: complete sets of tests on 1 bit are
paired to sets on 2, 4, 8, … neighbouring bits, the last of which is o. P1 shares the bits of id (`give`);
o is converted to the ring and multiplied with the table, an integer times a fixed-point number, which
needs no truncation.

| from | to | what | bytes a token | hop |
|---|---|---|---|---|
| P1 | P0, P2 | part 0 of id | 8 | 1 |
| P_i | P_(i-1) | ands, one a byte: V and the smaller sets | V + … | 2 … |
| P0; P1, P2 | | conversion of o (`inject`) | 8·V each | +2 |
| P_i | P_(i-1) | terms of the rows (`multiply.reshare`) | 8·d | +1 |

Nobody learns anything. Source: Puma (arXiv 2307.12533), section 4 (embedding), which compares id with each v
on its own.
"""

import torch
from torch import Tensor

from baselines.puma.bit_injection import to_ring, weighted_cost
from baselines.puma.boolean import both, both_cost
from baselines.puma.context import Context
from baselines.puma.cost import Cost
from baselines.puma.share import Bits, Share, join
from baselines.puma.share_and_reveal import give_bits, give_cost

USER = 1  # who knows the ids


async def one_hot(ctx: Context, ids: Tensor | None, count: int, vocab: int) -> Share:
    """P1 passes ids, int64 (count,) → (count, vocab) integers at scale 0."""
    words = await give_bits(ctx, USER, ids, (count,))
    sets = [_either(ctx, words, bit) for bit in range(_id_bits(vocab))]
    while len(sets) > 1:
        sets = await _pair(ctx, sets, vocab)
    tests = sets[0].each(lambda part: part[:, :vocab].reshape(-1))
    return (await to_ring(ctx, tests)).reshape(count, vocab)


def _id_bits(vocab: int) -> int:
    return max(1, (vocab - 1).bit_length())


def _either(ctx: Context, words: Bits, at: int) -> Bits:
    """[bit = 0] and [bit = 1], uint8 (count, 2)."""
    one = words.each(lambda part: ((part >> at) & 1).to(torch.uint8))
    zero = ctx.flip(one, 1)
    return Bits(torch.stack([zero.first, one.first], 1), torch.stack([zero.second, one.second], 1))


async def _pair(ctx: Context, sets: list[Bits], vocab: int) -> list[Bits]:
    """Tests on the bits of each two neighbouring sets, lower bits first, all in one round."""
    pairs = list(zip(sets[::2], sets[1::2], strict=False))
    widths = _paired([s.first.shape[1] for s in sets], vocab)
    outer = [_outer(low, high, width) for (low, high), width in zip(pairs, widths, strict=False)]
    lows, highs = [low for low, _ in outer], [high for _, high in outer]
    met = (await both(ctx, join(lows), join(highs))).split([low.first.numel() for low in lows])
    count = sets[0].first.shape[0]
    grown = [bits.each(lambda part: part.reshape(count, -1)) for bits in met]
    return grown + sets[2 * len(pairs) :]


def _outer(low: Bits, high: Bits, width: int) -> tuple[Bits, Bits]:
    """Each of `high`'s tests beside each of `low`'s, the first `width` of them, as vectors."""
    lower, upper = low.first.shape[1], high.first.shape[1]
    return (
        low.each(lambda t: t.repeat(1, upper)[:, :width].reshape(-1)),
        high.each(lambda t: t.repeat_interleave(lower, 1)[:, :width].reshape(-1)),
    )


def _paired(widths: list[int], vocab: int) -> list[int]:
    """How many tests each two neighbouring sets make, no more than there are tokens."""
    pairs = zip(widths[::2], widths[1::2], strict=False)
    rest = widths[-1:] if len(widths) % 2 else []
    return [min(a * b, vocab) for a, b in pairs] + rest


def one_hot_cost(count: int, vocab: int) -> Cost:
    """See the module."""
    total, widths = give_cost(USER, count), [2] * _id_bits(vocab)
    while len(widths) > 1:
        total += both_cost(count * sum(_paired(widths, vocab)[: len(widths) // 2]))
        widths = _paired(widths, vocab)
    return total + weighted_cost(count * vocab)
