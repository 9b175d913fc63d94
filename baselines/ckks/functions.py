"""Functions under CKKS: polynomials on a stated range, corrected by Newton steps.

Chebyshev polynomials stand for functions of one bounded variable. What divides has a coarse
polynomial first, of relative error ε, and corrections that square it.

| function | range | how | error |
|---|---|---|---|
| exp | [−8, 0] | degree 15 | 2e-10 |
| gelu (tanh form) | |x| ≤ 12 | x/2 + E(x²), E of degree 31 | 2e-6 |
| reciprocal | [0.5, 50] | degree 15 (ε = 0.08), 3 times r ← r(2 − xr) | 2e-9, relative |
| rsqrt | [0.5, 50] | degree 15 (ε = 0.03), 3 times r ← r(3 − xr²)/2 | 1e-9, relative |
| softmax | |x| ≤ 16 | below | 2e-5 of a weight |
| layernorm | deviation of a row in [1/4, 4] | below | 1e-4 at 1/4, 1e-6 at 2 |

**Softmax.** y₀ = exp(x / 16); four times y ← y² / Σy², which doubles the temperature's inverse, so
that y₄ = softmax(x). The division's variable is Σy², between bounds that follow from |x| and the
row's length; a factor that a whole row has in common does not matter before the last division,
which is then corrected: y ← y·(2 − Σy). No maximum is needed. Slots past a row's end get
coefficients 0 in y₀, and stay 0.

**LayerNorm.** c = x − mean; y = c·p(Σc²), p near the inverse root; corrected until the deviation is
right: y ← y·(3 − Σy²)/2 for y scaled to Σy² = 1. The eps of 10^-5 counts in p alone.

P1 encrypts x ÷ 12 for gelu and x ÷ 16 for softmax: a public factor is a matter of what scale a
ciphertext is said to have.

A row stands in slots R apart, R = slots ÷ its padded length: rotations by R, 2R, 4R, … then give
every slot its row's sum, without a mask.

Sources: y ← y² / Σy²: Cho, Hanrot, Kim, Park, Stehlé, CCS 2024 (arXiv 2410.11184).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.polynomial import chebyshev
from torch import Tensor

from baselines.ckks.operations import (
    Operations,
    Slots,
    chebyshev_doubled,
    polynomial,
    polynomial_levels,
)
from protocols.transformer.reference import gelu as exact_gelu
from protocols.workload import NonlinearOp

V = TypeVar("V")
Real = Callable[[Slots], Slots]

GELU_BOUND = 12.0
SCORE_BOUND = 16.0
DEVIATION = (0.25, 4.0)
EPS = 1e-5
RANGES: dict[NonlinearOp, tuple[float, float]] = {
    "exp": (-8.0, 0.0),
    "gelu": (-GELU_BOUND, GELU_BOUND),
    "reciprocal": (0.5, 50.0),
    "rsqrt": (0.5, 50.0),
    "softmax": (-SCORE_BOUND, SCORE_BOUND),
}
INPUT_SCALE: dict[NonlinearOp, float] = {"gelu": 1 / GELU_BOUND, "softmax": 1 / SCORE_BOUND}
COARSE = 0.25  # a row's sum may be off by that much before the last division
FINE = 1e-5
TERMS = 16  # of the polynomials of what divides
POLYNOMIAL_LEVELS = polynomial_levels(TERMS)
EXP_LEVELS = polynomial_levels(8)


def fitted(function: Real, low: float, high: float, size: int) -> list[float]:
    """Chebyshev coefficients of what agrees with `function` at `size` points of [low, high]."""
    middle, half = (low + high) / 2, (high - low) / 2
    angles = math.pi * (np.arange(size) + 0.5) / size
    values = function(middle + half * np.cos(angles))
    c = np.cos(np.outer(np.arange(size), angles)) @ values * (2 / size)
    c[0] /= 2
    return [float(each) for each in c]


def unit(ops: Operations[V], x: V, low: float, high: float) -> V:
    """x in [low, high] → [−1, 1], one level."""
    return ops.plus(ops.times(x, 2 / (high - low)), -(high + low) / (high - low))


def exp(ops: Operations[V], x: V) -> V:
    """See the module."""
    low, high = RANGES["exp"]
    x = ops.ready(x, 1 + POLYNOMIAL_LEVELS)
    return polynomial(ops, unit(ops, x, low, high), fitted(np.exp, low, high, TERMS))


@cache
def _gelu_coefficients() -> list[float]:
    """Of the even part of GeLU, in x²."""

    def even(square: Slots) -> Slots:
        x = torch.from_numpy(np.sqrt(np.maximum(square, 0)))
        return (exact_gelu(x, "tanh") - x / 2).numpy()

    return fitted(even, 0.0, GELU_BOUND**2, 32)


def gelu(ops: Operations[V], u: V) -> V:
    """Of x = u·GELU_BOUND."""
    u = ops.ready(u, 1 + polynomial_levels(32))
    even = polynomial(ops, chebyshev_doubled(ops, u), _gelu_coefficients())
    return ops.add(even, ops.times(u, GELU_BOUND / 2))


def reciprocal(ops: Operations[V], x: V) -> V:
    """See the module."""
    low, high = RANGES["reciprocal"]
    x = ops.ready(x, 1 + POLYNOMIAL_LEVELS)
    r = polynomial(ops, unit(ops, x, low, high), _inverse(low, high, TERMS))
    for _ in range(3):
        x, r = ops.ready(x, 2), ops.ready(r, 2)
        r = ops.multiply(r, ops.plus(ops.negative(ops.multiply(x, r)), 2.0))
    return r


def rsqrt(ops: Operations[V], x: V) -> V:
    """See the module."""
    low, high = RANGES["rsqrt"]
    x = ops.ready(x, 1 + POLYNOMIAL_LEVELS)
    half = ops.times(x, -0.5)
    r = polynomial(ops, unit(ops, x, low, high), _inverse_root(low, high, TERMS))
    for _ in range(3):
        half, r = ops.ready(half, 2), ops.ready(r, 2)
        cube = ops.multiply(ops.multiply(half, r), ops.multiply(r, r))
        r = ops.add(cube, ops.times(r, 1.5))
    return r


ELEMENTWISE: dict[NonlinearOp, Callable[..., Any]] = {
    "exp": exp,
    "gelu": gelu,
    "reciprocal": reciprocal,
    "rsqrt": rsqrt,
}


def _inverse(low: float, high: float, size: int) -> list[float]:
    """The polynomial of degree size − 1 that is nearest to 1/x in relative error: (1 − T(u(x))/T(u(0)))/x,
    T of degree `size`, u from [low, high] to [−1, 1]."""
    zero = -(high + low) / (high - low)
    top = math.cosh(size * math.acosh(-zero)) * (-1) ** size

    def p(x: Slots) -> Slots:
        u = (2 * x - high - low) / (high - low)
        values: Slots = (1 - np.cos(size * np.arccos(np.clip(u, -1, 1))) / top) / x
        return values

    return fitted(p, low, high, size)


def inverse_error(low: float, high: float, size: int) -> float:
    """Its relative error, 1 ÷ |T(u(0))|."""
    return 1 / math.cosh(size * math.acosh((high + low) / (high - low)))


def _inverse_root(low: float, high: float, size: int) -> list[float]:
    return fitted(lambda x: x**-0.5, low, high, size)


@dataclass(frozen=True)
class Rows:
    """Where rows stand: `per` of them in a ciphertext, one value every `per` slots, `padded` values."""

    length: int
    padded: int
    per: int

    @classmethod
    def of(cls, length: int, slots: int) -> "Rows":
        """Rows of `length` values in ciphertexts of `slots`."""
        padded = 1 << (length - 1).bit_length()
        return cls(length, padded, slots // padded)

    def sums(self, ops: Operations[V], x: V) -> V:
        """Each row's sum, in all its slots."""
        return ops.rotated_sum(x, self.per, self.padded)

    def pack(self, x: Tensor) -> Slots:
        """float64 (n, length) → (⌈n ÷ per⌉, slots), 0 where there is nothing."""
        count = -(-len(x) // self.per)
        full = np.zeros((count * self.per, self.padded))
        full[: len(x), : self.length] = x.numpy()
        return full.reshape(count, self.per, self.padded).transpose(0, 2, 1).reshape(count, -1)

    def unpack(self, slots: Slots, n: int) -> Tensor:
        """Back to (n, length)."""
        rows = slots.reshape(-1, self.padded, self.per).transpose(0, 2, 1).reshape(-1, self.padded)
        return torch.from_numpy(np.ascontiguousarray(rows[:n, : self.length]))

    def valid(self) -> Slots:
        """1 in the slots of a row's values, 0 past its end."""
        return np.repeat(np.arange(self.padded) < self.length, self.per).astype(np.float64)


Sums = Callable[[Operations[V], V], V]


@dataclass(frozen=True)
class Division:
    """One y ← y² / Σy² of a softmax: Σy² is between `low` and `high`; the outcome's sum is off by
    `error` after so many corrections."""

    low: float
    high: float
    corrections: int
    error: float

    @property
    def factor(self) -> float:
        """γ, by which y is multiplied so that Σ(γy)², less a constant, lies in [−1, 1]."""
        return math.sqrt(2 / (self.high - self.low))


@cache
def divisions(length: int, bound: float) -> tuple[Division, ...]:
    """The divisions of a softmax over rows of a length, |x| ≤ bound, a power of two from 2 on.

    With a = x·2^j ÷ bound the weights before division j > 0 are softmax(a), and
    length·Σy² = mean(e^2a) ÷ mean(e^a)² lies between 1 and both the length and cosh²(2^j).
    """
    spans = [(math.exp(-2), math.exp(2))]  # y₀ = e^a ÷ length is not divided yet
    for j in range(1, round(math.log2(bound))):
        spans.append((1.0, min(float(length), math.cosh(2.0**j) ** 2)))
    found: list[Division] = []
    for index, (least, most) in enumerate(spans):
        off = found[-1].error if found else 0.0
        low, high = least / length * (1 - off) ** 2, most / length * (1 + off) ** 2
        high = max(high, 1.5 * low)
        error, corrections = inverse_error(low, high, TERMS), 0
        while error > (FINE if index + 1 == len(spans) else COARSE):
            error, corrections = error**2, corrections + 1
        found.append(Division(low, high, corrections, error))
    return tuple(found)


def softmax(ops: Operations[V], u: V, length: int, where: Slots, sums: Sums[V]) -> V:
    """Weights of rows of x = u·SCORE_BOUND. where: 1 in the slots of their values, 0 past their ends.
    sums: adds up each row."""
    chain = divisions(length, SCORE_BOUND)
    scale = chain[0].factor / length
    u = ops.ready(u, EXP_LEVELS)
    w = polynomial(ops, u, [scale * c for c in fitted(np.exp, -1.0, 1.0, 8)], where)  # w = γ·y
    for division, after in zip(chain, (*chain[1:], None), strict=True):
        out = 1.0 if after is None else after.factor
        w = _divided(ops, w, division, out, sums)
    return w


def _divided(ops: Operations[V], w: V, division: Division, out: float, sums: Sums[V]) -> V:
    """w = γ·y → out·y² / Σy². A correction w·(2g − Σw) makes g·y to g²·y·(2 − Σy)."""
    low, high, factor = division.low, division.high, division.factor
    g = out ** (0.5**division.corrections)
    w = ops.ready(w, 2 + POLYNOMIAL_LEVELS)
    square = ops.multiply(w, w)
    t = ops.plus(sums(ops, square), -(high + low) / (high - low))
    inverse = [g / factor**2 * c for c in _inverse(low, high, TERMS)]
    w = ops.multiply(square, polynomial(ops, t, inverse))
    for _ in range(division.corrections):
        w = ops.ready(w, 1)
        w = ops.multiply(w, ops.plus(ops.negative(sums(ops, w)), 2 * g))
        g **= 2
    return w


def layernorm(ops: Operations[V], x: V, rows: Rows) -> V:
    """Rows of x of mean 0 and deviation 1."""
    low, high = (deviation**2 for deviation in DEVIATION)
    n, span = rows.length, high - low
    factor = math.sqrt(2 / (n * span))  # γ: Σ(γc)² = 2·variance ÷ span
    coefficients, corrections = _norm_start(low, high)
    # A correction w·(3g² − Σw²) makes g·y to 2g³·y·(3 − Σy²)/2; g comes to √n.
    g = math.sqrt(n)
    for _ in range(corrections):
        g = (g / 2) ** (1 / 3)
    x = ops.ready(x, 2 + POLYNOMIAL_LEVELS)
    mean = ops.times(rows.sums(ops, x), -factor / n * rows.valid())
    c = ops.add(ops.times(x, factor), mean)
    square = rows.sums(ops, ops.multiply(c, c))
    t = ops.plus(square, 2 * EPS / span - (high + low) / span)
    root = polynomial(ops, t, [g / (factor * math.sqrt(n)) * p for p in coefficients])
    w = ops.multiply(c, ops.ready(root, 1))
    for _ in range(corrections):
        w = ops.ready(w, 2)
        square = rows.sums(ops, ops.multiply(w, w))
        w = ops.multiply(w, ops.plus(ops.negative(square), 3 * g**2))
        g = 2 * g**3
    return w


@cache
def _norm_start(low: float, high: float) -> tuple[list[float], int]:
    """Coefficients of an inverse root on [low, high], and how many corrections it takes."""
    coefficients = _inverse_root(low, high, TERMS)
    x = np.linspace(low, high, 10_001)
    found = chebyshev.chebval((2 * x - high - low) / (high - low), coefficients)
    error, corrections = float(np.abs(found * np.sqrt(x) - 1).max()), 0
    while error > FINE / 5:
        error, corrections = 1.5 * error**2 + 0.5 * error**3, corrections + 1
    return coefficients, corrections
