"""Products in Z_p[X]/(X^N + 1) for primes p below 2^50: the number-theoretic transform.

With ψ a primitive 2N-th root of unity modulo p, the transform of a is its values at ψ^(2·brv(i) + 1), where
brv reverses bits: a product of polynomials is the product of their values, one by one. ψ is the least such
root, so that values stand in the order of Microsoft SEAL's.

A product modulo p takes its quotient from floating point: with a, b < p < 2^50 the quotient is wrong by 1 at
most, and a·b − quotient·p modulo 2^64 lies between −p and 2p (`_times`).

Words are int64, 0 ≤ word < p; every array ends with the axes (primes, N). Sources: Longa, Naehrig, eprint
2016/504 (the butterflies); Dekker's quotient as in Shoup's NTL (`MulMod`).
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numba import njit
from numpy.typing import NDArray

from protocols.arith.ring import in_parallel

Words = NDArray[np.int64]
Primes = NDArray[np.int64]
MAX_PRIME = 1 << 50
MAX_TERMS = 1 << 12  # of one sum of products: 2^12·2·2^50 < 2^63
_CHUNK = 1024  # values of a sum at a time: they stay in the first cache


@njit(cache=True, nogil=True, inline="always")
def _times(a: np.int64, b: np.int64, p: np.int64, inverse: float) -> np.int64:
    """a·b mod p, plus or minus p; inverse: 1/p."""
    return a * b - np.int64(np.float64(a) * np.float64(b) * inverse) * p


@njit(cache=True, nogil=True, inline="always")
def _reduced(x: np.int64, p: np.int64) -> np.int64:
    """−p < x < 2p → 0 ≤ x < p."""
    x += p & (x >> 63)
    x -= p
    return x + (p & (x >> 63))


@njit(cache=True, nogil=True)
def _forward(a: Words, roots: Words, p: np.int64) -> None:
    """One polynomial, in place."""
    inverse, width, blocks = 1.0 / p, a.size, 1
    while blocks < a.size:
        width //= 2
        for i in range(blocks):
            root, start = roots[blocks + i], 2 * i * width
            low, high = a[start : start + width], a[start + width : start + 2 * width]
            for j in range(width):
                u, v = low[j], _reduced(_times(high[j], root, p, inverse), p)
                low[j] = _reduced(u + v, p)
                high[j] = _reduced(u - v, p)
        blocks *= 2


@njit(cache=True, nogil=True)
def _backward(a: Words, roots: Words, p: np.int64, scale: np.int64) -> None:
    """The inverse, in place; roots: the inverses of the others'; scale: 1/N."""
    inverse, width, blocks = 1.0 / p, 1, a.size // 2
    while blocks:
        for i in range(blocks):
            root, start = roots[blocks + i], 2 * i * width
            low, high = a[start : start + width], a[start + width : start + 2 * width]
            for j in range(width):
                u, v = low[j], high[j]
                low[j] = _reduced(u + v, p)
                high[j] = _reduced(_times(_reduced(u - v, p), root, p, inverse), p)
        width *= 2
        blocks //= 2
    for j in range(a.size):
        a[j] = _reduced(_times(a[j], scale, p, inverse), p)


@njit(cache=True, nogil=True)
def _forward_all(a: Words, roots: Words, primes: Primes, lo: int, hi: int) -> None:
    """a (…, primes, N)."""
    for i in range(lo, hi):
        for j in range(primes.size):
            _forward(a[i, j], roots[j], primes[j])


@njit(cache=True, nogil=True)
def _backward_all(a: Words, roots: Words, primes: Primes, scales: Words, lo: int, hi: int) -> None:
    """a (…, primes, N)."""
    for i in range(lo, hi):
        for j in range(primes.size):
            _backward(a[i, j], roots[j], primes[j], scales[j])


@njit(cache=True, nogil=True)
def _sums(out: Words, x: Words, w: Words, primes: Primes, lo: int, hi: int) -> None:
    """out[g, c] = Σ_b x[b, c]∘w[g, b]; out (G, C, primes, N), x (B, C, primes, N), w (G, B, primes, N)."""
    n = out.shape[3]
    for g in range(lo, hi):
        for j in range(primes.size):
            p = primes[j]
            inverse = 1.0 / p
            for start in range(0, n, _CHUNK):
                end = min(n, start + _CHUNK)
                for c in range(x.shape[1]):
                    total = out[g, c, j, start:end]
                    total[:] = 0
                    for b in range(w.shape[1]):
                        xs, ws = x[b, c, j, start:end], w[g, b, j, start:end]
                        for i in range(total.size):
                            total[i] += _times(xs[i], ws[i], p, inverse)
                    for i in range(total.size):
                        rest = total[i] - np.int64(np.float64(total[i]) * inverse) * p
                        total[i] = _reduced(rest, p)


