"""Linear layers y = Wx + b on P0's plaintext weights: no message online.

    P0:  Δy = W·Δx + [W·λx − λy] + b          the bracket is the offline correlation

Prepare (once per model): U is uniform, from a key of P0 and the dealer; P1 gets W − U. With
mask_holder=dealer the two change places (`halves`): the key is one of P0 and P1 alone, and the dealer
gets W − U. Offline, with the rows of all steps of the batch: w0 from the stream of P0 and
the dealer; the dealer computes w1 = U·λx − w0; P1 draws λy (with the dealer) and returns
(W − U)·λx + w1 − λy, so that P0's bracket is that plus w0. Of a mask λy = m·2^s + ℓ that will be
truncated P1 knows m alone; the dealer takes ℓ from w1.

| phase | from | to | what | payload | hop |
|---|---|---|---|---|---|
| prepare | P0 | P1 (P2) | W − U, in blocks | 8·m·k | 2 |
| offline | P2 | P1 | w1 | 8·n·m | 1 |
| offline | P1 | P0 | (W − U)·λx + w1 − λy | 8·n·m | 2 |

P0 learns W·λx − λy (λy hides it); P1 learns W − U and w1 (U and w0 hide them); P2 learns λx, λy.
W is what P0 rounded its weights to: integers, or with weight_bits=8 bytes times one whole number a
row, by which P0 multiplies the product of the bytes. Shapes: W (m, k) at scale 2^frac, x (n, k) at
LINEAR_FRAC − frac, y (n, m) at LINEAR_FRAC. A diagonal layer y = g∘x + b is the same with W =
diag(g). A table takes one-hots; a narrow one works on windows (4 bytes an element), for inputs that
arrive as such. Source: PermLLM, section 3, in masked form.
"""

import torch
from torch import Tensor

from protocols.arith import tiles
from protocols.arith.prg import Stream
from protocols.party import P0, P1, P2
from protocols.permllm.context import Context, Step, named
from protocols.permllm.domain import BOUND_BITS, LINEAR_FRAC, MAX_WEIGHT_FRAC, FixedWeight
from protocols.permllm.masked_value import Masked
from protocols.permllm.weight_halves import (
    Drawn,
    DrawnRows,
    DrawnTiles,
    Half,
    Stored,
    StoredRows,
    StoredTiles,
    row_blocks,
)

Cut = int | Tensor  # bits


