"""The numbers that are shared: how they are encoded, masked, multiplied and truncated.

**Ring64** (default): fixed point in Z_2^64, masks uniform over the ring.

Exact local truncation by s bits: if λ, read as an unsigned number, lies in [2^k, 2^64 − 2^k) and
|x| < 2^k, then Δ + λ = x + 2^64 over the integers, so
    x / 2^s = (Δ >> s) + (λ >> s) − 2^(64−s)        (logical shifts, each half rounds down)
and adding 1 centres the error within ±1 ulp. No probability of failure. The price: Δ of two secrets
x, x' differ in distribution by at most 2·|x − x'|·2^-64 (each edge of the mask's density counts once).

The window: where only 32 bits of a value are ever looked at, both halves are shifted and reduced mod
2^32. The wrap of the masks is a multiple of 2^(64−s) there and vanishes for s ≤ 32, so |x| < 2^31 at
the window's scale is all that must hold, and no mask has to be special. Adding 1 centres it as well.

Rounding must tell P1 nothing. Whether the halves' low s bits carry is a comparison of x mod 2^s with
λ mod 2^s. Did P1 know λ mod 2^s, the last bit of what it sees would tell which permuted value belongs
to which mask. So it does not: a truncated mask is λ = m·2^s + ℓ, of which P1 knows m and the dealer
alone ℓ; before a window P0 adds a dither ρ in [0, 2^s) to Δ that the dealer takes from λ. Either way
the result is x / 2^s rounded up or down by a coin that nobody but the dealer knows, right on average.

**Float32**: the authors' own variant, real-number shares with bounded uniform masks of `mask_scale`
times the tensor's scale. Scales (`frac`) are labels without effect. Weaker: a bounded mask leaks
(SECURITY.md), and cancellation costs accuracy as `mask_scale` grows.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from protocols.arith import byte_products, ring
from protocols.arith.prg import Stream
from protocols.permllm.options import PermLLMOptions
from protocols.permllm.short_words import ShortWords, shift_right_logical

VALUE_FRAC = 14  # smallest scale of an activation that enters a linear layer
LINEAR_FRAC = 30  # scale of every linear layer's output, and of the residual stream
MAX_WEIGHT_FRAC = LINEAR_FRAC - VALUE_FRAC
WINDOW_FRAC = 16  # scale at which P1 sees permuted values, in a 32-bit window: |x| < 2^15
_INTEGERS = {8: torch.int8, 16: torch.int16, 32: torch.int32}
BOUND_BITS = 10  # |q|, |k|, |v|, |o| < 2^10
SAFE_BITS = LINEAR_FRAC + BOUND_BITS  # k of the exact truncations


@dataclass(frozen=True)
class FixedWeight:
    """A weight tensor (m, k) as P0 keeps it, and its bias (m,) at LINEAR_FRAC.

    Ring64: weight ≈ scales · values · 2^−frac, with one whole number, int64 (m,), for each row, or none;
    int16 values as `byte_products.turn` has them. Float32: the weight itself, |weight| < 2^(15 − frac).
    """

    values: Tensor
    frac: int
    bias: Tensor
    scales: Tensor | None = None

    def rows(self, lo: int, hi: int, dtype: torch.dtype) -> Tensor:
        """Rows lo to hi as shares' numbers of type `dtype`, or of a smaller one."""
        rows = self.values[lo:hi]
        if rows.dtype == torch.int16:
            return byte_products.turn(rows)
        if self.scales is None:
            return rows
        return rows.to(dtype) * self.scales[lo:hi, None].to(dtype)

    def scaled(self, product: Tensor) -> Tensor:
        """A product with `values`, (n, m), as one with the weight."""
        return product if self.scales is None else product * self.scales.to(product.dtype)


