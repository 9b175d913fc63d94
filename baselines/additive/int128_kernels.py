"""The arithmetic of `wide` on flat arrays: numbers mod 2^128 as (low, high) words.

Opened e, f are int64; a, b, c are this role's shares; `leads` marks the role that adds what is public.
Divisions add 1 at that role, which centres the error of two roundings down.
"""

import numpy as np
from numba import njit

from baselines.additive.kernels import Word, Words, minus, plus, shifted, sign_extension, times


@njit(cache=True, nogil=True, inline="always")
def _lifted(e: Word, low: Word, high: Word, leads: bool) -> tuple[Word, Word]:
    """The share of x = e + a."""
    if leads:
        return plus(low, high, e, sign_extension(e))
    return low, high


@njit(cache=True, nogil=True, inline="always")
def _squared(
    e: Word, low: Word, high: Word, c_low: Word, c_high: Word, leads: bool
) -> tuple[Word, Word]:
    """The share of x² = e·(a + x) + c, where P0's x holds e."""
    x_low, x_high = _lifted(e, low, high, leads)
    sum_low, sum_high = plus(x_low, x_high, low, high)
    cross_low, cross_high = times(e, sum_low, sum_high)
    return plus(cross_low, cross_high, c_low, c_high)


@njit(cache=True, nogil=True)
def quadratic(
    out: Words,
    e: Words,
    a_low: Words,
    a_high: Words,
    c_low: Words,
    c_high: Words,
    square: int,
    linear: int,
    shift: int,
    leads: bool,
) -> None:
    """(square·x² + linear·x) >> shift."""
    for i in range(out.size):
        opened, low, high = Word(e[i]), Word(a_low[i]), Word(a_high[i])
        s_low, s_high = _squared(opened, low, high, Word(c_low[i]), Word(c_high[i]), leads)
        s_low, s_high = times(Word(square), s_low, s_high)
        x_low, x_high = _lifted(opened, low, high, leads)
        x_low, x_high = times(Word(linear), x_low, x_high)
        s_low, s_high = plus(s_low, s_high, x_low, x_high)
        out[i] = np.int64(shifted(s_low, s_high, Word(shift))) + np.int64(leads)


@njit(cache=True, nogil=True)
def square_sum(
    out: Words,
    e: Words,
    a_low: Words,
    a_high: Words,
    c_low: Words,
    c_high: Words,
    factor: int,
    shift: int,
    leads: bool,
) -> None:
    """(factor·Σ x²) >> shift over rows of equal length."""
    width = e.size // max(1, out.size)
    for row in range(out.size):
        low, high = Word(0), Word(0)
        for i in range(row * width, (row + 1) * width):
            s_low, s_high = _squared(
                Word(e[i]), Word(a_low[i]), Word(a_high[i]), Word(c_low[i]), Word(c_high[i]), leads
            )
            low, high = plus(low, high, s_low, s_high)
        low, high = times(Word(factor), low, high)
        out[row] = np.int64(shifted(low, high, Word(shift))) + np.int64(leads)


@njit(cache=True, nogil=True)
def product(
    out: Words,
    e: Words,
    f: Words,
    a_low: Words,
    a_high: Words,
    b_low: Words,
    b_high: Words,
    c_low: Words,
    c_high: Words,
    factor: int,
    shift: int,
    leads: bool,
) -> None:
    """(factor·x·y) >> shift, with x·y = e·y + f·a + c, where P0's y holds f."""
    for i in range(out.size):
        first, second = Word(e[i]), Word(f[i])
        y_low, y_high = _lifted(second, Word(b_low[i]), Word(b_high[i]), leads)
        low, high = times(first, y_low, y_high)
        cross_low, cross_high = times(second, Word(a_low[i]), Word(a_high[i]))
        low, high = plus(low, high, cross_low, cross_high)
        low, high = plus(low, high, Word(c_low[i]), Word(c_high[i]))
        low, high = times(Word(factor), low, high)
        out[i] = np.int64(shifted(low, high, Word(shift))) + np.int64(leads)


@njit(cache=True, nogil=True)
def difference(out: Words, low: Words, high: Words, other_low: Words, other_high: Words) -> None:
    """(low, high) − (other_low, other_high), the low words first."""
    n = low.size
    for i in range(n):
        d_low, d_high = minus(Word(low[i]), Word(high[i]), Word(other_low[i]), Word(other_high[i]))
        out[i], out[n + i] = np.int64(d_low), np.int64(d_high)


@njit(cache=True, nogil=True)
def product_rest(out: Words, a: Words, b: Words, other_low: Words, other_high: Words) -> None:
    """a·b − (other_low, other_high) for signed a and b, the low words first."""
    n = a.size
    for i in range(n):
        second = Word(b[i])
        low, high = times(Word(a[i]), second, sign_extension(second))
        low, high = minus(low, high, Word(other_low[i]), Word(other_high[i]))
        out[i], out[n + i] = np.int64(low), np.int64(high)
