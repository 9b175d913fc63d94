"""How numba kernels are called on shares, and the 128-bit arithmetic that `wide` needs.

A number mod 2^128 is a pair (low, high) of uint64. Signed 64-bit factors are given by their bits.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

Words = NDArray[np.int64]
Word = np.uint64

_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_63 = np.uint64(63)
_64 = np.uint64(64)
_0 = np.uint64(0)


def run(kernel: Callable[..., None], shape: tuple[int, ...], *arguments: Any) -> Tensor:
    """`kernel(out, *arguments)` on flat int64 arrays, out of `shape`."""
    out = torch.empty(shape, dtype=torch.int64)
    kernel(flat(out), *[flat(a) if isinstance(a, Tensor) else a for a in arguments])
    return out


def flat(x: Tensor) -> Words:
    """The elements in row-major order; shares memory with a contiguous tensor."""
    array: Words = x.contiguous().view(-1).numpy()
    return array


def broadcast(x: Tensor, y: Tensor) -> tuple[int, ...]:
    """The shape that x and y broadcast to."""
    return np.broadcast_shapes(tuple(x.shape), tuple(y.shape))


@njit(cache=True, nogil=True, inline="always")
def high_product(a: Word, b: Word) -> Word:
    """The upper 64 bits of an unsigned product."""
    a0, a1, b0, b1 = a & _LOW, a >> _32, b & _LOW, b >> _32
    middle = a1 * b0 + (a0 * b0 >> _32)
    other = a0 * b1 + (middle & _LOW)
    return a1 * b1 + (middle >> _32) + (other >> _32)


@njit(cache=True, nogil=True, inline="always")
def sign_extension(x: Word) -> Word:
    """The upper word of a signed 64-bit number: all ones if it is negative."""
    return _0 - (x >> _63)


@njit(cache=True, nogil=True, inline="always")
def times(factor: Word, low: Word, high: Word) -> tuple[Word, Word]:
    """Signed 64-bit factor · (low, high) mod 2^128."""
    upper = high_product(factor, low) + factor * high - (sign_extension(factor) & low)
    return factor * low, upper


@njit(cache=True, nogil=True, inline="always")
def plus(low: Word, high: Word, other_low: Word, other_high: Word) -> tuple[Word, Word]:
    """Sum mod 2^128."""
    total = low + other_low
    return total, high + other_high + Word(total < low)


@njit(cache=True, nogil=True, inline="always")
def minus(low: Word, high: Word, other_low: Word, other_high: Word) -> tuple[Word, Word]:
    """Difference mod 2^128."""
    return low - other_low, high - other_high - Word(low < other_low)


@njit(cache=True, nogil=True, inline="always")
def shifted(low: Word, high: Word, bits: Word) -> Word:
    """The lower word of (low, high) >> bits, 0 ≤ bits < 128, arithmetic."""
    if bits == _0:
        return low
    if bits < _64:
        return (low >> bits) | (high << (_64 - bits))
    return Word(np.int64(high) >> np.int64(bits - _64))