class Domain(ABC):
    """One number system. Shares are tensors of `dtype`, windows of `window_dtype`."""

    name: str
    exact: bool  # whether shares are words of a ring
    dtype: torch.dtype
    window_dtype: torch.dtype

    @abstractmethod
    def encode(self, x: Tensor, frac: int) -> Tensor:
        """A real tensor as shares' numbers at scale 2^frac."""

    @abstractmethod
    def decode(self, x: Tensor, frac: int) -> Tensor:
        """float64 value of shares' (or a window's) numbers at scale 2^frac."""

    @abstractmethod
    def mask(self, stream: Stream, *shape: int, scale: float = 1.0) -> Tensor:
        """A mask for a tensor whose values are of the order of `scale`."""

    @abstractmethod
    def safe_mask(self, stream: Stream, bits: int, *shape: int) -> Tensor:
        """A mask that allows exact truncation of any |x| < 2^bits."""

    @abstractmethod
    def round_mask(self, mask: Tensor, bits: int | Tensor) -> Tensor:
        """m·2^bits: the part of a truncated mask that P1 knows."""

    @abstractmethod
    def low_bits(self, stream: Stream, bits: int | Tensor, *shape: int) -> Tensor:
        """Uniform in [0, 2^bits): ℓ or ρ."""

    @abstractmethod
    def narrow_mask(self, stream: Stream, *shape: int, scale: float = 1.0) -> Tensor:
        """A mask for a tensor of which only the window is ever used."""

    @abstractmethod
    def truncate_mask(self, mask: Tensor, bits: int) -> Tensor:
        """The mask's half of an exact truncation (P1, P2)."""

    @abstractmethod
    def truncate_value(self, delta: Tensor, bits: int) -> Tensor:
        """The value's half of an exact truncation (P0)."""

    @abstractmethod
    def window_mask(self, mask: Tensor, shift: int) -> Tensor:
        """The mask's half of a window (P2)."""

    @abstractmethod
    def window_value(self, delta: Tensor, shift: int) -> Tensor:
        """The value's half of a window (P0)."""

    @abstractmethod
    def window_limit(self, frac: int) -> float:
        """Magnitude that a window at scale 2^frac may show: half of what it holds, so that a value up
        to three times as large is seen to be too large."""

    @abstractmethod
    def widen(self, window: Tensor, bits: int) -> Tensor:
        """A window's numbers as shares with `bits` more fractional bits."""

    @abstractmethod
    def quantize(self, weight: Tensor, bias: Tensor | None, bits: int) -> FixedWeight:
        """A real weight (m, k) in at most `bits` bits, scaled by a power of two; in 8 bits each row by
        a whole number besides."""

    @abstractmethod
    def linear(self, weight: Tensor, x: Tensor) -> Tensor:
        """x · weightᵀ: weight (m, k), x (n, k) → (n, m)."""

    @abstractmethod
    def matmul_t(self, x: Tensor, w: Tensor) -> Tensor:
        """x · wᵀ a head: (h, n, k), (h, m, k) → (h, n, m)."""

    @abstractmethod
    def matmul(self, x: Tensor, w: Tensor) -> Tensor:
        """x · w a head: (h, n, k), (h, k, m) → (h, n, m)."""

    def gains(self, gain: Tensor, bias: Tensor | None, frac: int) -> FixedWeight:
        """A diagonal weight (d,) at scale 2^frac."""
        none = torch.zeros(gain.shape[0], dtype=self.dtype)
        b = none if bias is None else self.encode(bias, LINEAR_FRAC)
        return FixedWeight(self.encode(gain, frac).reshape(-1, 1), frac, b)


