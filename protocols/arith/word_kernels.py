"""Products of the same tiles word by word (AVX-512 IFMA), of matrices in memory or drawn on the way.

For words w = a + 2^52·b and x = c + 2^52·d, a and c below 2^52,

    w·x = lo(a·c) + 2^52·(hi(a·c) + a·d + b·c)        mod 2^64

lo: the low 52 bits; hi: the rest. One instruction adds eight lo's, or hi's, of the words themselves to
64-bit sums. The last two products matter modulo 2^12: those of 16 words are one instruction more, on
pairs of 12 bits in 16.

Words in that form stand in strips: 16 columns of one row, two vectors of words and one of pairs. Four
matrix rows of a few column tiles are put together from their digits in the L1 cache, for all rows of x.
Bytes without a sign are digits plus 128, so their word is w + H; H·Σx is taken off at the end. Putting
bytes together leaves columns in an order of its own, in which x's stand too.

While a block is multiplied the next is fetched, or drawn: AES beside multiplications.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit
from numpy.typing import NDArray

from protocols.arith.keystream import BLOCK_BYTES, PIECE_BYTES, draw_piece, piece
from protocols.arith.native import I64, VOID, at, call, instruction, loop
from protocols.arith.tile_kernels import COLUMNS, ROWS, TILE_BYTES, aligned

_LEFT, _RIGHT = 4, 2  # rows of the matrix and of x at a time: 24 sums in 32 registers
_VECTOR_BYTES = 64
_STRIP_BYTES = 3 * _VECTOR_BYTES
_STRIPS = 4  # of a row of a column tile
_NEAR = 8  # column tiles a block: a 32-bit sum holds 2·(2^12 − 1)^2 of each strip of 16
_DEPTH = 32  # column tiles after which the sums are taken out: their x stays in the L2 cache
_BESIDE = 2  # vectors that are fetched or drawn beside a strip
_H = np.int64(0x8080808080808080 - (1 << 64))
_LOW = 0xFFF

_WORDS = ir.VectorType(I64, 8)
_HALVES = ir.VectorType(ir.IntType(16), 32)  # of pairs
_PAIRS = ir.VectorType(ir.IntType(32), 16)


class Right(NamedTuple):
    """x (n, k) as right factor."""

    strips: NDArray[np.int64]  # (pairs of rows, column tiles, 4, 2, 24)
    totals: NDArray[np.int64]  # (n, 1), Σx
    digits: int


def _all(vector: ir.VectorType, value: int) -> ir.Constant:
    return ir.Constant(vector, [value] * vector.count)


def _load(b: ir.IRBuilder, address: ir.Value, offset: int) -> ir.Value:
    return b.load(b.bitcast(at(b, address, offset), _WORDS.as_pointer()), align=1)


def _store(b: ir.IRBuilder, vector: ir.Value, address: ir.Value, offset: int) -> None:
    b.store(vector, b.bitcast(at(b, address, offset), vector.type.as_pointer()), align=1)


def _zip(b: ir.IRBuilder, low: ir.Value, high: ir.Value, bits: int, half: int) -> ir.Value:
    """Numbers of `bits` bits, of `low` and `high` in turns: those in one half of each 128 bits."""
    count, lane = 512 // bits, 128 // bits
    vector = ir.VectorType(ir.IntType(bits), count)
    first = [lo + half * lane // 2 for lo in range(0, count, lane)]
    order = [i for lo in first for e in range(lane // 2) for i in (lo + e, count + lo + e)]
    mask = ir.Constant(ir.VectorType(ir.IntType(32), count), order)
    return b.shuffle_vector(b.bitcast(low, vector), b.bitcast(high, vector), mask)


def _put_together(digits: int) -> Any:
    """Instruction (a, out): write strips out, out + _LEFT·_STRIP_BYTES, … of the row whose digits stand
    at a, a + TILE_BYTES, …"""

    def emit(b: ir.IRBuilder, args: list[ir.Value]) -> None:
        a, out = args
        offsets = _all(_WORDS, int(_H))  # 128 more a digit
        parts = [b.xor(_load(b, a, TILE_BYTES * i), offsets) for i in range(digits)]
        parts += [_all(_WORDS, 0)] * (8 - digits)
        for half in (0, 1):
            twos = [_zip(b, parts[i], parts[i + 1], 8, half) for i in (0, 2, 4, 6)]
            low = b.and_(b.bitcast(twos[0], _HALVES), _all(_HALVES, _LOW))
            high = b.lshr(b.bitcast(twos[3], _HALVES), _all(_HALVES, 4))
            for quarter in (0, 1):
                place = (2 * half + quarter) * _LEFT * _STRIP_BYTES
                lower = _zip(b, twos[0], twos[1], 16, quarter)
                upper = _zip(b, twos[2], twos[3], 16, quarter)
                for v in (0, 1):
                    _store(b, _zip(b, lower, upper, 32, v), out, place + _VECTOR_BYTES * v)
                _store(b, _zip(b, low, high, 16, quarter), out, place + 2 * _VECTOR_BYTES)

    return instruction(emit, 2)


def _multiply(
    b: ir.IRBuilder, w: ir.Value, x: ir.Value, sums: list[ir.Value], beside: Iterator[None]
) -> list[ir.Value]:
    """Emit the products of a strip of each of _LEFT rows at w and _RIGHT rows at x. Sums, for each pair
    of rows: of lo's, of hi's, and of the two products of 12 bits."""
    sums = list(sums)
    for v in range(3):
        factors = [_load(b, x, _STRIP_BYTES * c + _VECTOR_BYTES * v) for c in range(_RIGHT)]
        for r in range(_LEFT):
            left = _load(b, w, _STRIP_BYTES * r + _VECTOR_BYTES * v)
            for c, right in enumerate(factors):
                i = 3 * (_RIGHT * r + c)
                if v < 2:
                    lo, hi = (f"llvm.x86.avx512.vpmadd52{part}.uq.512" for part in "lh")
                    sums[i] = call(b, lo, _WORDS, sums[i], left, right)
                    sums[i + 1] = call(b, hi, _WORDS, sums[i + 1], left, right)
                    continue
                # The saturating one, though nothing saturates: LLVM makes the other two instructions.
                pairs = [b.bitcast(value, _PAIRS) for value in (sums[i + 2], left, right)]
                total = call(b, "llvm.x86.avx512.vpdpwssds.512", _PAIRS, *pairs)
                sums[i + 2] = b.bitcast(total, _WORDS)
            next(beside, None)
    for _ in beside:
        pass
    return sums


Beside = Callable[[ir.IRBuilder, ir.Value, list[ir.Value]], Iterator[None]]


def _products(beside: Beside, count: int) -> Any:
    """Instruction (w, x, n, sums, …): add the products of n strips of _LEFT rows at w and _RIGHT rows at
    x to vectors at `sums`, which each add up to one product; emit beside(b, number of the strip, the
    `count` other arguments) between them."""

    def emit(b: ir.IRBuilder, args: list[ir.Value]) -> None:
        w, x, n, sums = args[:4]

        def strip(i: ir.Value, values: list[ir.Value]) -> list[ir.Value]:
            left = b.add(w, b.mul(i, ir.Constant(I64, _LEFT * _STRIP_BYTES)))
            right = b.add(x, b.mul(i, ir.Constant(I64, _RIGHT * _STRIP_BYTES)))
            return _multiply(b, left, right, values, beside(b, i, args[4:]))

        found = loop(b, n, [_all(_WORDS, 0)] * (3 * _LEFT * _RIGHT), strip)
        for place in range(_LEFT * _RIGHT):
            lo, hi, pairs = found[3 * place : 3 * place + 3]
            pairs = b.add(pairs, b.lshr(pairs, _all(_WORDS, 32)))  # both halves of each 64 bits
            total = b.add(lo, b.shl(b.add(hi, pairs), _all(_WORDS, 52)))
            old = _load(b, sums, _VECTOR_BYTES * place)
            _store(b, b.add(old, total), sums, _VECTOR_BYTES * place)

    return instruction(emit, 4 + count)


def _nothing(b: ir.IRBuilder, i: ir.Value, args: list[ir.Value]) -> Iterator[None]:
    yield from ()


def _fetching(b: ir.IRBuilder, i: ir.Value, args: list[ir.Value]) -> Iterator[None]:
    """Fetch _BESIDE cache lines at args[0] + i·_BESIDE·64 into the L2 cache."""
    place = b.add(args[0], b.mul(i, ir.Constant(I64, _BESIDE * _VECTOR_BYTES)))
    numbers = [ir.Constant(ir.IntType(32), v) for v in (0, 2, 1)]  # for reading, L2, data
    for v in range(_BESIDE):
        call(b, "llvm.prefetch.p0i8", VOID, at(b, place, _VECTOR_BYTES * v), *numbers)
        yield


def _drawing(b: ir.IRBuilder, i: ir.Value, args: list[ir.Value]) -> Iterator[None]:
    """Draw _BESIDE vectors of keystream to args[2] + i·_BESIDE·64: round keys are at args[0], args[1] is
    the block number for i = 0."""
    keys, counter, out = args
    blocks = b.mul(i, ir.Constant(I64, _BESIDE * _VECTOR_BYTES // BLOCK_BYTES))
    place = b.add(out, b.mul(i, ir.Constant(I64, _BESIDE * _VECTOR_BYTES)))
    return piece(b, keys, b.add(counter, blocks), place, _BESIDE)


_put_together_4, _put_together_8 = _put_together(4), _put_together(8)
_multiply_only = _products(_nothing, 0)
_multiply_and_fetch = _products(_fetching, 1)
_multiply_and_draw = _products(_drawing, 3)


@njit(cache=True, nogil=True)
def _draw(keys: int, counter: int, out: int, size: int) -> None:
    """`size` bytes of keystream alone."""
    for start in range(0, size, PIECE_BYTES):
        draw_piece(keys, counter + start // BLOCK_BYTES, out + start)


@njit(cache=True, nogil=True)
def _load_words(tiles: int, digits: int, count: int, words: int) -> None:
    """Strips of _LEFT rows of `count` column tiles, from the rows' place in the first."""
    for b in range(count):
        for r in range(_LEFT):
            a = tiles + b * digits * TILE_BYTES + r * COLUMNS
            out = words + (b * _STRIPS * _LEFT + r) * _STRIP_BYTES
            if digits == 8:
                _put_together_8(a, out)
            else:
                _put_together_4(a, out)


