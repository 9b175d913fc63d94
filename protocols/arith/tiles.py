"""Products of a large matrix over Z_2^64 (or Z_2^32) with a few rows, at the speed of its bytes.

A word is eight (four) signed digits: w = Σ_i d_i·256^i, −128 ≤ d_i < 128. With x in digits too,

    w·x = Σ_s 256^s·Σ_(i+j=s) d_i·e_j        s < 8 (4): what lies above vanishes

and the inner sums are products of 8-bit matrices, for which some processors have a unit of their own
(`tile_kernels`). A sum over 4096 columns stays below 2^31 for s < 4; above, what wraps is a multiple of
2^(32 + 8s) and vanishes. Others put the digits together in the cache and multiply words, eight at a
time (`word_kernels`); any processor can do so one by one.

Layout of W (m, k): int8 (row tiles, column tiles, digits, 16, 64); digit i of W[r, c] stands at
[r // 16, c // 64, i, r % 16, c % 64]. What lies beyond m and k is never used, so that a uniform mask
may be drawn in this form: its keystream *is* its digits. Any processor draws the same mask.
"""

from collections.abc import Iterator
from math import prod
from typing import Any, Protocol

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from protocols.arith import ring, tile_kernels, word_kernels
from protocols.arith.keystream import BLOCK_BYTES, Keystream
from protocols.arith.native import HAS_AES, HAS_IFMA, HAS_TILES
from protocols.arith.tile_kernels import BYTE, COLUMNS, ROWS, TILE_BYTES, raised

_BLOCK_BYTES = 1 << 23  # of a matrix at a time, where its digits are not multiplied as they are


class Kernels(Protocol):
    """What multiplies tiles."""

    def right_factor(self, x: NDArray[np.int64], digits: int) -> Any:
        """x (n, whole column tiles), to be multiplied with words of so many digits."""

    def stored_products(self, left: NDArray[np.int8], right: Any, out: NDArray[np.int64]) -> None:
        """Add left · right to out (whole tiles of rows of x, 16 a row tile), modulo 2^(8·digits)."""

    def drawn_products(
        self, round_keys: NDArray[np.uint8], block: int, right: Any, out: NDArray[np.int64]
    ) -> None:
        """The same for a left factor whose tiles are a keystream, from block number `block` on."""


# This processor's; None: words are multiplied by `ring`.
KERNELS: Kernels | None = tile_kernels if HAS_TILES else word_kernels if HAS_IFMA else None


def warm_up() -> None:
    """Compile the products, or load them compiled, so that nobody's measurement pays for it."""
    for dtype in (torch.int64, torch.int32):
        x = torch.ones(1, 1, dtype=dtype)
        mask = Mask(bytes(16), 1, 1, dtype)
        packed = tiled(1, 1, dtype.itemsize)
        pack(mask.rows(0, 1), packed)
        mask.linear(x)
        linear(packed, x, 1)


