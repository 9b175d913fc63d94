"""Linear layers y = Wx + b on P0's plaintext weights: no message online.

    P0:  Δy = W·Δx + [W·λx − λy] + b          the bracket is the offline correlation

Prepare (once per model): U is uniform, from the stream of P0 and the dealer; P1 gets W − U.
Offline: w0 from the stream of P0 and the dealer; the dealer computes w1 = U·λx − w0; P1 draws λy
(with the dealer) and returns (W − U)·λx + w1 − λy, so that P0's bracket is that plus w0.

| phase | from | to | what | payload | hop |
|---|---|---|---|---|---|
| prepare | P0 | P1 | W − U, in blocks | 8·m·k | 2 |
| offline | P2 | P1 | w1 | 8·n·m | 1 |
| offline | P1 | P0 | (W − U)·λx + w1 − λy | 8·n·m | 2 |

P0 learns W·λx − λy (λy hides it); P1 learns W − U and w1 (U and w0 hide them); P2 learns λx, λy.
Shapes: W (m, k) as int16 or int32 at scale 2^frac, x (n, k) at LINEAR_FRAC − frac, y (n, m) at
LINEAR_FRAC. A diagonal layer y = g∘x + b is the same with W = diag(g). Source: PermLLM, section 3,
in masked form.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from protocols.arith import ring
from protocols.party import P0, P1, P2
from protocols.permllm.context import LINEAR_FRAC, VALUE_FRAC, Context, Step, encode
from protocols.permllm.masked import Masked, safe_mask

BLOCK_ELEMENTS = 1 << 21  # weights a prepare message and a dealer's block: 16 MiB of int64
MAX_FRAC = LINEAR_FRAC - VALUE_FRAC


@dataclass(frozen=True)
class FixedWeight:
    """A weight tensor as integers: weight ≈ values · 2^−frac; bias int64 at LINEAR_FRAC."""

    values: Tensor
    frac: int
    bias: Tensor


def quantize(weight: Tensor, bias: Tensor | None, bits: int = 16) -> FixedWeight:
    """Round a weight matrix (m, k) to `bits`-bit integers, scaled by the largest power of two that
    fits (at most 2^MAX_FRAC)."""
    largest = float(weight.abs().max()) if weight.numel() else 0.0
    limit = (1 << (bits - 1)) - 1
    frac = MAX_FRAC
    while frac > 0 and largest * 2.0**frac > limit:
        frac -= 1
    if largest * 2.0**frac > limit:
        raise ValueError(f"a weight of magnitude {largest:g} does not fit {bits} bits")
    dtype = torch.int16 if bits == 16 else torch.int32
    values = torch.empty(weight.shape, dtype=dtype)
    for row, out in zip(torch.split(weight, 1024), torch.split(values, 1024), strict=True):
        out.copy_((row * 2.0**frac).round_())
    zeros = torch.zeros(weight.shape[0], dtype=torch.int64)
    return FixedWeight(values, frac, zeros if bias is None else encode(bias, LINEAR_FRAC))


class Linear(Step):
    """y = Wx + b. P0 is built with its weights, the others with None."""

    def __init__(
        self, ctx: Context, name: str, shape: tuple[int, int], weight: FixedWeight | None
    ) -> None:
        super().__init__(ctx, name)
        self.shape = shape
        self.weight = weight
        self.frac = MAX_FRAC if weight is None else weight.frac
        self._hidden = torch.empty(0, dtype=torch.int64)  # P1: W − U
        self._bracket = torch.empty(0, dtype=torch.int64)  # P0

    @property
    def in_frac(self) -> int:
        """Scale that the input must have."""
        return LINEAR_FRAC - self.frac

    @property
    def _block_rows(self) -> int:
        return max(1, BLOCK_ELEMENTS // self.shape[1])

    def _blocks(self) -> list[tuple[int, int]]:
        """Row ranges of the prepare messages and of the dealer's walk over U."""
        m, step = self.shape[0], self._block_rows
        return [(lo, min(m, lo + step)) for lo in range(0, m, step)]

    def prepare(self) -> None:
        """Give P1 its masked copy of the weights."""
        if self.role == P0:
            stream = self.ctx.model_stream(self.name)
            for lo, hi in self._blocks():
                u = stream.int64(hi - lo, self.shape[1])
                self.party.send(P1, self._weights.values[lo:hi] - u)
        if self.role == P1:
            self._hidden = torch.empty(self.shape, dtype=torch.int64)
            for lo, hi in self._blocks():
                (block,) = self.party.recv(P0)
                self._hidden[lo:hi] = block

    @property
    def _weights(self) -> FixedWeight:
        if self.weight is None:
            raise RuntimeError("only P0 holds weights")
        return self.weight

    def offline(self, x: Masked, safe_bits: int | None = None) -> Masked:
        """x (n, k) → y (n, m); `safe_bits` asks for a mask that allows exact truncation."""
        shape = (x.shape[0], self.shape[0])
        if self.role == P0:
            (correction,) = self.party.recv(P1)
            w0 = self.ctx.p0p2(self.name).int64(*shape)
            self._bracket = correction + w0 + self._weights.bias
            return Masked(shape, LINEAR_FRAC, None)
        stream = self.ctx.p1p2(self.name)
        out = stream.int64(*shape) if safe_bits is None else safe_mask(stream, safe_bits, *shape)
        if self.role == P2:
            self.party.send(P1, self._times_u(x.held) - self.ctx.p0p2(self.name).int64(*shape))
        else:
            (w1,) = self.party.recv(P2)
            self.party.send(P0, self._apply(self._hidden, x.held) + w1 - out)
        return Masked(shape, LINEAR_FRAC, out)

    def online(self, x: Masked) -> Masked:
        """Local at P0."""
        shape = (x.shape[0], self.shape[0])
        if self.role != P0:
            return Masked(shape, LINEAR_FRAC, None)
        return Masked(shape, LINEAR_FRAC, self._apply(self._weights.values, x.held) + self._bracket)

    def __call__(self, x: Masked, safe_bits: int | None = None) -> Masked:
        """Walk the current pass."""
        if x.frac != self.in_frac:
            raise ValueError(f"{self.name}: input at scale {x.frac}, expected {self.in_frac}")
        return self.offline(x, safe_bits) if self.ctx.offline_pass else self.online(x)

    def _times_u(self, mask: Tensor) -> Tensor:
        """U·λ at the dealer, which expands U block by block and never stores it."""
        stream = self.ctx.model_stream(self.name)
        rows = [
            self._apply(stream.int64(hi - lo, self.shape[1]), mask) for lo, hi in self._blocks()
        ]
        return torch.cat(rows, dim=1)

    def _apply(self, weight: Tensor, x: Tensor) -> Tensor:
        return ring.linear(weight, x)


class Diagonal(Linear):
    """y = g∘x + b with P0's secret gains g (d,): GLM's and BERT's residual branch."""

    def __init__(self, ctx: Context, name: str, d: int, gains: FixedWeight | None) -> None:
        super().__init__(ctx, name, (d, 1), gains)

    def _apply(self, weight: Tensor, x: Tensor) -> Tensor:
        return weight.reshape(-1) * x

    def _blocks(self) -> list[tuple[int, int]]:
        return [(0, self.shape[0])]


def fixed_gains(gain: Tensor, bias: Tensor | None, frac: int) -> FixedWeight:
    """Gains (d,) as int64 at scale 2^frac."""
    zeros = torch.zeros(gain.shape[0], dtype=torch.int64)
    b = zeros if bias is None else encode(bias, LINEAR_FRAC)
    return FixedWeight(encode(gain, frac).reshape(-1, 1), frac, b)