class Ring64(ShortWords, Domain):
    """Fixed point in Z_2^64."""

    name = "ring64"
    exact = True
    dtype = torch.int64
    window_dtype = torch.int32

    def encode(self, x: Tensor, frac: int) -> Tensor:
        """round(x · 2^frac), int64."""
        return torch.round(x.to(torch.float64) * 2.0**frac).to(torch.int64)

    def decode(self, x: Tensor, frac: int) -> Tensor:
        """x · 2^−frac."""
        return x.to(torch.float64) * 2.0**-frac

    def mask(self, stream: Stream, *shape: int, scale: float = 1.0) -> Tensor:
        """Uniform over the ring."""
        return stream.int64(*shape)

    def safe_mask(self, stream: Stream, bits: int, *shape: int) -> Tensor:
        """From [2^bits, 2^64 − 2^bits); a uniform draw outside is moved by 2^63 into the middle."""
        mask = stream.int64(*shape)
        unsafe = (mask >= -(1 << bits)) & (mask < (1 << bits))
        return mask ^ (unsafe.to(torch.int64) << 63)

    def round_mask(self, mask: Tensor, bits: int | Tensor) -> Tensor:
        """λ without its low bits. A safe mask stays safe where bits < k."""
        return mask & -(1 << bits)

    def low_bits(self, stream: Stream, bits: int | Tensor, *shape: int) -> Tensor:
        """The low bits of 32-bit words: bits ≤ 32."""
        return stream.int32(*shape).to(torch.int64) & ((1 << bits) - 1)

    def narrow_mask(self, stream: Stream, *shape: int, scale: float = 1.0) -> Tensor:
        """Uniform over Z_2^32."""
        return stream.int32(*shape)

    def truncate_mask(self, mask: Tensor, bits: int) -> Tensor:
        """λ >> bits."""
        return shift_right_logical(mask, bits) if bits else mask

    def truncate_value(self, delta: Tensor, bits: int) -> Tensor:
        """(Δ >> bits) − 2^(64 − bits) + 1."""
        if bits == 0:
            return delta
        return shift_right_logical(delta, bits) - ((1 << (64 - bits)) - 1)

    def window_mask(self, mask: Tensor, shift: int) -> Tensor:
        """(λ >> shift) mod 2^32."""
        return (mask >> shift).to(torch.int32)

    def window_value(self, delta: Tensor, shift: int) -> Tensor:
        """(Δ >> shift) + 1 mod 2^32; of a value that is no longer than the window Δ itself."""
        return ((delta >> shift) + (shift > 0)).to(torch.int32)

    def window_limit(self, frac: int) -> float:
        """2^(30 − frac)."""
        return 2.0 ** (30 - frac)

    def widen(self, window: Tensor, bits: int) -> Tensor:
        """Valid modulo 2^(32 + bits)."""
        return window.to(torch.int64) << bits

    def quantize(self, weight: Tensor, bias: Tensor | None, bits: int) -> FixedWeight:
        """Round to int16 or int32 at the largest scale that fits, at most 2^MAX_WEIGHT_FRAC; to int8 at
        the same, divided by the least whole number for which a row fits."""
        limit = (1 << (max(bits, 16) - 1)) - 1
        largest = _largest(weight)
        frac = _fitting_frac(largest, limit)
        if largest * 2.0**frac > limit:
            raise ValueError(f"a weight of magnitude {largest:g} does not fit {bits} bits")
        values = torch.empty(weight.shape, dtype=_INTEGERS[bits])
        scales = torch.ones(weight.shape[0], dtype=torch.int64) if bits == 8 else None
        for lo in range(0, len(weight), 512):
            rows = weight[lo : lo + 512] * 2.0**frac
            if scales is not None:
                scales[lo : lo + 512] = (rows.abs().amax(1) / 127).ceil().clamp(min=1)
                rows /= scales[lo : lo + 512, None]
            values[lo : lo + 512] = rows.round_()
        if bits == 16:
            values ^= byte_products.TURN
        zeros = torch.zeros(weight.shape[0], dtype=torch.int64)
        encoded = zeros if bias is None else self.encode(bias, LINEAR_FRAC)
        return FixedWeight(values, frac, encoded, scales)

    def linear(self, weight: Tensor, x: Tensor) -> Tensor:
        """Exact modulo 2^64, or 2^32 for int32 x."""
        if weight.dtype in (torch.int8, torch.int16):
            return byte_products.linear(weight, x)
        return ring.linear(weight, x)

    def matmul_t(self, x: Tensor, w: Tensor) -> Tensor:
        """Exact modulo 2^64."""
        return ring.matmul_t(x, w)

    def matmul(self, x: Tensor, w: Tensor) -> Tensor:
        """Exact modulo 2^64."""
        return ring.matmul(x, w)


