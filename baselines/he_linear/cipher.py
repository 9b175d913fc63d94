"""BFV without slots: P1 encrypts rows of integers, P0 multiplies them by its polynomials and hides its noise.

Ring Z_q[X]/(X^N + 1), N = 4096, q = p0·p1 ≈ 2^96, plaintext modulus t = 2^τ, Δ = ⌊q/t⌋. P1 owns the ternary
secret s, which SEAL makes; SEAL also holds the parameters to 128 bits (it allows 109 bits of q). a and b are
the public key: b = e − a·s.

| when    | from → to | what                                                      | bytes          |
|---------|-----------|-----------------------------------------------------------|----------------|
| prepare | P1 → P0   | b, the seed of a                                          | 2·6N + 16      |
| hop 1   | P1 → P0   | of each block: c0 = e − a'·s + Δ·x̂; one seed of all a'    | 2·6N each + 16 |
| hop 2   | P0 → P1   | of each group: c1, and the coefficients of c0 that hold W·x | 6N + 6·rows  |

    P0:  (c0, c1) = Σ_blocks (c0, a')·ŵ + (b·u + e0 + flood, a·u + e1), divided by p1 and rounded
    P1:  W·x = round(t/p0·(c0 + c1·s)), as |W·x| < t/2

What needs no input is done offline: P1's e − a'·s, P0's encryption of zero with its flood.

**What P0 learns:** nothing; it sees ring-LWE samples. **What P1 learns:** W·x, and no other product: other
coefficients of c0 do not travel, and c1 is hidden by a·u + e1 (ring-LWE). The noise of what travels holds
Σ e·ŵ, of which P1 knows e: a user could solve it for W. It is below the flood, uniform in ±2^(94 − τ):

    E|Σ e·ŵ| ≤ √(10.5·rows)·2^b ≤ 2^(55 − τ)        distance ≤ E|Σ e·ŵ|/2^(95 − τ) ≤ 2^-40 a value

Both are semi-honest; a P1 that encrypts with larger noise than it should learns more.

**Noise.** It must stay below Δ/2, about 2^(95 − τ). The flood is half of that at most. Σ e·ŵ is above
2^(58 − τ) with probability 2^-45, the encryption of zero below 2^19. The division by p1 adds up to
1/2 + Σ ±s_i/2, above 2^8 with probability 2^-45 (Hoeffding), where 2^(46 − τ) is left: hence τ ≤ 37.

e, e0, e1 are centred binomial of 42 bits (variance 10.5), u is ternary. `tenseal.sealapi` computes this as
well, but reads ciphertexts word by word, has no seeded ones, and holds Python's lock: so polynomials are
multiplied by `protocols.arith.ntt`. Tests hold its ciphertexts to SEAL's decryptor.

Sources: Fan and Vercauteren, eprint 2012/144; flooding: Gentry, STOC 2009; sending only the coefficients
that are wanted: Huang et al., Cheetah (USENIX Security 2022).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import tenseal.sealapi as seal
import torch
from torch import Tensor

from baselines.he_linear.parameters import (
    MODULUS_BITS,
    PRIMES,
    SEED_BYTES,
    N,
    Packing,
)
from protocols.arith.ntt import PolynomialRing, Words, scaled
from protocols.arith.prg import Prg, Stream
from protocols.arith.seal_context import BFV, context, words_of
from protocols.arith.word_bytes import centred_binomial, packed, unpacked

_LOW = (1 << 48) - 1


@lru_cache(1)
def ring() -> PolynomialRing:
    """Modulo q."""
    return PolynomialRing(N, PRIMES)


@lru_cache(1)
def last_ring() -> PolynomialRing:
    """Modulo p0, where replies are."""
    return PolynomialRing(N, PRIMES[:1])


def delta(plain_bits: int) -> int:
    """Δ."""
    return (PRIMES[0] * PRIMES[1]) >> plain_bits


@dataclass(frozen=True)
class Blank:
    """P1's encryptions of zero: c0, int64 (count, 2, N), and the seed of all a', uint8 (16,)."""

    c0: Words
    seed: Tensor


@dataclass(frozen=True)
class Zero:
    """P0's encryptions of zero for one row of an answer: all of c1 (groups, 2, N); of c0, flooded, what
    belongs to the answer (2, rows)."""

    c0: Words
    c1: Words


class User:
    """P1: owns the secret key, encrypts blocks and opens replies. key_seed: of all but the secret key."""

    def __init__(self, plain_bits: int, key_seed: int | None) -> None:
        self._delta, self._plain_bits = delta(plain_bits), plain_bits
        root = Prg.root(key_seed, "user")
        self._noise, self._seeds = root.stream("noise"), root.stream("seeds")
        self._secret = torch.from_numpy(_secret_key(plain_bits))

    def public_key(self) -> tuple[Tensor, Tensor]:
        """b as values, uint8 (2·N·6,), and the seed of a."""
        seed = self._seed()
        error = ring().forward(ring().words(noise(self._noise, N)))
        b = (error - self._masked(uniform(seed, 1)[0])) % ring().column
        return torch.from_numpy(packed(b).reshape(-1)), seed

    def blank(self, count: int) -> Blank:
        """For `count` blocks."""
        seed = self._seed()
        masks = ring().backward(self._masked(uniform(seed, count)))
        error = ring().words(noise(self._noise, count, N))
        return Blank((error - masks) % ring().column, seed)

    def encrypt(self, zeros: Words, x: Words) -> Tensor:
        """Blocks of integers (count, N) on encryptions of zero, which are used up: uint8 (count, 2·N·6).

        zeros: as many of a blank's c0, (count, 2, N).
        """
        scaled_x = np.stack([scaled(x % p, self._delta % p, p) for p in PRIMES], axis=-2)
        c0 = (zeros + scaled_x) % ring().column
        return torch.from_numpy(packed(c0).reshape(len(x), -1))

    def open(self, c0: Words, c1: Words, one: Packing) -> Words:
        """Replies c0 (rows,) and c1 (groups, N) modulo p0 → W·x, int64 (rows,)."""
        p0, last = PRIMES[0], last_ring()
        values = last.forward(c1[:, None].copy())
        masks = last.backward(last.product(values, self._secret.numpy()[:1]))[:, 0]
        phase = (c0 + answers(masks, one)) % p0
        centred = np.where(phase > p0 // 2, phase - p0, phase)
        return np.rint(centred * (2.0**self._plain_bits / p0)).astype(np.int64)

    def _masked(self, a: Words) -> Words:
        """a∘s, (…, 2, N)."""
        return ring().product(a, self._secret.numpy())

    def _seed(self) -> Tensor:
        return self._seeds.int64(SEED_BYTES // 8).view(torch.uint8)


class Provider:
    """P0: multiplies blocks by its polynomials under the user's public key. Raises ValueError."""

    def __init__(self, key: Tensor, seed: Tensor, plain_bits: int, key_seed: int | None) -> None:
        self._delta, self._flood_bits = delta(plain_bits), MODULUS_BITS - 2 - plain_bits
        self._stream = Prg.root(key_seed, "provider").stream("zeros")
        b = unpacked(key.numpy(), PRIMES, "public key").reshape(2, N)
        self._key = torch.from_numpy(np.stack([b, uniform(seed, 1)[0]]))

    def zero(self, one: Packing) -> Zero:
        """For one row of an answer."""
        u = ring().forward(ring().words(ternary(self._stream, one.groups, N)))
        b, a = (ring().backward(ring().product(u, part)) for part in self._key.numpy())
        e1 = ring().words(noise(self._stream, one.groups, N))
        e0 = ring().words(noise(self._stream, one.shape.rows))
        c0 = answers(b, one) + e0 + self._flood(one.shape.rows)
        return Zero(c0 % ring().column, (a + e1) % ring().column)

    def answer(
        self, blocks: Words, weights: Words, zero: Zero, one: Packing, added: Words | None = None
    ) -> tuple[Tensor, Tensor]:
        """c0 (rows·6,) and c1 (groups, N·6), uint8, of one row.

        blocks: c0 and a' of x as values, (blocks, 2, 2, N); weights: (groups, blocks, 2, N), as values;
        added: integers (rows,) that P0 adds to the answer.
        """
        both = ring().backward(ring().sums(blocks, weights))
        c0, c1 = answers(both[:, 0], one) + zero.c0, both[:, 1] + zero.c1
        if added is not None:
            c0 += np.stack([scaled(added % p, self._delta % p, p) for p in PRIMES])
        return _reply(c0), _reply(c1)

    def _flood(self, count: int) -> Words:
        """Uniform in ±2^flood_bits, modulo both primes (2, count)."""
        low, high = (self._stream.int64(count).numpy() for _ in range(2))
        high = high & ((1 << (self._flood_bits + 1 - 48)) - 1)
        return np.stack(
            [(high * (2**48 % p) + (low & _LOW) - 2**self._flood_bits % p) % p for p in PRIMES]
        )


