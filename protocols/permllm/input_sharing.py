"""Bringing P1's secrets into masked form.

    P1 draws λ with the dealer (offline) and sends Δ = x − λ to P0 (8 bytes an element; 4 where only
    a 32-bit window of x will ever be used). P0 learns x − λ, which λ hides.

Cached rows k, v of earlier tokens arrive the same way, and P0 opens E = Δ − r to P1 at once, as it
would have done when they were computed (`attention`).

| from | to | what | name | payload | hop |
|---|---|---|---|---|---|
| P1 | P0 | x − λ | input | 8·n (4·n) | 1 |
| P1 | P0 | k − b, v − d | past | 16·h·L·w | 1 |
| P0 | P1 | E_k, E_v | past | 16·h·L·w | 2 |
"""

import torch
from torch import Tensor

from protocols.arith.prg import Stream
from protocols.party import P0, P1, P2
from protocols.permllm.attention import Cache, Cached
from protocols.permllm.context import Context, Step, named
from protocols.permllm.domain import SAFE_BITS
from protocols.permllm.masked_value import Masked


class Input(Step):
    """⟦x⟧ for a tensor x that P1 holds in the clear. Its mask allows exact truncation."""

    def __init__(self, ctx: Context, name: str, shape: tuple[int, ...], frac: int) -> None:
        super().__init__(ctx, name)
        self._shape, self._frac = shape, frac

    def offline(self) -> Masked:
        """λ at P1 and P2; of several steps one below the other."""
        shape = (len(self.ctx.steps) * self._shape[0], *self._shape[1:])
        if self.role == P0:
            return Masked(shape, self._frac, None)
        mask = self._draw(*shape)
        if self.role == P1:
            self.keep_each(mask)
        return Masked(shape, self._frac, mask)

    @named
    def online(self, x: Tensor | None) -> Masked:
        """Δ at P0. P1 passes x, float64 of the step's shape."""
        if self.role == P1:
            if x is None:
                raise RuntimeError("P1 must give its input")
            (mask,) = self.take()
            self.party.send(P0, self._encode(x) - mask)  # Δ = x − λ
            return Masked(self._shape, self._frac, None)
        return self._received()

    @named
    def online_ones(self, places: list[int] | None) -> Masked:
        """The same for rows of zeros but for a 1 each, at `places`, which P1 passes: one-hots of a long
        prompt are large, and so are made in the masks' own type, and in their place."""
        if self.role == P1:
            if places is None:
                raise RuntimeError("P1 must give its input")
            (mask,) = self.take()
            delta = mask.neg_()
            delta[torch.arange(len(places)), torch.tensor(places)] += self._encode(torch.ones(()))
            self.party.send(P0, delta)  # Δ = x − λ
            return Masked(self._shape, self._frac, None)
        return self._received()

    def _received(self) -> Masked:
        (delta,) = self.receive(P1, self._shape, dtype=self._dtype)
        return Masked(self._shape, self._frac, delta)

    @property
    def _dtype(self) -> torch.dtype:
        return self.domain.dtype

    def _draw(self, *shape: int) -> Tensor:
        return self.domain.safe_mask(self.ctx.p1p2(self.name), SAFE_BITS, *shape)

    def _encode(self, x: Tensor) -> Tensor:
        return self.domain.encode(x, self._frac)


class NarrowInput(Input):
    """The same as a window: 4 bytes an element, for inputs that are only looked at as such."""

    @property
    def _dtype(self) -> torch.dtype:
        return self.domain.window_dtype

    def _draw(self, *shape: int) -> Tensor:
        return self.domain.narrow_mask(self.ctx.p1p2(self.name), *shape)

    def _encode(self, x: Tensor) -> Tensor:
        return self.domain.window_mask(self.domain.encode(x, self._frac), 0)


class CachedRows(Step):
    """Fill a layer's cache with rows (h, L, w) that P1 holds in the clear."""

    def __init__(self, ctx: Context, name: str, cache: Cache, length: int) -> None:
        super().__init__(ctx, name)
        self._cache, self._length = cache, length
        self._shape = (cache.heads, length, cache.width)

    def offline(self) -> None:
        """Masks at P1 and P2, pads at P0 and P2."""
        self._cache.clear(self._length)
        for rows, kind in ((self._cache.keys, "k"), (self._cache.values, "v")):
            if self.role != P0:
                rows.mask.extend(self._draw(self.ctx.p1p2(f"{self.name}/{kind}")))
            if self.role != P1:
                rows.pad.extend(self._draw(self.ctx.p0p2(f"{self.name}/{kind}")))

    def _draw(self, stream: Stream) -> Tensor:
        return self.domain.mask(stream, *self._shape)

    @named
    def share(self, k: Tensor | None, v: Tensor | None) -> None:
        """P1 passes k and v, float64 (h, L, w)."""
        cached = (self._cache.keys, self._cache.values)
        if self.role == P2 or self._length == 0:
            return
        if self.role == P0:
            values = self.receive(P1, self._shape, self._shape)
            for rows, value in zip(cached, values, strict=True):
                rows.value.extend(value)
            n = self._length
            differences = (rows.value.view(n) - rows.pad.view(n) for rows in cached)
            self.party.send(P1, *differences)  # E_k = Δk − r_k, E_v = Δv − r_v   (h, L, w)
            return
        if k is None or v is None:
            raise RuntimeError("P1 must give the cached rows")
        self.party.send(P0, *(self._hidden(x, r) for x, r in zip((k, v), cached, strict=True)))
        opened = self.receive(P0, self._shape, self._shape)
        for rows, new in zip(cached, opened, strict=True):
            rows.opened.extend(new)

    def _hidden(self, x: Tensor, rows: Cached) -> Tensor:
        return self.domain.encode(x, rows.frac) - rows.mask.view(self._length)
