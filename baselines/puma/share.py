"""Replicated 2-of-3 secret shares in Z_2^64: x = x_0 + x_1 + x_2, role P_i holds x_i and x_(i+1).

Any two roles can put x together, none alone learns anything of it. Three forms:

- `Share`: the two parts that a role holds of a fixed-point tensor (int64, `frac` fractional bits).
- `Term`: one role's summand t_i of x = t_0 + t_1 + t_2, as local products leave it. It must be masked
  before it is sent: see `multiply.reshare` and `truncate.truncate`.
- `Bits`: like a share, with exclusive or in place of the sum; int64 words or one bit a uint8.

Local operations only; no role learns anything. Source: Araki et al. (CCS 2016); ABY3 (ePrint
2018/403), section 3.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

FRAC = 18  # fractional bits of every shared value outside a primitive
ULP = 2.0**-FRAC


def encode(x: Tensor, frac: int) -> Tensor:
    """Fixed point: round(x · 2^frac), int64."""
    return torch.round(x.to(torch.float64) * 2.0**frac).to(torch.int64)


def decode(x: Tensor, frac: int) -> Tensor:
    """float64 value of a fixed-point tensor."""
    return x.to(torch.float64) * 2.0**-frac


@dataclass(frozen=True)
class Share:
    """x_i and x_(i+1) at role P_i."""

    first: Tensor
    second: Tensor
    frac: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the secret."""
        return tuple(self.first.shape)

    def each(self, function: Callable[[Tensor], Tensor]) -> "Share":
        """A linear map of both parts that keeps the scale."""
        return Share(function(self.first), function(self.second), self.frac)

    def __add__(self, other: "Share") -> "Share":
        _same(self.frac, other.frac)
        return Share(self.first + other.first, self.second + other.second, self.frac)

    def __sub__(self, other: "Share") -> "Share":
        _same(self.frac, other.frac)
        return Share(self.first - other.first, self.second - other.second, self.frac)

    def __neg__(self) -> "Share":
        return self.each(torch.neg)

    def times(self, factor: int, frac: int = 0) -> "Share":
        """x · factor·2^-frac for a public integer; the result has `frac` more fractional bits."""
        return Share(self.first * factor, self.second * factor, self.frac + frac)

    def raised(self, frac: int) -> "Share":
        """The same secret at a scale of `frac` ≥ its own."""
        return self if frac == self.frac else self.times(1 << (frac - self.frac), frac - self.frac)

    def reshape(self, *shape: int) -> "Share":
        """The same secret in another shape."""
        return self.each(lambda part: part.reshape(shape))

    def flat(self) -> "Share":
        """The same secret as a contiguous vector."""
        return self.each(lambda part: part.reshape(-1))

    def split(self, widths: Sequence[int], dim: int = -1) -> "list[Share]":
        """Pieces of these widths along a dimension."""
        parts = [torch.split(part, list(widths), dim) for part in (self.first, self.second)]
        return [Share(a, b, self.frac) for a, b in zip(*parts, strict=True)]

    def term(self) -> "Term":
        """x as a sum of terms: each role's first part."""
        return Term(self.first, self.frac)


def combine(shares: Sequence[Share], factors: Sequence[int], frac: int) -> Share:
    """Σ factor·2^-frac · x over shares of one scale and shape, for public integers."""
    total = shares[0].times(factors[0], frac)
    for share, factor in zip(shares[1:], factors[1:], strict=True):
        _same(share.frac, shares[0].frac)
        total.first.add_(share.first, alpha=factor)
        total.second.add_(share.second, alpha=factor)
    return total


def stack(shares: Sequence[Share], dim: int = 0) -> Share:
    """Shares of one scale and shape along a new dimension."""
    _same(*(share.frac for share in shares))
    parts = ([share.first for share in shares], [share.second for share in shares])
    return Share(torch.stack(parts[0], dim), torch.stack(parts[1], dim), shares[0].frac)


def concatenate(shares: Sequence[Share], dim: int = -1) -> Share:
    """Shares of one scale along a dimension that they have."""
    _same(*(share.frac for share in shares))
    parts = ([share.first for share in shares], [share.second for share in shares])
    return Share(torch.cat(parts[0], dim), torch.cat(parts[1], dim), shares[0].frac)


@dataclass(frozen=True)
class Term:
    """t_i at role P_i."""

    value: Tensor
    frac: int

    def __add__(self, other: "Term") -> "Term":
        _same(self.frac, other.frac)
        return Term(self.value + other.value, self.frac)


@dataclass(frozen=True)
class Bits:
    """b_i and b_(i+1) at role P_i, b = b_0 ⊕ b_1 ⊕ b_2."""

    first: Tensor
    second: Tensor

    def each(self, function: Callable[[Tensor], Tensor]) -> "Bits":
        """A map of both parts that is linear over exclusive or: masks, shifts, slices."""
        return Bits(function(self.first), function(self.second))

    def split(self, counts: Sequence[int]) -> "list[Bits]":
        """Pieces of these lengths of a vector."""
        parts = [torch.split(part, list(counts)) for part in (self.first, self.second)]
        return [Bits(a, b) for a, b in zip(*parts, strict=True)]

    def __xor__(self, other: "Bits") -> "Bits":
        return Bits(self.first ^ other.first, self.second ^ other.second)


def join(bits: Sequence[Bits]) -> Bits:
    """Vectors of one type behind one another."""
    return Bits(torch.cat([b.first for b in bits]), torch.cat([b.second for b in bits]))


def _same(*fracs: int) -> None:
    if len(set(fracs)) > 1:
        raise ValueError(f"cannot combine shares at scales {fracs}")
