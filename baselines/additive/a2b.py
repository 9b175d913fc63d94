"""From additive shares to shared bits and back: a logarithmic adder and one correlated bit.

Bits are shared by exclusive or: u = u0 ^ u1, 64 at a time. The product of two such words takes a triple
c = a & b and one opening of d = u ^ a, g = v ^ b, 128 bits a party:

    u & v = (d & g) ^ (d & b) ^ (g & a) ^ c,        P0 adds d & g

**A2B.** The bits of x = x0 + x1 are those of the sum of two numbers, each known to one party and so
shared as (x0, 0) and (0, x1). With generate G = x0 & x1 and propagate P = x0 ^ x1, level k = 1, 2, 4,
…, 32 of the tree (Kogge, Stone 1973) does both of

    G ← G ^ (P & (G << k))        P ← P & (P << k)

in one opening, and the sum is x0 ^ x1 ^ (G << 1). That is 1 + 6·2 = 13 products of 128 bits, 1664 in
all, in 1 + 6 = 7 hops. (The P of the last level is computed, as in the original, though nothing reads
it.)

**B2A of one bit.** Correlation: a random bit r, shared both ways. The parties open z = u ^ r, in a word
of 64 bits as the original does; then u = r + z·(1 − 2r) = z + r·(1 − 2z).

**Zero test.** x = 0 iff x0 = −x1 iff all bits of ¬(x0 ^ −x1) are set: 6 products, folding the word in
halves, 768 bits in 6 hops; with B2A 832 in 7.

| phase | from | to | what | payload | hop |
|---|---|---|---|---|---|
| offline (A2B) | P2 | P1 | c of 13 triples | 104·n | 1 |
| offline (zero test) | P2 | P1 | c of 6 triples | 48·n | 1 |
| offline (B2A) | P2 | P1 | additive share of r | 8·n | 1 |
| online (A2B) | P0, P1 | each other | d, g of 1, 2, … 2 products | 208·n | 7 |
| online (zero test) | P0, P1 | each other | d, g | 96·n | 6 |
| online (B2A) | P0, P1 | each other | u ^ r | 8·n | 1 |

Each learns d, g and z, which a, b and r hide. Source: CrypTen (arXiv:2109.00984), section 4.
"""

import torch
from torch import Tensor

from baselines.additive import binary_kernels as kernels
from baselines.additive.context import Context, Parts
from baselines.additive.kernels import run

LEVELS = (1, 2, 4, 8, 16, 32)
ADDER_TRIPLES = 1 + 2 * len(LEVELS)


def add_bits(ctx: Context, x: Tensor) -> Tensor:
    """A2B: the word of x's 64 bits, shared by exclusive or; any shape."""
    n = x.numel()
    dealt = _triples(ctx, ADDER_TRIPLES, n)
    if not dealt:
        return x
    a, b, c = dealt
    propagate = x.reshape(1, n)
    nothing = torch.zeros_like(propagate)
    first, second = (propagate, nothing) if ctx.leads else (nothing, propagate)
    generate = _products(ctx, first, second, (a[:1], b[:1], c[:1]))
    p = propagate
    for level, k in enumerate(LEVELS):
        triples = [t[1 + 2 * level : 3 + 2 * level] for t in (a, b, c)]
        shifted = torch.cat([generate << k, p << k])
        update = _products(ctx, p.expand(2, n), shifted, (triples[0], triples[1], triples[2]))
        generate, p = generate ^ update[:1], update[1:]
    return (propagate ^ (generate << 1)).reshape(x.shape)


def is_zero_bit(ctx: Context, x: Tensor) -> Tensor:
    """[x = 0] as bits 0 or 1, shared by exclusive or."""
    n = x.numel()
    dealt = _triples(ctx, len(LEVELS), n)
    if not dealt:
        return x
    a, b, c = dealt
    word = (~x if ctx.leads else -x).reshape(1, n)
    for level, k in enumerate(reversed(LEVELS)):
        part = slice(level, level + 1)
        word = _products(ctx, word, word << k, (a[part], b[part], c[part]))
    return ((word >> 63) & 1).reshape(x.shape)


def to_arithmetic(ctx: Context, bit: Tensor) -> Tensor:
    """B2A: bits 0 or 1 (shared by exclusive or) as additive shares of the integers 0 or 1."""
    shape = tuple(bit.shape)

    def complete(zero: Parts, one: Parts) -> Parts:
        return (((zero[0] ^ one[0]) & 1) - zero[1],)

    dealt = ctx.deal("bit", (shape, shape), (shape,), complete)
    if not dealt:
        return bit
    r, additive = dealt
    own = bit ^ (r & 1)
    (theirs,) = ctx.swap(own)
    z = own ^ theirs
    return ctx.public(additive * (1 - 2 * z), z)


def _triples(ctx: Context, count: int, n: int) -> Parts:
    """`count` rows of triples of words: a, b, c = a & b, each (count, n)."""
    shape = (count, n)

    def complete(zero: Parts, one: Parts) -> Parts:
        (a0, b0, c0), (a1, b1) = zero, one
        return (((a0 ^ a1) & (b0 ^ b1)) ^ c0,)

    return ctx.deal("and", (shape,) * 3, (shape,) * 2, complete)


def _products(ctx: Context, u: Tensor, v: Tensor, triples: Parts) -> Tensor:
    """u & v, (rows, n): one opening."""
    a, b, c = triples
    rows, n = u.shape
    own = run(kernels.mask, (2, rows, n), u, v, a, b)
    (theirs,) = ctx.swap(own)
    return run(kernels.close, (rows, n), own, theirs, a, b, c, ctx.leads)
