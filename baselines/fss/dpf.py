"""Distributed point functions: two keys whose evaluations differ at one secret point alone.

For a point α of n bits, keys k₀ and k₁ give bits with e(k₀, i) ⊕ e(k₁, i) = [i = α]; one key alone says
nothing about α. A tree of seeds: the children of a seed s are

    H(s ‖ 0), H(s ‖ 1)        H(x) = AES(x) ⊕ x with a public key, x = 127 bits of s and the side

of which 127 bits are a seed and 1 is a control bit t. Correction words, common to both keys, make the two
parties' seeds equal and their t equal off the way to α; on the way t differs. The tree ends ν = 7 levels
early: the 127 bits of a last seed are the bits of 127 leaves. A 128th follows from them: over the leaves
of one seed the parties' bits add up to [α is among them], which is what their t add up to.

| part of a key | bits |
|---|---|
| root seed | λ = 127 |
| n − ν corrections: a seed, t of both sides | (n − ν)·(λ + 2) |
| correction of the last seed | λ |

in all (n − ν)(λ + 2) + 2λ bits; for n ≤ ν a key is a shared truth table of 2^n bits.

**A comparison** [α > x] is the parity of the leaves right of x. A subtree's leaves add up to its t. So on
the way to x wherever it turns left, t of the parent ⊕ t of the child is added: one hash a level.

Sources: Boyle, Gilboa, Ishai (CCS 2016), with early termination; the parity of a prefix from Storrier
et al. (Grotto, CCS 2023) as in SIGMA (ePrint 2023/1269), whose λ and ν these are.
"""

from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from baselines.fss import dpf_kernels as kernels
from baselines.fss.bits import Field, Layout, Words
from baselines.fss.dpf_kernels import ONE, SEED, Blocks
from protocols.arith.prg import Stream

LAMBDA = 127
LEAF_BITS = 7  # ν
BLOCK = 16


def levels(n: int) -> int:
    """Levels of the tree of a point of n bits; 0 for a truth table."""
    return max(0, n - LEAF_BITS)