class Linear(Step):
    """y = Wx + b. P0 is built with its weights, the others with None.

    shares: another layer whose weights, and masked weights at P1, this one uses as its own.
    """

    def __init__(
        self,
        ctx: Context,
        name: str,
        shape: tuple[int, int],
        weight: FixedWeight | None,
        shares: "Linear | None" = None,
    ) -> None:
        super().__init__(ctx, name)
        self.shape = shape
        self._origin: Linear = self if shares is None else shares
        self.weight = weight
        self.frac = MAX_WEIGHT_FRAC if self._origin.weight is None else self._origin.weight.frac
        self._half: Half | None = None  # P1, P2
        self._store: Stored | None = None  # the same at whoever stores it

    @property
    def in_frac(self) -> int:
        """Scale that the input must have."""
        return self.out_frac - self.frac

    @property
    def out_frac(self) -> int:
        """Scale of the output."""
        return LINEAR_FRAC

    def prepare(self) -> None:
        """Give the holder of W − U its copy, block by block. Layers that share weights share it too,
        and it travels all the same, so that tied layers cost what distinct ones cost."""
        holder = self.ctx.mask_holder
        if self.role == P0:
            for (lo, hi), mask in zip(row_blocks(*self.shape), self._drawn().blocks(), strict=True):
                self.party.send(holder, self._weights.rows(lo, hi, mask.dtype) - mask)
            return
        if self.role != holder:
            self._half = self._drawn()
            return
        store = self._origin._store or self._new_store()
        for lo, hi in row_blocks(*self.shape):
            (rows,) = self.receive(P0, (hi - lo, self.shape[1]), dtype=self._dtype)
            store.put(lo, rows)
        self._origin._store = self._half = store

    @named
    def __call__(self, x: Masked, truncated: Cut = 0) -> Masked:
        """x (n, k) → y (n, m); |y| < 2^BOUND_BITS where `truncated` bits will be cut from it (int64
        (m,): of each column)."""
        if x.frac != self.in_frac:
            raise ValueError(f"{self.name}: input at scale {x.frac}, expected {self.in_frac}")
        shape = (x.shape[0], self.shape[0])
        half = self._offline(x, shape, truncated) if self.ctx.offline_pass else self._online(x)
        return Masked(shape, self.out_frac, half)

    def raw(self, x: Masked) -> Masked:
        """Wx for an x at any scale, at the sum of the scales: what is to be scaled by a number that P1
        finds elsewhere. Raises ValueError where there is a bias."""
        if self.role == P0 and bool(self._weights.bias.any()):
            raise ValueError(f"{self.name} has a bias, which does not scale with its input")
        shape = (x.shape[0], self.shape[0])
        half = self._offline(x, shape, 0) if self.ctx.offline_pass else self._online(x)
        return Masked(shape, x.frac + self.frac, half)

    def _offline(self, x: Masked, shape: tuple[int, int], truncated: Cut) -> Tensor | None:
        if self.role == P0:
            (correction,) = self.receive(P1, shape, dtype=self._dtype)
            w0 = self._mask(self.ctx.p0p2(self.name), *shape)
            self.keep_each(correction + w0 + self._weights.bias)  # W·λx − λy + b   (n, m)
            return None
        out, low = self._out_mask(shape, truncated)
        product = self._own_half.linear(x.held)  # P2: U·λx, P1: (W − U)·λx   (n, m)
        if self.role == P2:
            w0 = self._mask(self.ctx.p0p2(self.name), *shape)
            self.party.send(P1, product - w0 - low)  # w1 = U·λx − w0 − ℓ
        else:
            (w1,) = self.receive(P2, shape, dtype=self._dtype)
            self.party.send(P0, product + w1 - out)  # (W − U)·λx + w1 − λy
        return out

    def _out_mask(self, shape: tuple[int, int], truncated: Cut) -> tuple[Tensor, Tensor]:
        """λy, and ℓ at the dealer."""
        if isinstance(truncated, Tensor) or truncated:
            safe_bits = self.out_frac + BOUND_BITS
            return self.ctx.truncatable_mask(self.name, safe_bits, truncated, *shape)
        out = self._mask(self.ctx.p1p2(self.name), *shape)
        return out, torch.zeros_like(out)

    def _online(self, x: Masked) -> Tensor | None:
        if self.role != P0:
            return None
        bracket: Tensor
        (bracket,) = self.take()
        product = self._apply(self._weights.values, x.held)
        return self._weights.scaled(product) + bracket  # Δy = W·Δx + [W·λx − λy] + b

    @property
    def _weights(self) -> FixedWeight:
        if self._origin.weight is None:
            raise RuntimeError("only P0 holds weights")
        return self._origin.weight

    @property
    def _dtype(self) -> torch.dtype:
        return self.domain.dtype

    def _mask(self, stream: Stream, *shape: int, scale: float = 1.0) -> Tensor:
        return self.domain.mask(stream, *shape, scale=scale)

    def _drawn(self) -> Drawn:
        """U."""
        key = self.ctx.weight_key(self._origin.name)
        if self._tiled:
            return DrawnTiles(key, self.shape, self._dtype)
        scale = 2.0 ** (15 - self.frac)

        def draw(stream: Stream, rows: int) -> Tensor:
            return self._mask(stream, rows, self.shape[1], scale=scale)

        return DrawnRows(key, self.shape, draw, self._apply)

    def _new_store(self) -> Stored:
        """For W − U."""
        if self._tiled and tiles.KERNELS:
            return StoredTiles(self.ctx.memory, self.shape, self._dtype)
        return StoredRows(self.ctx.memory, self.shape, self._dtype, self._apply)

    @property
    def _tiled(self) -> bool:
        """Whether U is drawn, and its products taken, in tiles."""
        return self.domain.exact

    @property
    def _own_half(self) -> Half:
        if self._half is None:
            raise RuntimeError(f"{self.name}: prepare comes before offline")
        return self._half

    def _apply(self, weight: Tensor, x: Tensor) -> Tensor:
        return self.domain.linear(weight, x)


class Diagonal(Linear):
    """y = g∘x + b with P0's secret gains g (d,): GLM's and BERT's residual branch."""

    def __init__(
        self,
        ctx: Context,
        name: str,
        d: int,
        gains: FixedWeight | None,
        shares: Linear | None = None,
    ) -> None:
        super().__init__(ctx, name, (d, 1), gains, shares)

    def _apply(self, weight: Tensor, x: Tensor) -> Tensor:
        return weight.reshape(-1) * x

    @property
    def _tiled(self) -> bool:
        return False


class Table(Linear):
    """y = Wx for x at scale 0, y at the weights' own scale."""

    @property
    def out_frac(self) -> int:
        """The weights' scale: x has none."""
        return self.frac


class NarrowTable(Table):
    """The same on windows."""

    @property
    def _dtype(self) -> torch.dtype:
        return self.domain.window_dtype

    def _mask(self, stream: Stream, *shape: int, scale: float = 1.0) -> Tensor:
        return self.domain.narrow_mask(stream, *shape, scale=scale)