def tiled_shape(m: int, k: int, digits: int) -> tuple[int, int, int, int, int]:
    """Shape of W (m, k) in digits."""
    return -(-m // ROWS), -(-k // COLUMNS), digits, ROWS, COLUMNS


def tiled(m: int, k: int, digits: int) -> Tensor:
    """Memory for W (m, k) in digits, zero: int8 (see above)."""
    return torch.zeros(tiled_shape(m, k, digits), dtype=torch.int8)


def pack(words: Tensor, out: Tensor) -> None:
    """Write words (rows, k), int64 or int32, as the digits of tiles `out`, int8 of their shape."""
    _pack(words.contiguous().numpy(), out.numpy())


def unpack(tiles: Tensor, words: Tensor) -> None:
    """The inverse: fill words (rows, k), int64 or int32, contiguous."""
    _unpack(tiles.numpy(), words.numpy())


def linear(tiles: Tensor, x: Tensor, m: int) -> Tensor:
    """x · Wᵀ in the ring of x: W (m, k) in digits, x int64 or int32 (n, k); (n, m)."""
    out = Product(x, m)
    ring.in_parallel(len(tiles), lambda lo, hi: out.add(tiles[lo:hi], lo))
    return out.result()


class Mask:
    """A uniform matrix (m, k) over Z_2^64 or Z_2^32: the keystream of `key`, read as digits."""

    def __init__(self, key: bytes, m: int, k: int, dtype: torch.dtype) -> None:
        self._stream = Keystream(key)
        self._shape, self._dtype = (m, k), dtype
        self._tiles = tiled_shape(m, k, dtype.itemsize)

    def rows(self, lo: int, hi: int) -> Tensor:
        """Rows lo to hi as words; lo is a multiple of 16."""
        words = torch.empty((hi - lo, self._shape[1]), dtype=self._dtype)
        for first, block in self._blocks(lo // ROWS, -(-hi // ROWS)):
            start = first * ROWS - lo
            unpack(block, words[start : start + len(block) * ROWS])
        return words

    def linear(self, x: Tensor) -> Tensor:
        """x · Wᵀ in the ring of x, (n, k) → (n, m). The matrix never exists as a whole."""
        out = Product(x, self._shape[0])

        def part(lo: int, hi: int) -> None:
            if KERNELS and HAS_AES:
                out.draw(self._stream, lo, hi)
                return
            for first, block in self._blocks(lo, hi):
                out.add(block, first)

        ring.in_parallel(self._tiles[0], part)
        return out.result()

    def _blocks(self, lo: int, hi: int) -> Iterator[tuple[int, Tensor]]:
        """Row tiles lo to hi, some at a time, each with the number of its first; one memory."""
        _, across, digits, _, _ = self._tiles
        each = across * digits * TILE_BYTES
        many = min(hi - lo, max(1, _BLOCK_BYTES // each))
        memory = torch.empty((many, *self._tiles[1:]), dtype=torch.int8)
        for first in range(lo, hi, many):
            block = memory[: min(many, hi - first)]
            self._stream.fill(block, first * each // BLOCK_BYTES)
            yield first, block


class Product:
    """x · Wᵀ under way: the columns of row tiles may be added in any order, by several threads."""

    def __init__(self, x: Tensor, m: int) -> None:
        self._x, self._m = x.contiguous(), m
        n, k = x.shape
        self._row_bytes = prod(tiled_shape(m, k, x.dtype.itemsize)[1:])
        # One column more: of columns that happened to be contiguous numba would compile a second kernel.
        self._sums = np.zeros((-(-n // ROWS) * ROWS, -(-m // ROWS) * ROWS + 1), np.int64)
        if KERNELS:
            _, across, digits, _, _ = tiled_shape(m, k, x.dtype.itemsize)
            words = torch.zeros((n, across * COLUMNS), dtype=torch.int64)
            words[:, :k] = x
            self._right = KERNELS.right_factor(words.numpy(), digits)

    def add(self, tiles: Tensor, first: int) -> None:
        """The columns that belong to row tiles `first`, …"""
        columns = self._columns(first, first + len(tiles))
        if KERNELS:
            KERNELS.stored_products(tiles.numpy(), self._right, columns)
            return
        many = max(1, _BLOCK_BYTES // tiles[:1].nbytes)
        for t in range(0, len(tiles), many):
            block = tiles[t : t + many]
            words = torch.empty((len(block) * ROWS, self._x.shape[1]), dtype=self._x.dtype)
            unpack(block, words)
            found = ring.serial(words, self._x).numpy()
            columns[: len(self._x), t * ROWS : (t + many) * ROWS] = found

    def draw(self, stream: Keystream, lo: int, hi: int) -> None:
        """The columns that belong to row tiles lo to hi of the matrix whose tiles are `stream`."""
        if KERNELS is None:
            raise RuntimeError("without kernels a matrix is drawn first, then multiplied")
        block = lo * self._row_bytes // BLOCK_BYTES
        KERNELS.drawn_products(stream.round_keys, block, self._right, self._columns(lo, hi))

    def _columns(self, lo: int, hi: int) -> NDArray[np.int64]:
        return self._sums[:, lo * ROWS : hi * ROWS]

    def result(self) -> Tensor:
        """(n, m), of x's type."""
        sums = self._sums[: len(self._x), : self._m]
        return torch.from_numpy(np.ascontiguousarray(sums)).to(self._x.dtype)


@njit(cache=True, nogil=True)
def _pack(words: NDArray[np.int64], out: NDArray[np.int8]) -> None:
    """Each digit leaves a carry where it is negative."""
    for t in range(out.shape[0]):
        for b in range(out.shape[1]):
            for r in range(min(ROWS, words.shape[0] - t * ROWS)):
                row = words[t * ROWS + r]
                width = min(COLUMNS, words.shape[1] - b * COLUMNS)
                for i in range(out.shape[2]):
                    place = out[t, b, i, r]
                    for c in range(width):
                        place[c] = _digit(row[b * COLUMNS + c], i)


@njit(cache=True, nogil=True, inline="always")
def _digit(word: int, i: int) -> np.int8:
    """Digit i."""
    return np.int8(np.int64((raised(word) >> np.uint64(8 * i)) & BYTE) - 128)


@njit(cache=True, nogil=True)
def _unpack(tiles: NDArray[np.int8], words: NDArray[np.int64]) -> None:
    for t in range(tiles.shape[0]):
        for b in range(tiles.shape[1]):
            for r in range(min(ROWS, words.shape[0] - t * ROWS)):
                row = words[t * ROWS + r, b * COLUMNS : (b + 1) * COLUMNS]
                row[:] = 0
                for i in range(tiles.shape[2]):
                    digits = tiles[t, b, i, r]
                    for c in range(row.shape[0]):
                        row[c] += np.int64(digits[c]) << np.int64(8 * i)
