"""GeLU and SiLU as ReLU and a sine series in |x|, all sines in one round: 3776 bits a party, 19 hops.

    f(x) = ReLU(x) + [|x| < w]·Σ_n β_n·sin(n·π·|x|/w)            |x| = 2·ReLU(x) − x

GeLU has w = 4 and 8 terms, SiLU w = 8 and 12: the first terms of the series of f(x) − x on (0, w).

**All sines in one round.** The dealer gives a uniform t and shares of cos and sin of n·θ(t), θ(x) = π·x/w.
The parties open δ = x − t mod 2^64; the period 2w is a power of two and divides 2^64, so that

    sin(n·θ(x)) = sin(n·θ(δ))·cos(n·θ(t)) + cos(n·θ(δ))·sin(n·θ(t))

is a public linear map of the shares. Its factors β_n·sin(n·θ(δ)) are integers of 16 fractional bits that
both parties must find alike: they come from tables of sines at 2^-30, none of whose entries is near a tie,
by integer arithmetic.

Hops: ReLU 9, comparison 8, δ 1, product with the bit 1. Bits a party: 1856 + 1728 + 64 + 128.

| phase | from | to | what | payload | hop |
|---|---|---|---|---|---|
| offline | P2 | P1 | its shares of N cosines and N sines | 16·N·n | 1 |
| online | P0, P1 | each other | x − t | 8·n | 1 |

Each learns δ, which t hides. The other messages: `compare`, `product_truncation`. GeLU by erf is
missed by at most 4.5e-3, SiLU by 5.3e-3. Source: SHAFT (Kei, Chow, NDSS 2025); sines in one round
after Zheng et al. (arXiv:2301.09575).
"""

from dataclasses import dataclass
from functools import cached_property
from math import cos, log2, pi, sin

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from baselines.additive.compare import less_than_zero, relu
from baselines.additive.context import FRAC, Context, Parts
from baselines.additive.encoding import constant
from baselines.additive.kernels import Words, flat
from baselines.additive.product_truncation import product

WAVE_FRAC = 20  # of the dealer's cosines and sines
FACTOR_FRAC = 16
SERIES_FRAC = WAVE_FRAC + FACTOR_FRAC
TABLE_FRAC = 30
_LOW_BITS = 10  # of a position in the period: sines by the sum of a coarse and a fine angle
Table = NDArray[np.int64]


@dataclass(frozen=True)
class SineSeries:
    """Σ_n betas[n − 1]·sin(n·π·x/width); width is a power of two."""

    width: float
    betas: tuple[float, ...]

    @property
    def period_bits(self) -> int:
        """The period 2·width is 2^period_bits at FRAC."""
        return FRAC + 1 + round(log2(self.width))

    @cached_property
    def factors(self) -> Table:
        """The betas at TABLE_FRAC."""
        return np.array([constant(beta, TABLE_FRAC) for beta in self.betas], dtype=np.int64)

    @cached_property
    def table(self) -> Table:
        """Rows: sine and cosine of coarse angles, then of fine ones, at TABLE_FRAC."""
        coarse = self.period_bits - _LOW_BITS
        angles = [2 * pi * i / 2**coarse for i in range(1 << coarse)]
        fine = [2 * pi * i / 2**self.period_bits for i in range(1 << _LOW_BITS)]
        rows = [[constant(f(a), TABLE_FRAC) for a in each] for each in (angles, fine) for f in _SC]
        width = max(map(len, rows))
        return np.array([row + [0] * (width - len(row)) for row in rows], dtype=np.int64)

    def __call__(self, x: Tensor) -> Tensor:
        """The sum for float64 x."""
        terms = (b * torch.sin(n * pi * x / self.width) for n, b in enumerate(self.betas, 1))
        return sum(terms, torch.zeros_like(x))


_SC = (sin, cos)
GELU = SineSeries(4.0, (-0.0818, -0.0809, -0.0424, -0.0176, -0.0079, -0.0043, -0.0026, -0.0017))
SILU = SineSeries(
    8.0,
    (
        *(-0.1299, -0.1220, -0.0743, -0.0394, -0.0216, -0.0118),
        *(-0.0074, -0.0044, -0.0033, -0.0021, -0.0018, -0.0011),
    ),
)


