"""Shamir shares of fixed-point numbers over p = 2^61 − 1 (Shamir, CACM 1979).

A secret x is the value at 0 of a random polynomial of degree t; P_i holds its value at i + 1. Sums, and
products with public numbers, are those of the shares. A number v at `frac` fractional bits is the
residue of round(v·2^frac); negative ones are above p/2.

- `Share`: of degree t.
- `Term`: of the degree that is opened (`Group.degree`), as a product of two shares leaves it: to be
  opened under a mask of that degree (`multiply.reduce`, `truncate`), never as it is.

Local operations only; nobody learns anything.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from protocols.arith import field61
from protocols.errors import PeerError
from protocols.party import Role

FRAC = 16  # fractional bits of every shared value outside a primitive
ULP = 2.0**-FRAC


def encode(x: Tensor, frac: int = FRAC) -> Tensor:
    """Real numbers below 2^(60 − frac) → residues."""
    return field61.from_signed(torch.round(x.to(torch.float64) * 2.0**frac).to(torch.int64))


def decode(x: Tensor, frac: int = FRAC) -> Tensor:
    """Residues → float64."""
    return field61.to_signed(x).to(torch.float64) * 2.0**-frac


@dataclass(frozen=True)
class Share:
    """One party's share of a tensor; without data in the offline pass."""

    value: Tensor
    frac: int = FRAC

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the secret."""
        return tuple(self.value.shape)

    @property
    def count(self) -> int:
        """Number of elements."""
        return self.value.numel()

    def each(self, change: Callable[[Tensor], Tensor]) -> "Share":
        """A reordering of elements."""
        return Share(change(self.value), self.frac)

    def __add__(self, other: "Share") -> "Share":
        _same(self.frac, other.frac)
        return Share(field61.add(self.value, other.value), self.frac)

    def __sub__(self, other: "Share") -> "Share":
        _same(self.frac, other.frac)
        return Share(field61.sub(self.value, other.value), self.frac)

    def __neg__(self) -> "Share":
        return Share(field61.neg(self.value), self.frac)

    def plus(self, public: Tensor | int) -> "Share":
        """x + public residues, or an integer, at x's scale."""
        return Share(field61.add(self.value, public), self.frac)

    def times(self, factor: Tensor | int, frac: int = 0) -> "Share":
        """x · factor·2^-frac for public residues or an integer; `frac` more fractional bits."""
        return Share(field61.mul(self.value, factor), self.frac + frac)

    def raised(self, frac: int) -> "Share":
        """The same secret at a scale of `frac` ≥ its own."""
        return self if frac == self.frac else self.times(1 << (frac - self.frac), frac - self.frac)

    def total(self) -> "Share":
        """Σ over the last dimension, which stays with one entry."""
        return Share(field61.total(self.value, -1, keepdim=True), self.frac)

    def reshape(self, *shape: int) -> "Share":
        """The same secret in another shape."""
        return self.each(lambda value: value.reshape(shape))

    def flat(self) -> "Share":
        """The same secret as a vector."""
        return self.reshape(-1)

    def rows(self, first: int, last: int | None = None, step: int = 1) -> "Share":
        """A slice of the first dimension."""
        return self.each(lambda value: value[first:last:step])

    def split(self, widths: Sequence[int], dim: int = -1) -> "list[Share]":
        """Pieces of these widths along a dimension."""
        return [Share(part, self.frac) for part in torch.split(self.value, list(widths), dim)]

    def term(self) -> "Term":
        """The same secret: a polynomial of degree t is one of any higher degree."""
        return Term(self.value, self.frac)


@dataclass(frozen=True)
class Term:
    """One party's share of the degree that is opened."""

    value: Tensor
    frac: int

    def __add__(self, other: "Term") -> "Term":
        _same(self.frac, other.frac)
        return Term(field61.add(self.value, other.value), self.frac)

    def plus(self, public: Tensor | int) -> "Term":
        """x + public residues, or an integer, at x's scale."""
        return Term(field61.add(self.value, public), self.frac)

    def total(self) -> "Term":
        """Σ over the last dimension, which stays with one entry."""
        return Term(field61.total(self.value, -1, keepdim=True), self.frac)

    def reshape(self, *shape: int) -> "Term":
        """The same secret in another shape."""
        return Term(self.value.reshape(shape), self.frac)


def reconstruct(shares: Mapping[Role, Sequence[Tensor]], degree: int) -> Tensor:
    """The secrets of all parties' shares, one tensor of each, P0's first.

    Raises PeerError where one is of another shape or type than most, or where they lie on no polynomials
    of this degree; through degree + 1 of them there always are some.
    """
    said = {role: _described(own) for role, own in shares.items()}
    ((usual, _),) = Counter(said.values()).most_common(1)
    for role, came in said.items():
        if came != usual:
            raise PeerError(f"answer: shares of {role}: {came} came, expected {usual}")
    whole = torch.stack([own for (own,) in shares.values()])
    rows = whole.reshape(len(whole), -1)
    known, others = range(1, degree + 2), range(degree + 2, len(whole) + 1)
    matrix = field61.lagrange(known, [0, *others])
    found = field61.combine(matrix, rows[: degree + 1])
    if not torch.equal(found[1:], rows[degree + 1 :]):
        first, *_, last = shares
        text = f"the shares of {first} to {last} lie on no polynomial of degree {degree}"
        raise PeerError(f"answer: {text}")
    return found[0].reshape(whole.shape[1:])


def _described(tensors: Sequence[Tensor]) -> str:
    return ", ".join(f"{t.dtype} {list(t.shape)}" for t in tensors) or "nothing"


def combine(shares: Sequence[Share], factors: Sequence[int], frac: int) -> Share:
    """Σ factor·2^-frac · x over shares of one scale and shape, for public integers."""
    total = shares[0].times(factors[0], frac)
    for share, factor in zip(shares[1:], factors[1:], strict=True):
        total = total + share.times(factor, frac)
    return total


def concatenate(shares: Sequence[Share], dim: int = 0) -> Share:
    """Shares of one scale along a dimension that they have."""
    _same(*(share.frac for share in shares))
    return Share(field61.concatenate([share.value for share in shares], dim), shares[0].frac)


def stack(shares: Sequence[Share]) -> Share:
    """Shares of one scale and shape along a new first dimension."""
    _same(*(share.frac for share in shares))
    return Share(torch.stack([share.value for share in shares]), shares[0].frac)


def _same(*fracs: int) -> None:
    if len(set(fracs)) > 1:
        raise ValueError(f"cannot combine shares at scales {fracs}")
