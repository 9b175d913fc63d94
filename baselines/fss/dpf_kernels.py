"""The bit logic of `dpf` between two calls of AES, over many instances at once.

A node is a seed of 127 bits, as a low word (63 bits and an empty last one) and a high word, and its control
bit t. A block is a seed with the side of a child in the empty bit; once hashed, that bit is the child's t.
Of a last seed, leaf p < 127 is bit p + 1.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from baselines.fss.bits import Words

ONE = np.uint64(1)
SEED = np.uint64(0xFFFFFFFFFFFFFFFE)  # of the low word
Blocks = NDArray[np.uint64]  # (…, 2): low and high word


@njit(cache=True, nogil=True)
def ask(low: Words, high: Words, x: Words, bit: int, text: Blocks) -> None:
    """The seed with the side that x takes."""
    shift = np.uint64(bit)
    for i in range(x.size):
        text[i, 0] = low[i] | ((x[i] >> shift) & ONE)
        text[i, 1] = high[i]


@njit(cache=True, nogil=True)
def step(
    text: Blocks,
    hashed: Blocks,
    correct_low: Words,
    correct_high: Words,
    control: Words,
    low: Words,
    high: Words,
    t: Words,
    parity: Words,
) -> None:
    """From nodes to the children that were asked for; t of what lies right of them into `parity`."""
    for i in range(t.size):
        side = text[i, 0] & ONE
        child_low, child_high = hashed[i, 0] ^ text[i, 0], hashed[i, 1] ^ text[i, 1]
        on = np.uint64(0) - t[i]
        child_t = (child_low & ONE) ^ (t[i] & control[side, i])
        parity[i] ^= (t[i] ^ child_t) & (side ^ ONE)
        low[i] = (child_low & SEED) ^ (on & correct_low[i])
        high[i] = child_high ^ (on & correct_high[i])
        t[i] = child_t


@njit(cache=True, nogil=True, inline="always")
def _parity(low: np.uint64, high: np.uint64) -> np.uint64:
    x = low ^ high
    for shift in (32, 16, 8, 4, 2, 1):
        x ^= x >> np.uint64(shift)
    return x & ONE


@njit(cache=True, nogil=True)
def leaf_above(
    low: Words,
    high: Words,
    t: Words,
    correct_low: Words,
    correct_high: Words,
    x: Words,
    parity: Words,
) -> None:
    """Add the leaves right of x under its last seed: t less those up to x."""
    full = np.uint64(0xFFFFFFFFFFFFFFFF)
    for i in range(x.size):
        leaf = x[i] & np.uint64(127)
        if leaf == np.uint64(127):
            continue
        on = np.uint64(0) - t[i]
        up_low = (low[i] ^ (on & correct_low[i])) & SEED
        up_high = high[i] ^ (on & correct_high[i])
        if leaf < np.uint64(63):
            up_low &= full >> (np.uint64(62) - leaf)
            up_high = np.uint64(0)
        else:
            up_high &= full >> (np.uint64(126) - leaf)
        parity[i] ^= t[i] ^ _parity(up_low, up_high)


@njit(cache=True, nogil=True)
def both_sides(low: Words, high: Words, text: Blocks) -> None:
    """Both sides of nodes (m, count): blocks (m, 2, count)."""
    m, count = low.shape
    for j in range(m):
        for side in range(2):
            first = (2 * j + side) * count
            for i in range(count):
                text[first + i, 0] = low[j, i] | np.uint64(side)
                text[first + i, 1] = high[j, i]


@njit(cache=True, nogil=True)
def grow(
    text: Blocks,
    hashed: Blocks,
    correct_low: Words,
    correct_high: Words,
    control: Words,
    parents: Words,
    low: Words,
    high: Words,
    t: Words,
) -> None:
    """All children (2·m, count) of nodes whose control bits are `parents`."""
    children, count = t.shape
    for j in range(children):
        for i in range(count):
            at, above = j * count + i, parents[j // 2, i]
            on = np.uint64(0) - above
            child = hashed[at, 0] ^ text[at, 0]
            low[j, i] = (child & SEED) ^ (on & correct_low[i])
            high[j, i] = hashed[at, 1] ^ text[at, 1] ^ (on & correct_high[i])
            t[j, i] = (child & ONE) ^ (above & control[j & 1, i])


@njit(cache=True, nogil=True)
def correct(
    alpha: Words,
    bit: int,
    text: Blocks,
    hashed: Blocks,
    correct_low: Words,
    correct_high: Words,
    control: Words,
    low: Words,
    high: Words,
    t: Words,
) -> None:
    """Corrections of one level, and both parties' nodes (2, count) on the way to alpha below it."""
    count = alpha.size
    for i in range(count):
        keep = int((alpha[i] >> np.uint64(bit)) & ONE)
        lose = 1 - keep
        a, b = lose * count + i, (2 + lose) * count + i
        fix_low = (hashed[a, 0] ^ text[a, 0] ^ hashed[b, 0] ^ text[b, 0]) & SEED
        fix_high = hashed[a, 1] ^ text[a, 1] ^ hashed[b, 1] ^ text[b, 1]
        for side in range(2):
            a, b = side * count + i, (2 + side) * count + i
            differ = (hashed[a, 0] ^ text[a, 0] ^ hashed[b, 0] ^ text[b, 0]) & ONE
            control[side, i] = differ ^ np.uint64(side == keep)
        correct_low[i], correct_high[i] = fix_low, fix_high
        for party in range(2):
            at = (2 * party + keep) * count + i
            on = np.uint64(0) - t[party, i]
            child = hashed[at, 0] ^ text[at, 0]
            low[party, i] = (child & SEED) ^ (on & fix_low)
            high[party, i] = hashed[at, 1] ^ text[at, 1] ^ (on & fix_high)
            t[party, i] = (child & ONE) ^ (t[party, i] & control[keep, i])


