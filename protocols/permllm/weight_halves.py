"""The weights W as two halves, of which P1 and P2 hold one each: one drawn, one stored.

    W = U + (W − U)        mod 2^64, or 2^32 for the embedding's table

One role draws U from a key again and again and never stores it; the other stores W − U, in memory or
in a file that has no name, so that it is gone when its process ends, however it ends.

| mask_holder | U | W − U |
|---|---|---|
| user | P2, from the key of P0 and P2 | P1 |
| dealer | P1, from a key of P0 and P1 that P2 never sees | P2 |

Whoever holds one half learns nothing of W; both together are W.
"""

from collections.abc import Callable, Iterator
from math import prod
from typing import Protocol

import torch
from torch import Tensor

from protocols.arith import tiles
from protocols.arith.prg import Stream
from protocols.arith.tile_kernels import ROWS

Product = Callable[[Tensor, Tensor], Tensor]  # weight (rows, k), x (n, k) → (n, rows)
Draw = Callable[[Stream, int], Tensor]  # the next so many rows of a mask
Memory = Callable[[int], Tensor]  # so many bytes, uint8
BLOCK_ELEMENTS = 1 << 21  # weights a prepare message: 16 MiB of int64


def row_blocks(m: int, k: int) -> list[tuple[int, int]]:
    """Row ranges of the prepare messages: whole tiles."""
    step = max(1, BLOCK_ELEMENTS // k // ROWS) * ROWS
    return [(lo, min(m, lo + step)) for lo in range(0, m, step)]


class Half(Protocol):
    """One role's half of W (m, k)."""

    def linear(self, x: Tensor) -> Tensor:
        """x (n, k) times this half's transpose, (n, m)."""


class Drawn(Half, Protocol):
    """A half that its holder draws anew each time."""

    def blocks(self) -> Iterator[Tensor]:
        """Its rows, in `row_blocks`."""


class Stored(Half, Protocol):
    """A half that its holder was sent."""

    def put(self, lo: int, rows: Tensor) -> None:
        """Rows lo, …"""


class DrawnRows:
    """A mask that a stream yields row by row, multiplied block by block."""

    def __init__(self, key: bytes, shape: tuple[int, int], draw: Draw, product: Product) -> None:
        self._key, self._shape = key, shape
        self._draw, self._product = draw, product

    def blocks(self) -> Iterator[Tensor]:
        """See `Drawn`."""
        stream = Stream(self._key)
        for lo, hi in row_blocks(*self._shape):
            yield self._draw(stream, hi - lo)

    def linear(self, x: Tensor) -> Tensor:
        """See `Half`."""
        return torch.cat([self._product(block, x) for block in self.blocks()], dim=1)


class DrawnTiles:
    """A uniform mask over the ring, in tiles (`protocols.arith.tiles`)."""

    def __init__(self, key: bytes, shape: tuple[int, int], dtype: torch.dtype) -> None:
        self._mask, self._shape = tiles.Mask(key, *shape, dtype), shape

    def blocks(self) -> Iterator[Tensor]:
        """See `Drawn`."""
        return (self._mask.rows(lo, hi) for lo, hi in row_blocks(*self._shape))

    def linear(self, x: Tensor) -> Tensor:
        """See `Half`."""
        return self._mask.linear(x)


class StoredRows:
    """W − U as it was sent."""

    def __init__(
        self, memory: Memory, shape: tuple[int, int], dtype: torch.dtype, product: Product
    ) -> None:
        self._rows = memory(prod(shape) * dtype.itemsize).view(dtype).reshape(shape)
        self._product = product

    def put(self, lo: int, rows: Tensor) -> None:
        """See `Stored`."""
        self._rows[lo : lo + len(rows)] = rows

    def linear(self, x: Tensor) -> Tensor:
        """See `Half`."""
        return self._product(self._rows, x)


class StoredTiles:
    """W − U in tiles (`protocols.arith.tiles`)."""

    def __init__(self, memory: Memory, shape: tuple[int, int], dtype: torch.dtype) -> None:
        tiled = tiles.tiled_shape(*shape, dtype.itemsize)
        self._m = shape[0]
        self._tiles = memory(prod(tiled)).view(torch.int8).reshape(tiled)

    def put(self, lo: int, rows: Tensor) -> None:
        """See `Stored`."""
        first, count = lo // ROWS, -(-len(rows) // ROWS)
        tiles.pack(rows, self._tiles[first : first + count])

    def linear(self, x: Tensor) -> Tensor:
        """See `Half`."""
        return tiles.linear(self._tiles, x, self._m)


def in_memory(size: int) -> Tensor:
    """`size` bytes, uint8."""
    return torch.zeros(size, dtype=torch.uint8)
