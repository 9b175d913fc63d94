"""Products of integer weights with a few rows over Z_2^64 or Z_2^32, at the speed of the weights' bytes.

A weight is one signed byte, or two: with its low byte's top bit turned (`turn`), so that both bytes are
signed digits and stand for w − 128. With the digits of x (words of eight or four)

    w·x = Σ_j 256^j·(w·digit j of x)
    w·x = Σ_j 256^j·((b_0, b_1, …)·digit j of (x, 256·x) in turns) + 128·Σx

the inner sums are products of 8-bit matrices, on the tile unit (`byte_kernels`) or on vectors
(`vector_byte_kernels`). One row of x takes eight (four) of sixteen columns: two rows (four) cost what one
does. Where the processor has neither, and for what does not fill tiles, `ring` multiplies word by word.
"""

from typing import Protocol

import numpy as np
import torch
from numba import get_num_threads
from numpy.typing import NDArray
from torch import Tensor

from protocols.arith import byte_kernels, ring, vector_byte_kernels
from protocols.arith.byte_kernels import ROWS_AT_ONCE, pack_digits
from protocols.arith.native import HAS_TILES, HAS_VNNI
from protocols.arith.tile_kernels import COLUMNS, ROWS

RIGHT_BYTES = 1 << 25  # of digits of x at a time: one-hots of a long prompt are wide, and many


class Kernels(Protocol):
    """What multiplies bytes."""

    HALVES: int

    def byte_products(
        self,
        left: NDArray[np.int8],
        right: NDArray[np.int8],
        digits: int,
        out: NDArray[np.int64],
        parts: int,
    ) -> None:
        """See `byte_kernels`."""


# This processor's; None: words are multiplied as they are.
KERNELS: Kernels | None = byte_kernels if HAS_TILES else vector_byte_kernels if HAS_VNNI else None
TURN = 0x80 if KERNELS else 0


def turn(weight: Tensor) -> Tensor:
    """int16 weights with the top bit of each low byte turned, where that helps; twice is not at all."""
    return weight ^ TURN


def warm_up() -> None:
    """Compile the products, or load them compiled, so that nobody's measurement pays for it."""
    for weight in (torch.int8, torch.int16):
        rows = torch.ones(ROWS_AT_ONCE + 1, COLUMNS + 1, dtype=weight)
        for word in (torch.int64, torch.int32):
            linear(rows, torch.ones(1, COLUMNS + 1, dtype=word))


def linear(weight: Tensor, x: Tensor) -> Tensor:
    """x · weightᵀ in the ring of x: weight int8, or int16 and turned, (m, k); x int64 or int32 (n, k);
    the result (n, m)."""
    m, k = weight.shape
    rows = m // ROWS_AT_ONCE * ROWS_AT_ONCE
    columns = k * weight.itemsize // COLUMNS * COLUMNS // weight.itemsize
    if not (KERNELS and rows and columns):
        return ring.linear(_whole(weight), x)
    out = torch.zeros((x.shape[0], m), dtype=torch.int64)
    _on_bytes(KERNELS, weight[:rows], x[:, :columns], out)
    if rows < m:
        out[:, rows:] = ring.linear(_whole(weight[rows:]), x)
    if columns < k:
        out[:, :rows] += ring.linear(_whole(weight[:rows, columns:]), x[:, columns:])
    return out.to(x.dtype)


def _whole(weight: Tensor) -> Tensor:
    """Weights as numbers."""
    return turn(weight) if TURN and weight.dtype == torch.int16 else weight


def _on_bytes(kernels: Kernels, weight: Tensor, x: Tensor, out: Tensor) -> None:
    """Fill the first columns of `out` (n, m) with x · weightᵀ for the first columns of the weight."""
    group = ROWS * x.shape[1] * weight.itemsize  # bytes of the digits of ROWS // digits rows of x
    rows = max(1, RIGHT_BYTES // group) * (ROWS // x.dtype.itemsize)
    for lo in range(0, len(x), rows):
        _rows_on_bytes(kernels, weight, x[lo : lo + rows], out[lo : lo + rows])


def _rows_on_bytes(kernels: Kernels, weight: Tensor, x: Tensor, out: Tensor) -> None:
    words, digits, width = x.to(torch.int64).contiguous(), x.dtype.itemsize, weight.itemsize
    if width == 2:
        out[:, : len(weight)] = 128 * words.sum(1, keepdim=True)
    groups = -(-x.shape[0] * digits // ROWS)
    tiles = torch.zeros((groups, x.shape[1] * width // COLUMNS, ROWS, ROWS), dtype=torch.int32)
    right = tiles.numpy()  # begins with a cache line
    pack_digits(words.numpy(), width, digits, np.uint64(kernels.HALVES), right.view(np.uint32))
    left = weight.contiguous().view(torch.int8).numpy()
    arguments = left, right.view(np.int8), digits, out.numpy()
    threads = get_num_threads()
    if threads == 1:
        kernels.byte_products(*arguments, 1)
        return
    with ring.exclusive():
        kernels.byte_products(*arguments, min(len(weight) // ROWS_AT_ONCE, 4 * threads))
