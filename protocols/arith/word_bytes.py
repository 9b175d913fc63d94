"""Words below 2^48 as bytes, and noise: what ciphertexts over rings of polynomials have in common."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

WORD_BYTES = 6
NOISE_BITS = 21  # of each half of a centred binomial number: |e| ≤ 21, variance 10.5

Bytes = NDArray[np.uint8]


def packed(words: NDArray[Any]) -> Bytes:
    """64-bit words (…, n), each below 2^48 → uint8 (…, 6·n)."""
    each = np.ascontiguousarray(words).view(np.uint8).reshape(*words.shape, 8)
    low: Bytes = each[..., :WORD_BYTES].reshape(*words.shape[:-1], -1)
    return low


def unpacked(given: Bytes, primes: Sequence[int], what: str) -> NDArray[np.int64]:
    """uint8 (…, primes·n·6) → words (…, primes, n). Raises ValueError for one not below its prime."""
    shape = (*given.shape[:-1], len(primes), given.shape[-1] // (WORD_BYTES * len(primes)))
    each = np.zeros((*shape, 8), np.uint8)
    each[..., :WORD_BYTES] = given.reshape(*shape, WORD_BYTES)
    words: NDArray[np.int64] = each.view("<i8")[..., 0]
    if (words >= np.array(primes)[:, None]).any():
        raise ValueError(f"{what} is corrupt: a word is not below its prime")
    return words


def centred_binomial(bits: NDArray[np.int64]) -> NDArray[np.int64]:
    """A sample of the centred binomial distribution of 2·NOISE_BITS bits from each 64-bit word."""
    mask = (1 << NOISE_BITS) - 1
    return _ones(bits & mask) - _ones((bits >> NOISE_BITS) & mask)


def _ones(words: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many bits of each word below 2^32 are 1. (numpy 1.26 has no `bitwise_count`.)"""
    twos = words - (words >> 1 & 0x55555555)
    fours = (twos & 0x33333333) + (twos >> 2 & 0x33333333)
    bytes_ = fours + (fours >> 4) & 0x0F0F0F0F
    total: NDArray[np.int64] = bytes_ * 0x01010101 >> 24 & 0xFF
    return total
