"""The products of `byte_kernels` on vectors (AVX-512 VNNI), where the processor has no tile unit.

One instruction adds, to each of sixteen 32-bit sums, the products of four neighbours of a matrix row and
of four digits of x, as they stand in a row of a right tile. It takes x's digits without a sign.
"""

import numpy as np
from llvmlite import ir
from numba import njit, prange
from numpy.typing import NDArray

from protocols.arith.byte_kernels import ROWS_AT_ONCE, take_out
from protocols.arith.native import I64, at, call, instruction, loop
from protocols.arith.tile_kernels import COLUMNS, ROWS, TILE_BYTES, aligned

HALVES = 0  # added to a word for its digits: they have no sign
_AT_ONCE = 12  # rows, of which each has its sums and its address in a register
_DEEP = 1 << 10  # column tiles after which sums, of products up to 255·128, are taken out
_I32 = ir.IntType(32)
_SUMS = ir.VectorType(_I32, 16)


def _multiply(b: ir.IRBuilder, args: list[ir.Value]) -> None:
    """Write the sums of _AT_ONCE rows at args[0], args[1] bytes apart, and args[3] right tiles at args[2],
    to args[4]: int32 (_AT_ONCE, 16)."""
    left, stride, right, tiles, out = args
    starts = [b.add(left, b.mul(stride, ir.Constant(I64, r))) for r in range(_AT_ONCE)]

    def tile(i: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
        sums = list(sums)
        rows = [b.add(start, b.mul(i, ir.Constant(I64, COLUMNS))) for start in starts]
        digits = b.add(right, b.mul(i, ir.Constant(I64, TILE_BYTES)))
        for quarter in range(ROWS):
            place = b.bitcast(at(b, digits, 64 * quarter), _SUMS.as_pointer())
            factor = b.load(place, align=1)
            for r, row in enumerate(rows):
                four = b.load(b.bitcast(at(b, row, 4 * quarter), _I32.as_pointer()), align=1)
                spread = _spread(b, four)
                sums[r] = call(b, "llvm.x86.avx512.vpdpbusd.512", _SUMS, sums[r], factor, spread)
        return sums

    zero = ir.Constant(_SUMS, [0] * 16)
    for r, total in enumerate(loop(b, tiles, [zero] * _AT_ONCE, tile)):
        b.store(total, b.bitcast(at(b, out, 64 * r), _SUMS.as_pointer()), align=1)


def _spread(b: ir.IRBuilder, number: ir.Value) -> ir.Value:
    """A number in all places of a vector."""
    empty = ir.Constant(_SUMS, ir.Undefined)
    first = b.insert_element(empty, number, ir.Constant(_I32, 0))
    return b.shuffle_vector(first, empty, ir.Constant(_SUMS, [0] * 16))


_multiply_rows = instruction(_multiply, 5)


@njit(cache=True, nogil=True)
def _byte_products(
    left: NDArray[np.int8], right: NDArray[np.int8], digits: int, out: NDArray[np.int64]
) -> None:
    k, groups, deep = left.shape[1], right.shape[0], right.shape[1]
    memory = aligned(_AT_ONCE * ROWS * 4)
    sums, each = memory.view(np.int32), ROWS // digits
    for i in range(0, left.shape[0], _AT_ONCE):
        for lo in range(0, deep, _DEEP):
            rows = left.ctypes.data + i * k + lo * COLUMNS
            for g in range(groups):
                x = right.ctypes.data + (g * deep + lo) * TILE_BYTES
                _multiply_rows(rows, k, x, min(deep - lo, _DEEP), memory.ctypes.data)
                take_out(sums, digits, out[g * each : (g + 1) * each, i : i + _AT_ONCE])


@njit(cache=True, nogil=True, parallel=True)
def _parallel_byte_products(
    left: NDArray[np.int8],
    right: NDArray[np.int8],
    digits: int,
    out: NDArray[np.int64],
    parts: int,
) -> None:
    count = left.shape[0] // ROWS_AT_ONCE
    for t in prange(parts):
        lo, hi = count * t // parts * ROWS_AT_ONCE, count * (t + 1) // parts * ROWS_AT_ONCE
        _byte_products(left[lo:hi], right, digits, out[:, lo:hi])


def byte_products(
    left: NDArray[np.int8],
    right: NDArray[np.int8],
    digits: int,
    out: NDArray[np.int64],
    parts: int,
) -> None:
    """See `byte_kernels.byte_products`."""
    if parts == 1:
        _byte_products(left, right, digits, out)
    else:
        _parallel_byte_products(left, right, digits, out, parts)
