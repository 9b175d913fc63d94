"""Products of 8-bit matrices, as they lie in memory, with the digits of words, on the tile unit (AMX).

`tile_kernels` says what the unit does. Here the left factor is a matrix of signed bytes in rows, whose
tiles are loaded with the rows' own distance; nothing is copied, so that one column is a matter of reading
the matrix once. Of the right factor's 16 columns each is one digit of one row of x.
"""

import numpy as np
from llvmlite import ir
from numba import njit, prange
from numpy.typing import NDArray

from protocols.arith.native import I8, I64, VOID, at, call, instruction
from protocols.arith.tile_kernels import (
    COLUMNS,
    ROWS,
    TILE_BYTES,
    TILE_SHAPES,
    begin_tiles,
    end_tiles,
)

TILES = 3  # row tiles at a time: a right tile is loaded once for all of them
ROWS_AT_ONCE = TILES * ROWS
_DEEP = 1 << 10  # column tiles after which sums, of products up to 2^14, are taken out: below 2^30
_RIGHT = 2 * TILES  # register
HALVES = 0x8080808080808080  # added to a word for its digits: they are signed
_BYTE = np.uint64(0xFF)


def _zero(b: ir.IRBuilder, args: list[ir.Value]) -> None:
    for t in range(TILES):
        call(b, "llvm.x86.tilezero", VOID, ir.Constant(I8, t))


def _step(b: ir.IRBuilder, args: list[ir.Value]) -> None:
    """Add the products of TILES row tiles at args[0], rows args[1] bytes apart, and the tile args[2]."""
    a, stride, x = args
    call(
        b, "llvm.x86.tileloadd64", VOID, ir.Constant(I8, _RIGHT), at(b, x, 0), ir.Constant(I64, 64)
    )
    for t in range(TILES):
        place = b.add(a, b.mul(stride, ir.Constant(I64, t * ROWS)))
        call(b, "llvm.x86.tileloadd64", VOID, ir.Constant(I8, TILES + t), at(b, place, 0), stride)
        registers = [ir.Constant(I8, r) for r in (t, TILES + t, _RIGHT)]
        call(b, "llvm.x86.tdpbssd", VOID, *registers)


def _store(b: ir.IRBuilder, args: list[ir.Value]) -> None:
    for t in range(TILES):
        place = at(b, args[0], TILE_BYTES * t)
        call(b, "llvm.x86.tilestored64", VOID, ir.Constant(I8, t), place, ir.Constant(I64, 64))


_zero_sums = instruction(_zero, 0)
_add = instruction(_step, 3)
_store_sums = instruction(_store, 1)


@njit(cache=True, nogil=True)
def _byte_products(
    shapes: NDArray[np.uint8],
    left: NDArray[np.int8],
    right: NDArray[np.int8],
    digits: int,
    out: NDArray[np.int64],
) -> None:
    begin_tiles(shapes.ctypes.data)
    k, groups, deep = left.shape[1], right.shape[0], right.shape[1]
    memory = np.empty((TILES + 1) * 256, np.int32)
    base = (memory.ctypes.data + 63) // 64 * 64
    sums = memory[(base - memory.ctypes.data) // 4 :]
    for i in range(0, left.shape[0], ROWS_AT_ONCE):
        rows = left.ctypes.data + i * k
        for lo in range(0, deep, _DEEP):
            for g in range(groups):
                x = right.ctypes.data + g * deep * TILE_BYTES
                _zero_sums()
                for b in range(lo, min(deep, lo + _DEEP)):
                    _add(rows + b * COLUMNS, k, x + b * TILE_BYTES)
                _store_sums(base)
                each = ROWS // digits
                take_out(sums, digits, out[g * each : (g + 1) * each, i : i + ROWS_AT_ONCE])
    end_tiles()


@njit(cache=True, nogil=True, parallel=True)
def _parallel_byte_products(
    shapes: NDArray[np.uint8],
    left: NDArray[np.int8],
    right: NDArray[np.int8],
    digits: int,
    out: NDArray[np.int64],
    parts: int,
) -> None:
    count = left.shape[0] // ROWS_AT_ONCE
    for t in prange(parts):
        lo, hi = count * t // parts * ROWS_AT_ONCE, count * (t + 1) // parts * ROWS_AT_ONCE
        _byte_products(shapes, left[lo:hi], right, digits, out[:, lo:hi])


def byte_products(
    left: NDArray[np.int8],
    right: NDArray[np.int8],
    digits: int,
    out: NDArray[np.int64],
    parts: int,
) -> None:
    """Add left (m, k) · right to the first m columns of out (n, …), modulo 2^64, in so
    many parts on the threads that numba may use; m is a multiple of ROWS_AT_ONCE.

    right: int8 (groups, column tiles, 16, 64) as `pack_digits` makes it. Columns of `left` beyond its
    last column tile are left out.
    """
    if parts == 1:
        _byte_products(TILE_SHAPES, left, right, digits, out)
    else:
        _parallel_byte_products(TILE_SHAPES, left, right, digits, out, parts)


@njit(cache=True, nogil=True)
def take_out(sums: NDArray[np.int32], digits: int, out: NDArray[np.int64]) -> None:
    """Add Σ_j 256^j · sum of digit j; out (rows of x, rows of the matrix)."""
    for c in range(out.shape[0]):
        for r in range(out.shape[1]):
            total = np.int64(0)
            for j in range(digits):
                total += np.int64(sums[16 * r + digits * c + j]) << np.int64(8 * j)
            out[c, r] += total


@njit(cache=True, nogil=True)
def pack_digits(
    x: NDArray[np.int64], width: int, digits: int, halves: np.uint64, out: NDArray[np.uint32]
) -> None:
    """Digits of x (n, k) as right factors uint32 (groups, column tiles, 16, 16), for whole column tiles.
    width 2: of x and 256·x in turns.

    Column digits·c + j of a group is digit j of its row c. In a tile B[k, column] stands at row k // 4,
    byte 4·column + k mod 4: the digits j of four neighbours are one number. halves 0: digits are a word's
    bytes. HALVES: they are signed; adding 128 to each makes them the bytes of a sum, of which the top bits
    are turned.
    """
    each = ROWS // digits
    for n in range(x.shape[0]):
        g, first = n // each, n % each * digits
        for b in range(out.shape[1]):
            for row in range(ROWS):
                k = (b * COLUMNS + 4 * row) // width
                w0 = np.uint64(x[n, k])
                if width == 1:
                    w1, w2, w3 = (
                        np.uint64(x[n, k + 1]),
                        np.uint64(x[n, k + 2]),
                        np.uint64(x[n, k + 3]),
                    )
                else:
                    w2 = np.uint64(x[n, k + 1])
                    w1, w3 = w0 << np.uint64(8), w2 << np.uint64(8)
                r0, r1, r2, r3 = w0 + halves, w1 + halves, w2 + halves, w3 + halves
                place = out[g, b, row, first : first + digits]
                for j in range(digits):
                    s = np.uint64(8 * j)
                    low = (r0 >> s & _BYTE) | (r1 >> s & _BYTE) << np.uint64(8)
                    high = (r2 >> s & _BYTE) | (r3 >> s & _BYTE) << np.uint64(8)
                    place[j] = np.uint32(
                        (low | high << np.uint64(16)) ^ (halves & np.uint64(0xFFFFFFFF))
                    )