@njit(cache=True, nogil=True)
def correct_leaf(
    alpha: Words,
    low: Words,
    high: Words,
    t: Words,
    correct_low: Words,
    correct_high: Words,
    w: Words,
) -> None:
    """The correction of the last seeds, and the sign at alpha."""
    for i in range(alpha.size):
        leaf = np.int64(alpha[i] & np.uint64(127))
        fix_low, fix_high = low[0, i] ^ low[1, i], high[0, i] ^ high[1, i]
        if leaf < 63:
            fix_low ^= ONE << np.uint64(leaf + 1)
        elif leaf < 127:
            fix_high ^= ONE << np.uint64(leaf - 63)
        correct_low[i], correct_high[i] = fix_low, fix_high
        on = np.uint64(0) - t[0, i]
        bit = _leaf_bit(low[0, i] ^ (on & fix_low), high[0, i] ^ (on & fix_high), t[0, i], leaf)
        w[i] = bit + bit - ONE


@njit(cache=True, nogil=True, inline="always")
def _leaf_bit(low: np.uint64, high: np.uint64, t: np.uint64, leaf: np.int64) -> np.uint64:
    if leaf < 63:
        return (low >> np.uint64(leaf + 1)) & ONE
    if leaf < 127:
        return (high >> np.uint64(leaf - 63)) & ONE
    return t ^ _parity(low, high)


@njit(cache=True, nogil=True)
def leaf_sum(
    low: Words,
    high: Words,
    t: Words,
    x: Words,
    table: Words,
    digits: bool,
    sign: np.uint64,
    u: Words,
    w: Words,
) -> None:
    """Sums of table[x − i], and of 1, over the leaves i that are set. digits: the lower seven bits of an
    index, which are its place under a seed, are subtracted by themselves."""
    mask = np.int64(table.size - 1)
    for i in range(x.size):
        total, ones, at = np.uint64(0), np.uint64(0), np.int64(x[i])
        for j in range(low.shape[0]):
            first, base, inner = at - 128 * j, np.int64(0), mask
            if digits:
                first, base, inner = at & 127, (at - 128 * j) & mask & ~127, np.int64(127)
            a, b = low[j, i] & SEED, high[j, i]
            last = t[j, i] ^ _parity(a, b)
            a >>= ONE
            for p in range(63):
                bit = (a >> np.uint64(p)) & ONE
                ones += bit
                total += table[base | ((first - p) & inner)] & (np.uint64(0) - bit)
            for p in range(64):
                bit = (b >> np.uint64(p)) & ONE
                ones += bit
                total += table[base | ((first - 63 - p) & inner)] & (np.uint64(0) - bit)
            ones += last
            total += table[base | ((first - 127) & inner)] & (np.uint64(0) - last)
        u[i], w[i] = sign * total, sign * ones


@njit(cache=True, nogil=True)
def table_above(words: Words, x: Words, n: int, out: Words) -> None:
    """The parity of a truth table right of x."""
    for i in range(x.size):
        at, parity = np.int64(x[i]), np.uint64(0)
        for p in range(at + 1, 1 << n):
            parity ^= (words[p >> 6, i] >> np.uint64(p & 63)) & ONE
        out[i] = parity


@njit(cache=True, nogil=True)
def table_sum(words: Words, x: Words, table: Words, sign: np.uint64, u: Words, w: Words) -> None:
    """`leaf_sum` of truth tables."""
    mask = np.int64(table.size - 1)
    for i in range(x.size):
        total, ones, at = np.uint64(0), np.uint64(0), np.int64(x[i])
        for p in range(table.size):
            bit = (words[p >> 6, i] >> np.uint64(p & 63)) & ONE
            ones += bit
            total += table[(at - p) & mask] & (np.uint64(0) - bit)
        u[i], w[i] = sign * total, sign * ones


@njit(cache=True, nogil=True)
def flip(alpha: Words, first: Words, second: Words, w: Words) -> None:
    """Change bit alpha of the second truth table; the sign there."""
    for i in range(alpha.size):
        word, shift = np.int64(alpha[i] >> np.uint64(6)), alpha[i] & np.uint64(63)
        second[word, i] ^= ONE << shift
        bit = (first[word, i] >> shift) & ONE
        w[i] = bit + bit - ONE