@njit(cache=True, nogil=True)
def _products(out: Words, x: Words, y: Words, primes: Primes, lo: int, hi: int) -> None:
    """x∘y, x (…, primes, N), y (primes, N)."""
    for i in range(lo, hi):
        for j in range(primes.size):
            inverse = 1.0 / primes[j]
            for k in range(out.shape[2]):
                product = _times(x[i, j, k], y[j, k], primes[j], inverse)
                out[i, j, k] = _reduced(product, primes[j])


class PolynomialRing:
    """Z_q[X]/(X^N + 1), q the product of `primes`, each 1 modulo 2N and below 2^50. Raises ValueError.

    Its methods run on as many threads as products may use (`ring.use_threads`).
    """

    def __init__(self, n: int, primes: Sequence[int]) -> None:
        if any(p >= MAX_PRIME or p % (2 * n) != 1 for p in primes):
            raise ValueError(f"primes must be below 2^50 and 1 modulo {2 * n}, got {list(primes)}")
        self.n = n
        self.primes: Primes = np.array(primes, np.int64)
        roots = [_least_root(p, n) for p in primes]
        self._roots = np.stack([_powers(psi, p, n) for psi, p in zip(roots, primes, strict=True)])
        self._inverses = np.stack(
            [_powers(pow(psi, -1, p), p, n) for psi, p in zip(roots, primes, strict=True)]
        )
        self._scales = np.array([pow(n, -1, p) for p in primes], np.int64)

    @cached_property
    def column(self) -> Primes:
        """The primes beside words, (primes, 1)."""
        return self.primes[:, None]

    def forward(self, a: Words) -> Words:
        """The values of polynomials (…, primes, N), in their memory where that is contiguous."""
        flat = self._flat(a)
        in_parallel(len(flat), lambda lo, hi: _forward_all(flat, self._roots, self.primes, lo, hi))
        return flat.reshape(a.shape)

    def backward(self, a: Words) -> Words:
        """The polynomials of values (…, primes, N), in their memory where that is contiguous."""
        flat, kept = self._flat(a), (self._inverses, self.primes, self._scales)
        in_parallel(len(flat), lambda lo, hi: _backward_all(flat, *kept, lo, hi))
        return flat.reshape(a.shape)

    def product(self, x: Words, y: Words) -> Words:
        """x∘y: x (…, primes, N), y (primes, N)."""
        out = np.empty(x.shape, np.int64)
        flat = self._flat(out), self._flat(x)
        in_parallel(len(flat[0]), lambda lo, hi: _products(*flat, y, self.primes, lo, hi))
        return out

    def sums(self, x: Words, w: Words) -> Words:
        """Σ_b x[b, c]∘w[g, b]: x (B, C, primes, N), w (G, B, primes, N) → (G, C, primes, N). Raises
        ValueError
        unless both have the same B ≤ 2^12."""
        if x.shape[0] != w.shape[1] or x.shape[0] > MAX_TERMS:
            raise ValueError(f"{x.shape[0]} and {w.shape[1]} summands; at most {MAX_TERMS}")
        out = np.empty((len(w), *x.shape[1:]), np.int64)
        in_parallel(len(w), lambda lo, hi: _sums(out, x, w, self.primes, lo, hi))
        return out

    def words(self, integers: Words) -> Words:
        """Integers (…, N), positive or negative, modulo each prime: (…, primes, N)."""
        return integers[..., None, :] % self.column

    def _flat(self, a: Words) -> Words:
        return a.reshape(-1, len(self.primes), self.n)


def _least_root(p: int, n: int) -> int:
    """The least primitive 2n-th root of unity modulo p; n a power of two."""
    candidates = (pow(g, (p - 1) // (2 * n), p) for g in range(2, p))
    root = next(c for c in candidates if pow(c, n, p) == p - 1)
    square, least, current = root * root % p, root, root
    for _ in range(n - 1):
        current = current * square % p
        least = min(least, current)
    return least


def _powers(root: int, p: int, n: int) -> Words:
    """root^brv(i) for i < n."""
    bits, powers = n.bit_length() - 1, [1]
    for _ in range(n - 1):
        powers.append(powers[-1] * root % p)
    order = [int(f"{i:0{bits}b}"[::-1], 2) for i in range(n)] if bits else [0]
    return np.array([powers[i] for i in order], np.int64)


def scaled(x: Words, factor: int, p: int) -> Words:
    """x·factor mod p for 0 ≤ x, factor < p."""
    quotient = (x.astype(np.float64) * (factor / p)).astype(np.int64)
    rest: Words = (x * np.int64(factor) - quotient * np.int64(p)) % p
    return rest
