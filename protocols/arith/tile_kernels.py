"""Products of 8-bit tiles on the processor's tile unit (AMX).

It has eight registers of 16 rows by 64 bytes. One instruction adds, for registers A and B,
Σ_k A[r, k]·B[k, c] over 64 signed bytes to 16 × 16 counters of 32 bits, without saturation; B[k, c]
stands at row k // 4, byte 4·c + k mod 4. `tiles` says how words become such tiles.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit
from numpy.typing import NDArray

from protocols.arith.native import I8, I64, VOID, at, call, instruction

ROWS, COLUMNS = 16, 64
TILE_BYTES = ROWS * COLUMNS
_DEPTH = 64  # column tiles (4096 columns) after which the sums are taken out
_NEAR = 2  # column tiles that stay in the L1 cache

# What `_begin_tiles` loads: palette 1, every register with 16 rows of 64 bytes.
TILE_SHAPES = np.zeros(64, np.uint8)
TILE_SHAPES[0] = 1
TILE_SHAPES[16:32:2] = 64
TILE_SHAPES[48:56] = 16


def _load(b: ir.IRBuilder, register: int, address: ir.Value, offset: int) -> None:
    place, stride = at(b, address, offset), ir.Constant(I64, 64)
    call(b, "llvm.x86.tileloadd64", VOID, ir.Constant(I8, register), place, stride)


def _begin(b: ir.IRBuilder, args: list[ir.Value]) -> None:
    call(b, "llvm.x86.ldtilecfg", VOID, at(b, args[0], 0))


def _end(b: ir.IRBuilder, args: list[ir.Value]) -> None:
    call(b, "llvm.x86.tilerelease", VOID)


_begin_tiles = instruction(_begin, 1)
_end_tiles = instruction(_end, 0)


def diagonals(lo: int, hi: int) -> tuple[Any, Any, Any]:
    """Instructions for the sums s = lo … hi−1 (three at most) of products A_i·B_j with i + j = s.

    load(p), store(p): the sums' registers from and to tiles lo … hi−1 at p. step(a, b): add the
    products of tiles A_0, A_1, … at a and B_0, B_1, … at b. Registers: the sums, one A, and the B's
    that the next A's need too.
    """
    held, one_a, places = hi - lo, 3, (4, 5, 6, 7)

    def load(b: ir.IRBuilder, args: list[ir.Value]) -> None:
        for t in range(held):
            _load(b, t, args[0], TILE_BYTES * (lo + t))

    def store(b: ir.IRBuilder, args: list[ir.Value]) -> None:
        for t in range(held):
            place, stride = at(b, args[0], TILE_BYTES * (lo + t)), ir.Constant(I64, 64)
            call(b, "llvm.x86.tilestored64", VOID, ir.Constant(I8, t), place, stride)

    def step(b: ir.IRBuilder, args: list[ir.Value]) -> None:
        loaded: dict[int, int] = {}  # which B stands in which register
        for i in range(hi):
            _load(b, one_a, args[0], TILE_BYTES * i)
            for j in range(max(0, lo - i), hi - i):
                place = places[j % len(places)]  # at most three neighbours are needed at once
                if loaded.get(place) != j:
                    _load(b, place, args[1], TILE_BYTES * j)
                    loaded[place] = j
                registers = [ir.Constant(I8, r) for r in (i + j - lo, one_a, place)]
                call(b, "llvm.x86.tdpbssd", VOID, *registers)

    return instruction(load, 1), instruction(step, 2), instruction(store, 1)


_load_02, _step_02, _store_02 = diagonals(0, 2)
_load_25, _step_25, _store_25 = diagonals(2, 5)
_load_58, _step_58, _store_58 = diagonals(5, 8)
_load_04, _step_04, _store_04 = diagonals(1, 4)
_load_01, _step_01, _store_01 = diagonals(0, 1)


@njit(cache=True, nogil=True)
def wide_products(
    shapes: NDArray[np.uint8],
    left: NDArray[np.int8],
    right: NDArray[np.int8],
    out: NDArray[np.int64],
) -> None:
    """Add left · right to out (16 a right group, 16 a row tile), modulo 2^64."""
    _begin_tiles(shapes.ctypes.data)
    size = 8 * TILE_BYTES
    deep, groups = left.shape[1], right.shape[0]
    memory = np.empty((groups + 1) * 8 * 256, np.int32)
    base = (memory.ctypes.data + 63) // 64 * 64
    sums = memory[(base - memory.ctypes.data) // 4 :]
    for lo in range(0, deep, _DEPTH):
        hi = min(deep, lo + _DEPTH)
        for t in range(left.shape[0]):
            a = left.ctypes.data + t * deep * size
            sums[:] = 0
            for near in range(lo, hi, _NEAR):
                end = min(hi, near + _NEAR)
                for g in range(groups):
                    x = right.ctypes.data + g * deep * size
                    place = base + g * size
                    _load_02(place)
                    for k in range(near, end):
                        _step_02(a + k * size, x + k * size)
                    _store_02(place)
                    _load_25(place)
                    for k in range(near, end):
                        _step_25(a + k * size, x + k * size)
                    _store_25(place)
                    _load_58(place)
                    for k in range(near, end):
                        _step_58(a + k * size, x + k * size)
                    _store_58(place)
            for g in range(groups):
                columns = out[g * ROWS : (g + 1) * ROWS, t * ROWS : (t + 1) * ROWS]
                _take_out(sums[g * 8 * 256 :], 8, columns)
    _end_tiles()


@njit(cache=True, nogil=True)
def narrow_products(
    shapes: NDArray[np.uint8],
    left: NDArray[np.int8],
    right: NDArray[np.int8],
    out: NDArray[np.int64],
) -> None:
    """The same modulo 2^32."""
    _begin_tiles(shapes.ctypes.data)
    size = 4 * TILE_BYTES
    deep, groups = left.shape[1], right.shape[0]
    memory = np.empty((groups + 1) * 4 * 256, np.int32)
    base = (memory.ctypes.data + 63) // 64 * 64
    sums = memory[(base - memory.ctypes.data) // 4 :]
    for lo in range(0, deep, _DEPTH):
        hi = min(deep, lo + _DEPTH)
        for t in range(left.shape[0]):
            a = left.ctypes.data + t * deep * size
            sums[:] = 0
            for near in range(lo, hi, _NEAR):
                end = min(hi, near + _NEAR)
                for g in range(groups):
                    x = right.ctypes.data + g * deep * size
                    place = base + g * size
                    _load_01(place)
                    for k in range(near, end):
                        _step_01(a + k * size, x + k * size)
                    _store_01(place)
                    _load_04(place)
                    for k in range(near, end):
                        _step_04(a + k * size, x + k * size)
                    _store_04(place)
            for g in range(groups):
                columns = out[g * ROWS : (g + 1) * ROWS, t * ROWS : (t + 1) * ROWS]
                _take_out(sums[g * 4 * 256 :], 4, columns)
    _end_tiles()


@njit(cache=True, nogil=True)
def _take_out(sums: NDArray[np.int32], digits: int, out: NDArray[np.int64]) -> None:
    """Add Σ_s 256^s · sum_s, where a sum is (16 matrix rows, 16 rows of x)."""
    value = np.zeros(256, np.int64)
    for s in range(digits):
        for e in range(256):
            value[e] += np.int64(sums[256 * s + e]) << np.int64(8 * s)
    for c in range(ROWS):
        for r in range(ROWS):
            out[c, r] += value[16 * r + c]