def as_values(seed: Tensor, words: Words) -> Words:
    """c0 (count, 2, N) of one query, and its a' → both as values (count, 2, 2, N)."""
    return np.stack([ring().forward(words), uniform(seed, len(words))], axis=1)


def encoded(integers: Words, one: Packing) -> Tensor:
    """W (rows, columns) as polynomials' values, int64 (groups, blocks, 2, N)."""
    shape, width, count = one.shape, one.width, one.rows
    out = np.zeros((one.groups, one.blocks, 2, N), np.int64)
    for g in range(one.groups):
        rows = integers[g * count : (g + 1) * count]
        padded = np.zeros((len(rows), one.blocks * width), np.int64)
        padded[:, : shape.columns] = rows
        blocks = padded.reshape(len(rows), one.blocks, width).transpose(1, 0, 2)[..., ::-1]
        polynomials = np.zeros((one.blocks, N), np.int64)
        polynomials[:, : len(rows) * width] = blocks.reshape(one.blocks, -1)
        out[g] = ring().words(polynomials)
    return torch.from_numpy(ring().forward(out))


def blocked(x: Words, one: Packing) -> Words:
    """One row x (columns,) as polynomials (blocks, N)."""
    padded = np.zeros(one.blocks * one.width, np.int64)
    padded[: len(x)] = x
    out = np.zeros((one.blocks, N), np.int64)
    out[:, : one.width] = padded.reshape(one.blocks, one.width)
    return out