def fourier(ctx: Context, x: Tensor, series: SineSeries) -> Tensor:
    """Shares of f(x), both at FRAC."""
    with ctx.party.step("relu"):
        positive = relu(ctx, x)
    size = 2 * positive - x
    with ctx.party.step("range"):
        near = less_than_zero(ctx, ctx.public(size, -constant(series.width, FRAC)))
    with ctx.party.step("sines"):
        waves = sines(ctx, size, series)
    with ctx.party.step("product"):
        return positive + product(ctx, waves, near, SERIES_FRAC - FRAC)


def sines(ctx: Context, x: Tensor, series: SineSeries) -> Tensor:
    """Shares of the series at SERIES_FRAC, x at FRAC."""
    dealt = _deal(ctx, x, series)
    if not dealt:
        return x
    t, waves = dealt
    (delta,) = ctx.open(x - t)
    out = torch.empty(x.shape, dtype=torch.int64)
    _combine(flat(out), flat(delta), flat(waves), series.table, series.factors, series.period_bits)
    return out


def _deal(ctx: Context, x: Tensor, series: SineSeries) -> Parts:
    """t, and cosines and sines (2·N, …) of its multiples."""
    shape = tuple(x.shape)
    rows = (2 * len(series.betas), *shape)

    def complete(zero: Parts, one: Parts) -> Parts:
        out = torch.empty(rows, dtype=torch.int64)
        _waves(flat(out), flat(zero[0] + one[0]), series.table, series.period_bits)
        return (out - zero[1],)

    return ctx.deal(f"sines {series.width:g}", (shape, rows), (shape,), complete)


@njit(cache=True, nogil=True, inline="always")
def _sine_cosine(position: np.int64, table: Table, bits: int) -> tuple[np.int64, np.int64]:
    """At TABLE_FRAC, of the angle 2π·position/2^bits."""
    at = position & ((1 << bits) - 1)
    high, low = at >> _LOW_BITS, at & ((1 << _LOW_BITS) - 1)
    s, c, ds, dc = table[0, high], table[1, high], table[2, low], table[3, low]
    return (s * dc + c * ds) >> TABLE_FRAC, (c * dc - s * ds) >> TABLE_FRAC


@njit(cache=True, nogil=True)
def _waves(out: Words, t: Words, table: Table, bits: int) -> None:
    """cos(n·θ(t)), then sin(n·θ(t)), at WAVE_FRAC."""
    count = t.size
    terms = out.size // (2 * count) if count else 0
    for i in range(count):
        for n in range(terms):
            s, c = _sine_cosine((n + 1) * t[i], table, bits)
            out[n * count + i] = c >> (TABLE_FRAC - WAVE_FRAC)
            out[(terms + n) * count + i] = s >> (TABLE_FRAC - WAVE_FRAC)


@njit(cache=True, nogil=True)
def _combine(
    out: Words, delta: Words, waves: Words, table: Table, factors: Table, bits: int
) -> None:
    """Σ_n β_n·sin(n·θ(δ))·[cos(n·θ(t))] + β_n·cos(n·θ(δ))·[sin(n·θ(t))]."""
    count, terms = delta.size, factors.size
    shift = 2 * TABLE_FRAC - FACTOR_FRAC
    half = np.int64(1) << (shift - 1)
    for i in range(count):
        total = np.int64(0)
        for n in range(terms):
            s, c = _sine_cosine((n + 1) * delta[i], table, bits)
            total += ((factors[n] * s + half) >> shift) * waves[n * count + i]
            total += ((factors[n] * c + half) >> shift) * waves[(terms + n) * count + i]
        out[i] = total


def warm_up() -> None:
    """Compile both kernels, or load them compiled."""
    one, waves = np.zeros(1, dtype=np.int64), np.zeros(2, dtype=np.int64)
    _waves(waves, one, GELU.table, GELU.period_bits)
    _combine(one, one, waves, GELU.table, one, GELU.period_bits)
