"""⟦x⟧: a secret as a mask λ that P1 (and the dealer) knows before the online phase, and Δ = x − λ at P0.

Every protocol step runs twice with the same code: in the offline pass P1 and P2 hold λ and P0
nothing; in the online pass P0 holds Δ and P1 nothing. `Masked` is what the role holds then.

Scales: x carries `frac`, its number of fractional bits (`domain` says what that means).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor


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

    @classmethod
    def cat(cls, parts: "Sequence[Masked]", dim: int) -> "Masked":
        """Secrets of one scale side by side along one dimension."""
        shape = list(parts[0].shape)
        shape[dim] = sum(part.shape[dim] for part in parts)
        halves = [part.half for part in parts if part.half is not None]
        half = torch.cat(halves, dim) if halves else None
        return cls(tuple(shape), parts[0].frac, half)

    def narrow(self, dim: int, start: int, length: int) -> "Masked":
        """A slice along one dimension."""
        shape = list(self.shape)
        shape[dim] = length
        half = None if self.half is None else self.half.narrow(dim, start, length)
        return replace(self, shape=tuple(shape), half=half)

    def shift_by(self, known: Tensor) -> "Masked":
        """x + a tensor that P0 knows, encoded at x's scale; for P0 in the online pass."""
        return replace(self, half=self.held + known)

    def overwrite(self, where: Tensor, known: Tensor) -> "Masked":
        """`known` instead of the half, where the bool tensor `where` says so."""
        return replace(self, half=torch.where(where, known, self.held))

    def __add__(self, other: "Masked") -> "Masked":
        if (self.shape, self.frac) != (other.shape, other.frac):
            raise ValueError(f"cannot add {self.shape}@{self.frac} and {other.shape}@{other.frac}")
        if self.half is None or other.half is None:
            return replace(self, half=None)
        return replace(self, half=self.half + other.half)
