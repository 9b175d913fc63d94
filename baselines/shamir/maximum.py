"""The largest entry of each row, and the index of a vector's largest, by a tournament.

A level compares the first half of the entries with the second, pair by pair, all rows at once, and keeps
the larger: 1 comparison and 1 product with its bit a pair, 14 hops. An entry without a partner goes on to
the next level. A row of n entries takes n − 1 pairs and ⌈log2 n⌉ levels.

The index goes the same way as the value: one product more a pair, but in the first level, where both
indices are public. At the end t parties send P1 their shares of it:

| from | to | what | bytes | hop |
|---|---|---|---|---|
| t parties | P1 | shares of the index | 8 each | 1 |

P1 learns the index, nobody anything else. Each bit is [left < right]: of two equal entries that meet the
left one wins, which need not be the first of the row.
"""

import torch

from baselines.shamir.compare import below, below_cost
from baselines.shamir.context import Context
from baselines.shamir.cost import NOTHING, Cost
from baselines.shamir.group import Group
from baselines.shamir.multiply import multiply, multiply_cost
from baselines.shamir.share import Share, concatenate, stack


async def row_maximum(ctx: Context, x: Share) -> Share:
    """x (rows, n) → (rows, 1)."""
    while x.shape[1] > 1:
        left, middle, right = _halves(x)
        gain = right - left
        bits = (await below(ctx, -gain)).reshape(*gain.shape)
        x = concatenate([left + await multiply(ctx, gain, bits), middle], dim=1)
    return x


def _halves(x: Share) -> tuple[Share, Share, Share]:
    """The first ⌊n/2⌋ of the last dimension, the one without a partner if n is odd, the last ⌊n/2⌋."""
    n = x.shape[-1]
    pairs = n // 2
    left, middle, right = x.split((pairs, n - 2 * pairs, pairs))
    return left, middle, right


async def argmax(ctx: Context, x: Share) -> Share:
    """x (n,) → the index of the largest, (1,) at scale 0."""
    n = x.shape[0]
    places = torch.zeros_like(x.value) if x.value.is_meta else torch.arange(n)
    index, public = Share(places, 0), True
    while x.shape[0] > 1:
        left, middle, right = _halves(x)
        first, kept, second = _halves(index)
        gain, move = right - left, second - first
        bits = (await below(ctx, -gain)).flat()
        if public:
            gained, moved = await multiply(ctx, gain, bits), bits.times(move.value)
        else:
            both = stack([gain, Share(move.value, gain.frac)])
            gained, other = (await multiply(ctx, both, bits)).split((1, 1), dim=0)
            gained, moved = gained.flat(), Share(other.value.reshape(-1), 0)
        x = concatenate([left + gained, middle])
        index, public = concatenate([first + moved, kept]), False
    return index


def row_maximum_cost(group: Group, rows: int, n: int) -> Cost:
    """See the module."""
    total = NOTHING
    while n > 1:
        pairs = rows * (n // 2)
        total += below_cost(group, pairs) + multiply_cost(group, pairs)
        n -= n // 2
    return total


def argmax_cost(group: Group, n: int) -> Cost:
    """Without the last hop, to P1."""
    total, public = NOTHING, True
    while n > 1:
        pairs = n // 2
        both = multiply_cost(group, pairs) if public else multiply_cost(group, 2 * pairs, pairs)
        total += below_cost(group, pairs) + both
        n, public = n - pairs, False
    return total
