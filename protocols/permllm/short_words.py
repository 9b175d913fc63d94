"""Words of fewer than 64 bits: where a number matters modulo 2^b alone, or is to be known over the
integers.
"""

import numpy as np
import torch
from torch import Tensor

from protocols.arith.prg import Stream


class ShortWords:
    """What Z_2^64 offers for them."""

    packed_dtype = torch.uint8

    def pack(self, x: Tensor, size: int) -> Tensor:
        """x mod 2^(8·size), uint8 (…, size), the lowest byte first: 4 ≤ size ≤ 8."""
        words = x.contiguous().numpy().reshape(-1)
        packed = np.empty((len(words), size), np.uint8)
        np.ndarray(words.shape, "<u4", packed.data, strides=(size,))[:] = (
            words  # four bytes at once
        )
        for byte in range(4, size):
            packed[:, byte] = words >> (8 * byte)
        return torch.from_numpy(packed.reshape(*x.shape, size))

    def unpack(self, packed: Tensor) -> Tensor:
        """int64 in [0, 2^(8·size))."""
        size = packed.shape[-1]
        rows = packed.contiguous().numpy().reshape(-1, size)
        words = np.ndarray((len(rows),), "<u4", rows.data, strides=(size,)).astype(np.int64)
        for byte in range(4, size):
            words |= rows[:, byte].astype(np.int64) << (8 * byte)
        return torch.from_numpy(words.reshape(packed.shape[:-1]))

    def packed_shape(self, size: int, *shape: int) -> tuple[int, ...]:
        """Of `pack`'s result."""
        return (*shape, size)

    def signed(self, x: Tensor, size: int) -> Tensor:
        """The number in [-2^(8·size − 1), 2^(8·size − 1)) that is x modulo 2^(8·size)."""
        unused = 64 - 8 * size
        return (x << unused) >> unused

    def short_mask(self, stream: Stream, bits: int, safe_bits: int, *shape: int) -> Tensor:
        """From [2^safe_bits, 2^(64 − bits) − 2^safe_bits); a uniform draw outside is moved by half the
        range into the middle."""
        mask = self.shorten(stream.int64(*shape), bits)
        edge, whole = 1 << safe_bits, 1 << (64 - bits)
        unsafe = (mask < edge) | (mask >= whole - edge)
        return mask ^ (unsafe.to(torch.int64) << (63 - bits))

    def shorten(self, half: Tensor, bits: int) -> Tensor:
        """half >> bits, modulo 2^(64 − bits): the wrap of the halves vanishes with it."""
        return shift_right_logical(half, bits)

    def lift(self, short: Tensor, bits: int) -> Tensor:
        """x − λ over the integers, given modulo 2^(64 − bits), where λ is a `short_mask` and
        |x| < 2^safe_bits: it lies in [−2^(64 − bits), 0)."""
        whole = 1 << (64 - bits)
        return (short & (whole - 1)) - whole


def shift_right_logical(x: Tensor, bits: int) -> Tensor:
    """x, taken as unsigned, >> bits: 1 ≤ bits."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
