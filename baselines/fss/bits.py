"""Numbers of any width, packed to the bit: how keys and openings travel.

A stream of numbers is a stream of bits, the lowest first, without a gap between numbers or fields. Only
its end is filled up to a byte.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

Words = NDArray[np.uint64]


@dataclass(frozen=True)
class Field:
    """`per` numbers of `width` bits, 1 to 64, for each instance of a key."""

    width: int
    per: int = 1


@dataclass(frozen=True)
class Layout:
    """What the keys of a batch are made of, one field after the other."""

    fields: tuple[Field, ...]

    @property
    def bits(self) -> int:
        """Of one instance."""
        return sum(field.width * field.per for field in self.fields)

    def size(self, count: int) -> int:
        """Bytes of `count` instances."""
        return packed_bytes(self.bits * count)

    def spare(self, count: int) -> int:
        """Bits of the last byte that are filled up."""
        return -self.bits * count % 8


def packed_bytes(bits: int) -> int:
    """Bytes that hold so many bits."""
    return (bits + 7) // 8


def low_bits(width: int) -> int:
    """The int64 whose lowest `width` bits are set."""
    return (1 << width) - 1 if width < 64 else -1


def top_bit(x: Tensor, width: int) -> Tensor:
    """The highest of the lowest `width` bits."""
    return ((x & low_bits(width)) >> (width - 1)) & 1


def chunks(count: int, size: int) -> list[tuple[int, int]]:
    """Where the parts of `count` numbers begin and end."""
    return [(lo, min(lo + size, count)) for lo in range(0, count, size)]


def words_of(x: Tensor) -> Words:
    """An int64 tensor as one row of words."""
    return x.contiguous().view(-1).numpy().view(np.uint64)


def tensor_of(parts: Sequence[Words], shape: tuple[int, ...]) -> Tensor:
    """Words one after the other as an int64 tensor."""
    flat = np.concatenate([part.reshape(-1) for part in parts]) if parts else np.empty(0, np.uint64)
    return torch.from_numpy(flat.view(np.int64)).reshape(shape)


def pack(layout: Layout, count: int, values: Sequence[Words]) -> Tensor:
    """uint8 (layout.size(count),) of arrays (per, count), whose numbers fit their width."""
    stream = np.zeros((layout.bits * count + 63) // 64 + 1, np.uint64)
    place = 0
    for field, numbers in zip(layout.fields, values, strict=True):
        _put(stream, place, numbers.reshape(-1), field.width)
        place += field.width * field.per * count
    return torch.from_numpy(stream.view(np.uint8)[: layout.size(count)])


def unpack(layout: Layout, count: int, packed: Tensor) -> list[Words]:
    """Arrays (per, count) of what `pack` made."""
    stream = np.zeros((layout.bits * count + 63) // 64 + 1, np.uint64)
    stream.view(np.uint8)[: layout.size(count)] = packed.numpy()
    place, found = 0, []
    for field in layout.fields:
        numbers = np.empty((field.per, count), np.uint64)
        _take(stream, place, numbers.reshape(-1), field.width)
        place += field.width * field.per * count
        found.append(numbers)
    return found


@njit(cache=True, nogil=True)
def _put(stream: Words, place: int, numbers: Words, width: int) -> None:
    for number in numbers:
        word, shift = place >> 6, np.uint64(place & 63)
        stream[word] |= number << shift
        if (place & 63) + width > 64:
            stream[word + 1] |= number >> (np.uint64(64) - shift)
        place += width


@njit(cache=True, nogil=True)
def _take(stream: Words, place: int, numbers: Words, width: int) -> None:
    mask = np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(64 - width)
    for i in range(numbers.size):
        word, shift = place >> 6, np.uint64(place & 63)
        number = stream[word] >> shift
        if (place & 63) + width > 64:
            number |= stream[word + 1] << (np.uint64(64) - shift)
        numbers[i] = number & mask
        place += width


def warm_up() -> None:
    """Compile both kernels, or load them compiled."""
    layout = Layout((Field(3),))
    unpack(layout, 1, pack(layout, 1, [np.ones((1, 1), np.uint64)]))
