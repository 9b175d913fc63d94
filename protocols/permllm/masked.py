"""⟦x⟧: a secret as a mask λ that P1 (and the dealer) knows before the online phase, and Δ = x − λ at P0.

Every protocol step is walked twice with the same code: in the offline pass P1 and P2 hold λ and P0
nothing; in the online pass P0 holds Δ and P1 nothing. `Masked` is what the walking role holds.

Scales: x is fixed point with `frac` fractional bits in Z_2^64.

Exact local truncation by s bits: if λ, read as an unsigned number, lies in [2^k, 2^64 − 2^k) and
|x| < 2^k, then Δ + λ = x + 2^64 over the integers, so
    x / 2^s = (Δ >> s) + (λ >> s) − 2^(64−s)        (logical shifts, each half rounds down)
and adding 1 centres the error within ±1 ulp. No probability of failure. The price: Δ of two secrets
x, x' differ in distribution by at most 2·|x − x'|·2^-64 (each edge of the mask's density counts once).
"""

from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from protocols.arith.prg import Stream


@dataclass(frozen=True)
class Masked:
    """One role's half of ⟦x⟧ in the current pass: λ or Δ, int64 of `shape`, or None."""

    shape: tuple[int, ...]
    frac: int
    half: Tensor | None

    @property
    def numel(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def held(self) -> Tensor:
        """The half, where this role holds one in this pass."""
        if self.half is None:
            raise RuntimeError("this role holds no half in this pass")
        return self.half

    @property
    def flat(self) -> Tensor:
        """The half as a vector."""
        return self.held.reshape(-1)

    def reshape(self, *shape: int) -> "Masked":
        """The same secret in another shape."""
        half = None if self.half is None else self.half.reshape(shape)
        return replace(self, shape=shape, half=half)

    def transpose(self, a: int, b: int) -> "Masked":
        """Swap two dimensions."""
        shape = list(self.shape)
        shape[a], shape[b] = shape[b], shape[a]
        half = None if self.half is None else self.half.transpose(a, b)
        return replace(self, shape=tuple(shape), half=half)

    def split(self, parts: int) -> "list[Masked]":
        """Cut the last dimension into equal parts."""
        width = self.shape[-1] // parts
        return [self.narrow(len(self.shape) - 1, i * width, width) for i in range(parts)]

    def narrow(self, dim: int, start: int, length: int) -> "Masked":
        """A slice along one dimension."""
        shape = list(self.shape)
        shape[dim] = length
        half = None if self.half is None else self.half.narrow(dim, start, length)
        return replace(self, shape=tuple(shape), half=half)

    def shift_by(self, public: Tensor) -> "Masked":
        """x + a public int64 tensor at x's scale; only P0 may call it, in the online pass."""
        return replace(self, half=self.held + public)

    def scale_up(self, bits: int) -> "Masked":
        """The same secret with `bits` more fractional bits (a local shift of both halves)."""
        half = None if self.half is None else self.half << bits
        return replace(self, frac=self.frac + bits, half=half)

    def __add__(self, other: "Masked") -> "Masked":
        if (self.shape, self.frac) != (other.shape, other.frac):
            raise ValueError(f"cannot add {self.shape}@{self.frac} and {other.shape}@{other.frac}")
        if self.half is None or other.half is None:
            return replace(self, half=None)
        return replace(self, half=self.half + other.half)


def safe_mask(stream: Stream, bits: int, *shape: int) -> Tensor:
    """A mask from [2^bits, 2^64 − 2^bits): exact truncation of any |x| < 2^bits needs it.

    A uniform draw that falls outside is moved by 2^63 into the middle.
    """
    mask = stream.int64(*shape)
    unsafe = (mask >= -(1 << bits)) & (mask < (1 << bits))
    return mask ^ (unsafe.to(torch.int64) << 63)


def shift_right_logical(x: Tensor, bits: int) -> Tensor:
    """x >> bits on the unsigned reading of int64."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def truncate_mask(mask: Tensor, bits: int) -> Tensor:
    """The mask's half of an exact truncation (P1, P2)."""
    return shift_right_logical(mask, bits) if bits else mask


def truncate_value(delta: Tensor, bits: int) -> Tensor:
    """The value's half of an exact truncation (P0)."""
    if bits == 0:
        return delta
    return shift_right_logical(delta, bits) - ((1 << (64 - bits)) - 1)