class Float32(Domain):
    """Real numbers under bounded masks, as the authors' code has them."""

    name = "float32"
    exact = False
    dtype = torch.float32
    window_dtype = torch.float32

    def __init__(self, mask_scale: float) -> None:
        self._mask_scale = mask_scale

    def encode(self, x: Tensor, frac: int) -> Tensor:
        """x as float32."""
        return x.to(torch.float32)

    def decode(self, x: Tensor, frac: int) -> Tensor:
        """x as float64."""
        return x.to(torch.float64)

    def mask(self, stream: Stream, *shape: int, scale: float = 1.0) -> Tensor:
        """Uniform in ± mask_scale · scale."""
        return stream.int32(*shape).to(torch.float32) * (self._mask_scale * scale * 2.0**-31)

    def safe_mask(self, stream: Stream, bits: int, *shape: int) -> Tensor:
        """The same: there is no truncation."""
        return self.mask(stream, *shape)

    def round_mask(self, mask: Tensor, bits: int | Tensor) -> Tensor:
        """Nothing to do."""
        return mask

    def low_bits(self, stream: Stream, bits: int | Tensor, *shape: int) -> Tensor:
        """None: there is no truncation."""
        return torch.zeros(shape)

    def narrow_mask(self, stream: Stream, *shape: int, scale: float = 1.0) -> Tensor:
        """The same: there is no window."""
        return self.mask(stream, *shape, scale=scale)

    def truncate_mask(self, mask: Tensor, bits: int) -> Tensor:
        """Nothing to do."""
        return mask

    def truncate_value(self, delta: Tensor, bits: int) -> Tensor:
        """Nothing to do."""
        return delta

    def window_mask(self, mask: Tensor, shift: int) -> Tensor:
        """Nothing to do."""
        return mask

    def window_value(self, delta: Tensor, shift: int) -> Tensor:
        """Nothing to do."""
        return delta

    def window_limit(self, frac: int) -> float:
        """None: there is no window."""
        return math.inf

    def widen(self, window: Tensor, bits: int) -> Tensor:
        """Nothing to do."""
        return window

    def quantize(self, weight: Tensor, bias: Tensor | None, bits: int) -> FixedWeight:
        """The weight itself; frac tells the magnitude that its mask needs."""
        zeros = torch.zeros(weight.shape[0])
        frac = _fitting_frac(_largest(weight), (1 << 15) - 1)
        return FixedWeight(weight.float(), frac, zeros if bias is None else bias.float())

    def linear(self, weight: Tensor, x: Tensor) -> Tensor:
        """float32 product."""
        return x @ weight.T

    def matmul_t(self, x: Tensor, w: Tensor) -> Tensor:
        """float32 products."""
        return x @ w.transpose(1, 2)

    def matmul(self, x: Tensor, w: Tensor) -> Tensor:
        """float32 products."""
        return x @ w


def domain_of(options: PermLLMOptions) -> Domain:
    """The domain that the options ask for."""
    return Float32(options.mask_scale) if options.domain == "float32" else Ring64()


def _largest(weight: Tensor) -> float:
    """max |weight| without a temporary of its size."""
    low, high = torch.aminmax(weight)
    return max(-float(low), float(high))


def _fitting_frac(largest: float, limit: int) -> int:
    frac = MAX_WEIGHT_FRAC
    while frac > 0 and largest * 2.0**frac > limit:
        frac -= 1
    return frac
