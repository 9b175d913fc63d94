"""Products of 8-bit tiles on the processor's tile unit (AMX), of matrices in memory or drawn on the way.

The unit has eight registers of 16 rows by 64 bytes. One instruction adds, for registers A and B,
Σ_k A[r, k]·B[k, c] over 64 signed bytes to 16 × 16 counters of 32 bits, without saturation; B[k, c]
stands at row k // 4, byte 4·c + k mod 4. `tiles` says how words become such tiles.

A uniform matrix is drawn `_NEAR` column tiles ahead, in the L1 cache, by AES instructions that stand
between those of the tile unit: neither waits for the other.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit
from numpy.typing import NDArray

from protocols.arith.keystream import BLOCK_BYTES, PIECE_BYTES, PIECE_ROUNDS, draw_piece, piece
from protocols.arith.native import I8, I64, VOID, at, call, instruction, interleave

ROWS, COLUMNS = 16, 64
TILE_BYTES = ROWS * COLUMNS
_DEPTH = 64  # column tiles (4096 columns) after which the sums are taken out
_NEAR = 2  # column tiles that stay in the L1 cache
_LOW, _HIGH = (
    (0, 4),
    (4, 8),
)  # sums that are under way at a time: words of four digits have the first
_PIECES = 4  # of keystream beside the products of one column tile, low or high
_DRAWN = _PIECES * PIECE_BYTES
_LINE = 64  # bytes of a cache line
_AHEAD = 2 * _NEAR  # column tiles between what is multiplied and what is fetched

_HALVES, BYTE = np.uint64(0x8080808080808080), np.uint64(0xFF)

# What `begin_tiles` loads: palette 1, every register with 16 rows of 64 bytes.
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


begin_tiles = instruction(_begin, 1)
end_tiles = instruction(_end, 0)


def _products(b: ir.IRBuilder, a: ir.Value, x: ir.Value, lo: int, hi: int) -> Iterator[None]:
    """Emit, one by one, the products A_i·B_j with lo ≤ i + j < hi of tiles A_0, A_1, … at a and B_0, …
    at x. Registers: four sums, one A, and the B's that the next A's need too."""
    one_a, places = 4, (5, 6, 7)
    loaded: dict[int, int] = {}  # which B stands in which register
    for i in range(hi):
        _load(b, one_a, a, TILE_BYTES * i)
        for j in range(hi - i - 1, max(0, lo - i) - 1, -1):
            place = places[j % len(places)]
            if loaded.get(place) != j:
                _load(b, place, x, TILE_BYTES * j)
                loaded[place] = j
            registers = [ir.Constant(I8, r) for r in (i + j - lo, one_a, place)]
            call(b, "llvm.x86.tdpbssd", VOID, *registers)
            yield


def _pieces(b: ir.IRBuilder, keys: ir.Value, counter: ir.Value, out: ir.Value) -> Iterator[None]:
    """Emit _PIECES of keystream, round by round."""
    for start in range(0, _DRAWN, PIECE_BYTES):
        number = b.add(counter, ir.Constant(I64, start // BLOCK_BYTES))
        yield from piece(b, keys, number, b.add(out, ir.Constant(I64, start)))


def _lines(b: ir.IRBuilder, address: ir.Value) -> Iterator[None]:
    """Emit, line by line, what fetches _DRAWN bytes into the L2 cache, if there is such memory."""
    numbers = [ir.Constant(ir.IntType(32), v) for v in (0, 2, 1)]  # for reading, L2, data
    for start in range(0, _DRAWN, _LINE):
        call(b, "llvm.prefetch.p0i8", VOID, at(b, address, start), *numbers)
        yield


def diagonals(lo: int, hi: int) -> tuple[Any, Any, Any, Any, Any]:
    """Instructions for the four sums s = lo … hi−1 of products A_i·B_j with i + j = s.

    load(p), store(p): the sums' registers from and to tiles lo … hi−1 at p. step(a, x): add the
    products of tiles A_0, A_1, … at a and B_0, B_1, … at x. draw(a, x, keys, counter, out): the same,
    and _PIECES of the keystream from block number `counter` on to `out`. fetch(a, x, p): the same, and
    _DRAWN bytes at p are on their way into the L2 cache.
    """
    count = sum(lo <= i + j < hi for i in range(hi) for j in range(hi))

    def load(b: ir.IRBuilder, args: list[ir.Value]) -> None:
        for s in range(lo, hi):
            _load(b, s - lo, args[0], TILE_BYTES * s)

    def store(b: ir.IRBuilder, args: list[ir.Value]) -> None:
        for s in range(lo, hi):
            place, stride = at(b, args[0], TILE_BYTES * s), ir.Constant(I64, 64)
            call(b, "llvm.x86.tilestored64", VOID, ir.Constant(I8, s - lo), place, stride)

    def step(b: ir.IRBuilder, args: list[ir.Value]) -> None:
        for _ in _products(b, args[0], args[1], lo, hi):
            pass

    def draw(b: ir.IRBuilder, args: list[ir.Value]) -> None:
        products = _products(b, args[0], args[1], lo, hi)
        interleave(products, _pieces(b, *args[2:]), _PIECES * PIECE_ROUNDS / count)

    def fetch(b: ir.IRBuilder, args: list[ir.Value]) -> None:
        products = _products(b, args[0], args[1], lo, hi)
        interleave(products, _lines(b, args[2]), _DRAWN / _LINE / count)

    emitted = (load, 1), (store, 1), (step, 2), (draw, 5), (fetch, 3)
    made = [instruction(emit, arguments) for emit, arguments in emitted]
    return made[0], made[1], made[2], made[3], made[4]


_load_low, _store_low, _step_low, _draw_low, _fetch_low = diagonals(*_LOW)
_load_high, _store_high, _step_high, _draw_high, _fetch_high = diagonals(*_HIGH)


@njit(cache=True, nogil=True)
def _multiply(a: int, x: int, sums: int, size: int, count: int) -> None:
    """Add the products of `count` column tiles of `size` bytes at a and x to the sums."""
    _load_low(sums)
    for near in range(0, count * size, size):
        _step_low(a + near, x + near)
    _store_low(sums)
    if size == 8 * TILE_BYTES:
        _load_high(sums)
        for near in range(0, count * size, size):
            _step_high(a + near, x + near)
        _store_high(sums)


@njit(cache=True, nogil=True)
def _multiply_and_draw(
    a: int, x: int, sums: int, size: int, keys: int, counter: int, out: int
) -> None:
    """The same for _NEAR column tiles, while half as many bytes of keystream are drawn."""
    _load_low(sums)
    for i in range(_NEAR):
        start = i * size // 2
        _draw_low(a + i * size, x + i * size, keys, counter + start // BLOCK_BYTES, out + start)
    _store_low(sums)
    if size == 8 * TILE_BYTES:
        _load_high(sums)
        for i in range(_NEAR):
            start = i * size // 2 + _DRAWN
            _draw_high(
                a + i * size, x + i * size, keys, counter + start // BLOCK_BYTES, out + start
            )
        _store_high(sums)


@njit(cache=True, nogil=True)
def _multiply_and_fetch(a: int, x: int, sums: int, size: int, count: int, ahead: int) -> None:
    """`_multiply`, while half of the `count` column tiles at `ahead` are fetched."""
    _load_low(sums)
    for i in range(count):
        _fetch_low(a + i * size, x + i * size, ahead + i * size // 2)
    _store_low(sums)
    if size == 8 * TILE_BYTES:
        _load_high(sums)
        for i in range(count):
            _fetch_high(a + i * size, x + i * size, ahead + i * size // 2 + _DRAWN)
        _store_high(sums)


@njit(cache=True, nogil=True)
def _draw(keys: int, counter: int, out: int, size: int) -> None:
    """`size` bytes of keystream alone."""
    for start in range(0, size, PIECE_BYTES):
        draw_piece(keys, counter + start // BLOCK_BYTES, out + start)


@njit(cache=True, nogil=True)
def aligned(size: int) -> NDArray[np.uint8]:
    """Memory that begins with a cache line."""
    memory = np.empty(size + 64, np.uint8)
    first = -memory.ctypes.data % 64
    return memory[first : first + size]


@njit(cache=True, nogil=True)
def _stored_products(
    shapes: NDArray[np.uint8],
    left: NDArray[np.int8],
    right: NDArray[np.int8],
    out: NDArray[np.int64],
) -> None:
    """See below. With each of the first two groups half of later column tiles is fetched."""
    begin_tiles(shapes.ctypes.data)
    groups, deep, digits = right.shape[0], right.shape[1], right.shape[2]
    size = digits * TILE_BYTES
    memory = aligned(groups * size)
    for lo in range(0, deep, _DEPTH):
        hi = min(deep, lo + _DEPTH)
        for t in range(left.shape[0]):
            memory[:] = 0
            for k in range(lo, hi, _NEAR):
                a = left.ctypes.data + (t * deep + k) * size
                ahead = a + _AHEAD * size
                if k + _AHEAD >= hi:  # of the next row tile
                    ahead += (deep - (hi - lo)) * size
                for g in range(groups):
                    x = right.ctypes.data + (g * deep + k) * size
                    sums, count = memory.ctypes.data + g * size, min(_NEAR, hi - k)
                    if g < 2:
                        half = ahead + g * count * size // 2
                        _multiply_and_fetch(a, x, sums, size, count, half)
                    else:
                        _multiply(a, x, sums, size, count)
            _take_out(memory.view(np.int32), digits, out[:, t * ROWS : (t + 1) * ROWS])
    end_tiles()


@njit(cache=True, nogil=True)
def _drawn_products(
    shapes: NDArray[np.uint8],
    round_keys: NDArray[np.uint8],
    block: int,
    right: NDArray[np.int8],
    out: NDArray[np.int64],
) -> None:
    """See below. Each of the first two groups draws half of the next column tiles."""
    begin_tiles(shapes.ctypes.data)
    groups, deep, digits = right.shape[0], right.shape[1], right.shape[2]
    size, keys = digits * TILE_BYTES, round_keys.ctypes.data
    half = _NEAR * size // 2
    memory, drawn = aligned(groups * size), aligned(2 * _NEAR * size)
    here, ahead = drawn.ctypes.data, drawn.ctypes.data + _NEAR * size
    for lo in range(0, deep, _DEPTH):
        hi = min(deep, lo + _DEPTH)
        for t in range(out.shape[1] // ROWS):
            memory[:] = 0
            counter = block + (t * deep + lo) * size // BLOCK_BYTES
            _draw(keys, counter, here, min(_NEAR, hi - lo) * size)
            for k in range(lo, hi, _NEAR):
                count = min(_NEAR, hi - k)
                left = min(_NEAR, hi - k - count) * size  # bytes to draw
                counter += count * size // BLOCK_BYTES
                for g in range(groups):
                    x = right.ctypes.data + (g * deep + k) * size
                    sums = memory.ctypes.data + g * size
                    if left < 2 * half or g > 1:
                        _multiply(here, x, sums, size, count)
                        continue
                    start = g * half
                    number = counter + start // BLOCK_BYTES
                    _multiply_and_draw(here, x, sums, size, keys, number, ahead + start)
                done = min(groups, 2) * half if left == 2 * half else 0
                _draw(keys, counter + done // BLOCK_BYTES, ahead + done, left - done)
                here, ahead = ahead, here
            _take_out(memory.view(np.int32), digits, out[:, t * ROWS : (t + 1) * ROWS])
    end_tiles()
    drawn[:] = 0  # numba frees an array after its last use, an address of it is none


@njit(cache=True, nogil=True)
def _take_out(sums: NDArray[np.int32], digits: int, out: NDArray[np.int64]) -> None:
    """Add Σ_s 256^s · sum_s to out (rows of x, 16), where a sum is (16 matrix rows, 16 rows of x)."""
    value = np.zeros(256, np.int64)
    for g in range(out.shape[0] // ROWS):
        value[:] = 0
        for s in range(digits):
            part = sums[(g * digits + s) * 256 : (g * digits + s + 1) * 256]
            for e in range(256):
                value[e] += np.int64(part[e]) << np.int64(8 * s)
        for c in range(ROWS):
            for r in range(ROWS):
                out[g * ROWS + c, r] += value[16 * r + c]


@njit(cache=True, nogil=True, inline="always")
def raised(word: int) -> np.uint64:
    """Adding 128 to every digit makes them all non-negative: bytes that do not depend on others."""
    return np.uint64(word) + _HALVES


@njit(cache=True, nogil=True)
def _pack_right(x: NDArray[np.int64], out: NDArray[np.uint32]) -> None:
    """x (n, whole column tiles) as right factors out[g, b, j, k // 4, column] (see above): digit
    j of four neighbours in a row of x is one number."""
    for g in range(out.shape[0]):
        rows = x[g * ROWS : (g + 1) * ROWS]
        for b in range(out.shape[1]):
            for quarter in range(COLUMNS // 4):
                k = b * COLUMNS + 4 * quarter
                for c in range(rows.shape[0]):
                    r0, r1 = raised(rows[c, k]), raised(rows[c, k + 1])
                    r2, r3 = raised(rows[c, k + 2]), raised(rows[c, k + 3])
                    for j in range(out.shape[2]):
                        s = np.uint64(8 * j)
                        low = (r0 >> s & BYTE) | (r1 >> s & BYTE) << np.uint64(8)
                        high = (r2 >> s & BYTE) | (r3 >> s & BYTE) << np.uint64(8)
                        four = low | high << np.uint64(16)
                        out[g, b, j, quarter, c] = np.uint32(four ^ np.uint64(0x80808080))


def right_factor(x: NDArray[np.int64], digits: int) -> NDArray[np.int8]:
    """x (n, whole column tiles), to be multiplied with words of so many digits."""
    groups, across = -(-x.shape[0] // ROWS), x.shape[1] // COLUMNS
    right = np.zeros((groups, across, digits, ROWS, ROWS), np.uint32)
    _pack_right(x, right)
    return right.view(np.int8)


def stored_products(
    left: NDArray[np.int8], right: NDArray[np.int8], out: NDArray[np.int64]
) -> None:
    """Add left · right to out (16 a right group, 16 a row tile), modulo 2^(8·digits)."""
    _stored_products(TILE_SHAPES, left, right, out)


def drawn_products(
    round_keys: NDArray[np.uint8], block: int, right: NDArray[np.int8], out: NDArray[np.int64]
) -> None:
    """The same for a left factor whose tiles are a keystream, from block number `block` on."""
    _drawn_products(TILE_SHAPES, round_keys, block, right, out)