@njit(cache=True, nogil=True)
def _multiply_block(
    tiles: int,
    digits: int,
    count: int,
    words: int,
    x: int,
    deep: int,
    groups: int,
    sums: int,
    keys: int,
    counter: int,
    ahead: int,
    size: int,
) -> None:
    """Add the products of `count` column tiles of a row tile and those at x, each right group `deep`
    column tiles after the other. Meanwhile `size` bytes at `ahead` are fetched, or drawn from block
    `counter` on where there are keys."""
    strips, done = count * _STRIPS, 0
    each = strips * _BESIDE * _VECTOR_BYTES
    for row in range(0, ROWS, _LEFT):
        _load_words(tiles + row * COLUMNS, digits, count, words)
        for g in range(groups):
            right = x + g * deep * _STRIPS * _RIGHT * _STRIP_BYTES
            place = sums + (g * ROWS + row) * _RIGHT * _VECTOR_BYTES
            if done + each > size:
                _multiply_only(words, right, strips, place)
                continue
            if keys:
                start = counter + done // BLOCK_BYTES
                _multiply_and_draw(words, right, strips, place, keys, start, ahead + done)
            else:
                _multiply_and_fetch(words, right, strips, place, ahead + done)
            done += each
    if keys:
        _draw(keys, counter + done // BLOCK_BYTES, ahead + done, size - done)


@njit(cache=True, nogil=True)
def _multiply_tiles(
    left: int, keys: int, block: int, digits: int, strips: NDArray[np.int64], out: NDArray[np.int64]
) -> None:
    """Add the products of tiles at `left`, or where there are keys drawn from block number `block` on,
    to out (two a right group, 16 a row tile)."""
    groups, deep, tall = strips.shape[0], strips.shape[1], out.shape[1] // ROWS
    size = digits * TILE_BYTES
    words = aligned(_NEAR * _STRIPS * _LEFT * _STRIP_BYTES)
    drawn = aligned(2 * _NEAR * size)
    memory = aligned(groups * ROWS * _RIGHT * _VECTOR_BYTES)
    for lo in range(0, deep, _DEPTH):
        hi = min(deep, lo + _DEPTH)
        side = 0  # of `drawn`, for the block under way
        if keys:
            counter = block + lo * size // BLOCK_BYTES
            _draw(keys, counter, drawn.ctypes.data, min(_NEAR, hi - lo) * size)
        for t in range(tall):
            memory[:] = 0
            for k in range(lo, hi, _NEAR):
                count = min(_NEAR, hi - k)
                row, column = (t, k + count) if k + count < hi else (t + 1, lo)  # of the next block
                offset = (row * deep + column) * size
                following = min(_NEAR, hi - column) * size if row < tall else 0
                if keys:
                    here = drawn.ctypes.data + side * _NEAR * size
                    ahead = drawn.ctypes.data + (1 - side) * _NEAR * size
                else:
                    here, ahead = left + (t * deep + k) * size, left + offset
                _multiply_block(
                    here,
                    digits,
                    count,
                    words.ctypes.data,
                    strips.ctypes.data + k * _STRIPS * _RIGHT * _STRIP_BYTES,
                    deep,
                    groups,
                    memory.ctypes.data,
                    keys,
                    block + offset // BLOCK_BYTES,
                    ahead,
                    following,
                )
                side = 1 - side
            _take_out(memory.view(np.int64), out[:, t * ROWS : (t + 1) * ROWS], groups)


@njit(cache=True, nogil=True)
def _take_out(sums: NDArray[np.int64], out: NDArray[np.int64], groups: int) -> None:
    """Add the eight parts of each product to out (rows of x, 16)."""
    vectors = sums.reshape((groups, ROWS, _RIGHT, 8))
    for g in range(groups):
        for r in range(ROWS):
            for c in range(_RIGHT):
                out[_RIGHT * g + c, r] += vectors[g, r, c].sum()


@njit(cache=True, nogil=True)
def _fill(x: NDArray[np.int64], strips: NDArray[np.int64], pairs: NDArray[np.uint32]) -> None:
    """Strips of x (n, whole column tiles), and the same memory in 32 bits. A column's place is what
    `_zip` makes of it; the halves of a pair stand the other way round than on the left."""
    for n in range(x.shape[0]):
        for k in range(x.shape[1]):
            word, lane, c = x[n, k], k % COLUMNS // 16, k % 16
            place = n // _RIGHT, k // COLUMNS, c // 4, n % _RIGHT
            strips[place][c // 2 % 2 * 8 + 2 * lane + c % 2] = word
            pairs[place][32 + 4 * lane + c % 4] = (word >> 52 & _LOW) | (word & _LOW) << 16


def right_factor(x: NDArray[np.int64], digits: int) -> Right:
    """x (n, whole column tiles), to be multiplied with words of so many digits."""
    shape = -(-x.shape[0] // _RIGHT), x.shape[1] // COLUMNS, _STRIPS, _RIGHT, _STRIP_BYTES // 8
    strips = aligned(int(np.prod(shape)) * 8).view(np.int64).reshape(shape)
    strips[-1] = 0  # where n is odd
    _fill(x, strips, strips.view(np.uint32))
    return Right(strips, x.sum(1, keepdims=True), digits)


def stored_products(left: NDArray[np.int8], right: Right, out: NDArray[np.int64]) -> None:
    """Add left · right to out (n or more, 16 a row tile), modulo 2^(8·digits)."""
    _multiply_tiles(left.ctypes.data, 0, 0, right.digits, right.strips, out)
    out[: len(right.totals)] -= _excess(right)


def drawn_products(
    round_keys: NDArray[np.uint8], block: int, right: Right, out: NDArray[np.int64]
) -> None:
    """The same for a left factor whose tiles are a keystream, from block number `block` on."""
    _multiply_tiles(0, round_keys.ctypes.data, block, right.digits, right.strips, out)
    out[: len(right.totals)] -= _excess(right)


def _excess(right: Right) -> NDArray[np.int64]:
    """H·Σx, (n, 1)."""
    raised: NDArray[np.int64] = right.totals * _H
    return raised