def answers(polynomials: Words, one: Packing) -> Words:
    """The coefficients that hold W·x: (groups, …, N) → (…, rows)."""
    held = polynomials[..., one.width - 1 : one.rows * one.width : one.width]
    return np.moveaxis(held, 0, -2).reshape(*held.shape[1:-1], -1)[..., : one.shape.rows]


def _reply(c: Words) -> Tensor:
    """What travels of c (…, 2, n), words of any size: uint8 (…, n·6)."""
    return torch.from_numpy(packed(_switched(c % ring().column)))


def _switched(c: Words) -> Words:
    """round(c/p1) modulo p0: (…, 2, n) → (…, n)."""
    p0, p1 = PRIMES
    rest = np.where(c[..., 1, :] > p1 // 2, c[..., 1, :] - p1, c[..., 1, :])
    return scaled((c[..., 0, :] - rest) % p0, pow(p1, -1, p0), p0)


def _secret_key(plain_bits: int) -> Words:
    """SEAL's ternary key as values, (2, N)."""
    generator = seal.KeyGenerator(context(BFV, N, PRIMES, 1 << plain_bits))
    secret = generator.secret_key()  # to be held as long as its words are read
    return words_of(secret.data(), 0, 2 * N).view(np.int64).reshape(2, N)


def uniform(seed: Tensor, count: int) -> Words:
    """Values of `count` uniform polynomials from a seed, (count, 2, N)."""
    prg = Prg(bytes(seed.numpy()))
    out = np.empty((count, 2, N), np.int64)
    for i, p in enumerate(PRIMES):
        stream = prg.stream(f"prime {i}")
        words = stream.int64(count, N).numpy() & _LOW
        while (beyond := words >= p).any():
            words[beyond] = stream.int64(int(beyond.sum())).numpy() & _LOW
        out[:, i] = words
    return out


def noise(stream: Stream, *shape: int) -> Words:
    """Samples of e."""
    return centred_binomial(stream.int64(*shape).numpy())


def ternary(stream: Stream, *shape: int) -> Words:
    """−1, 0 or 1, each with probability 1/3 but for 2^-63."""
    words = stream.int64(*shape).numpy().view(np.uint64)
    return (words % np.uint64(3)).astype(np.int64) - 1


@lru_cache(1)
def warm_up() -> None:
    """Call every kernel once, so that nobody's measurement pays for compiling or loading it."""
    words = np.zeros((1, 1, 2, N), np.int64)
    for one in (ring(), last_ring()):
        some = words[:, :, : len(one.primes)].copy()
        one.backward(one.product(one.forward(some), some[0, 0]))
        one.sums(some, some)