def layout(n: int) -> Layout:
    """The key of a point of n bits."""
    if n <= LEAF_BITS:
        return Layout((Field(min(64, 1 << n), max(1, (1 << n) // 64)),))
    depth = levels(n)
    return Layout((Field(63, depth + 2), Field(64, depth + 2), Field(1, 2 * depth)))


@dataclass(frozen=True)
class Keys:
    """The keys of one party (0 or 1) for `count` points of n bits.

    parts: of a truth table its words (per, count). Of a tree the low and the high words of root, corrections
    and last correction, uint64 (levels + 2, count) each, the low ones without their control bit; and
    control bits (2·levels, count), left then right of each level. aes_key: of H.
    """

    party: int
    n: int
    parts: tuple[Words, ...]
    aes_key: bytes

    def above(self, x: Words) -> Words:
        """This party's bit of [α > x], x uint64 (count,) of n bits."""
        if self.n <= LEAF_BITS:
            out = np.empty_like(x)
            kernels.table_above(self.parts[0], x, self.n, out)
            return out
        low, high, control = self.parts
        node_low, node_high, t = self._roots()
        parity = np.zeros_like(x)
        text, hashed = _buffers(len(x))
        for level in range(levels(self.n)):
            kernels.ask(node_low, node_high, x, self.n - 1 - level, text)
            encrypt(self.aes_key, text, hashed)
            corrections = low[level + 1], high[level + 1], control[2 * level : 2 * level + 2]
            kernels.step(text, hashed, *corrections, node_low, node_high, t, parity)
        kernels.leaf_above(node_low, node_high, t, low[-1], high[-1], x, parity)
        return parity

    def lookup(self, x: Words, table: Words, two_digits: bool = False) -> tuple[Words, Words]:
        """This party's halves of w·table[x − α] and of w, which is 1 or −1, mod 2^64.

        x: uint64 (count,); table: uint64 (2^n,). The index is taken mod 2^n, or in two digits, of which
        the lower has ν bits.
        """
        u, w = np.zeros_like(x), np.zeros_like(x)
        sign = np.uint64(1 if self.party == 0 else 0xFFFFFFFFFFFFFFFF)
        if self.n <= LEAF_BITS:
            kernels.table_sum(self.parts[0], x, table, sign, u, w)
        else:
            node_low, node_high, t = self._leaves()
            kernels.leaf_sum(node_low, node_high, t, x, table, two_digits, sign, u, w)
        return u, w

    def _roots(self) -> tuple[Words, Words, Words]:
        low, high, _ = self.parts
        return low[0].copy(), high[0].copy(), np.full(low.shape[1], self.party, np.uint64)

    def _leaves(self) -> tuple[Words, Words, Words]:
        """All last seeds, corrected, (2^levels, count), and their control bits."""
        low, high, control = self.parts
        node_low, node_high, t = (part[None] for part in self._roots())
        for level in range(levels(self.n)):
            text, hashed = _buffers(2 * t.size)
            kernels.both_sides(node_low, node_high, text)
            encrypt(self.aes_key, text, hashed)
            parents, shape = t, (2 * len(t), t.shape[1])
            node_low, node_high, t = np.empty((3, *shape), np.uint64)
            corrections = low[level + 1], high[level + 1], control[2 * level : 2 * level + 2]
            kernels.grow(text, hashed, *corrections, parents, node_low, node_high, t)
        return node_low ^ t * low[-1], node_high ^ t * high[-1], t


def generate(alpha: Words, n: int, stream: Stream, aes_key: bytes) -> tuple[Keys, Keys, Words]:
    """Fresh keys for the points alpha, uint64 (count,) of n bits; and w, uint64 (count,): 1 where the first
    party's bit at α is set, else −1. aes_key: 16 bytes, public, of H."""
    if n <= LEAF_BITS:
        return _generate_tables(alpha, n, stream, aes_key)
    count, depth = len(alpha), levels(n)
    low, high = np.empty((2, depth + 2, count), np.uint64)
    control = np.empty((2 * depth, count), np.uint64)
    node_low, node_high = stream.int64(2, 2, count).numpy().view(np.uint64)  # of both parties
    node_low &= SEED
    roots = node_low.copy(), node_high.copy()
    t = np.zeros((2, count), np.uint64)
    t[1] = 1
    text, hashed = _buffers(4 * count)
    for level in range(depth):
        kernels.both_sides(node_low, node_high, text)
        encrypt(aes_key, text, hashed)
        corrections = low[level + 1], high[level + 1], control[2 * level : 2 * level + 2]
        kernels.correct(alpha, n - 1 - level, text, hashed, *corrections, node_low, node_high, t)
    w = np.empty(count, np.uint64)
    kernels.correct_leaf(alpha, node_low, node_high, t, low[-1], high[-1], w)
    found = []
    for party in (0, 1):
        own_low, own_high = low.copy(), high.copy()
        own_low[0], own_high[0] = roots[0][party], roots[1][party]
        found.append(Keys(party, n, (own_low, own_high, control), aes_key))
    return found[0], found[1], w


def fields(keys: Keys) -> list[Words]:
    """What `layout` asks for."""
    if keys.n <= LEAF_BITS:
        return [keys.parts[0]]
    low, high, control = keys.parts
    return [low >> ONE, high, control]


def from_fields(party: int, n: int, numbers: list[Words], aes_key: bytes) -> Keys:
    """The keys that `fields` took apart."""
    if n <= LEAF_BITS:
        return Keys(party, n, (numbers[0],), aes_key)
    low, high, control = numbers
    return Keys(party, n, (low << ONE, high, control), aes_key)


def _generate_tables(
    alpha: Words, n: int, stream: Stream, aes_key: bytes
) -> tuple[Keys, Keys, Words]:
    count, field = len(alpha), layout(n).fields[0]
    drawn = stream.int64(field.per, count).numpy().view(np.uint64)
    first = drawn & np.uint64((1 << field.width) - 1)
    second, w = first.copy(), np.empty(count, np.uint64)
    kernels.flip(alpha, first, second, w)
    return Keys(0, n, (first,), aes_key), Keys(1, n, (second,), aes_key), w


def _buffers(count: int) -> tuple[Blocks, Blocks]:
    """A text of `count` blocks, and room for its encryption."""
    return np.empty((count, 2), np.uint64), np.empty((count + 1, 2), np.uint64)


def encrypt(key: bytes, text: Blocks, out: Blocks) -> None:
    """AES of each block of `text` into `out`, which is one block longer."""
    if text.size:
        # A public key makes a permutation of it: nothing is encrypted, a mode would add nothing.
        cipher = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
        cipher.update_into(text.reshape(-1).data.cast("B"), out.reshape(-1).data.cast("B"))
