"""Arithmetic modulo the Mersenne prime p = 2^61 − 1, on int64 tensors of residues 0 … p − 1.

A product of two residues w < 2^122 is folded: w = ⌊w / 2^61⌋·2^61 + (w mod 2^61), and 2^61 = 1. Sums of
products are kept in 128 bits and folded after 32 of them. Tensors without data (torch's `meta` device)
give tensors without data of the right shape.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import njit, types, vectorize
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray
from torch import Tensor

from protocols.arith import ring
from protocols.arith.prg import Stream

P = (1 << 61) - 1
_P = np.int64(P)
_LAZY = 32  # products below 2^122 whose sum is below 2^127
_CHUNK = 64  # elements whose powers are taken side by side
_I64, _I128 = ir.IntType(64), ir.IntType(128)
_HALF_BITS = 30

Words = NDArray[np.int64]


def _widened(b: ir.IRBuilder, word: ir.Value) -> ir.Value:
    return b.zext(word, _I128)


def _fold(b: ir.IRBuilder, wide: ir.Value) -> ir.Value:
    """An i128 below 2^122 → its residue."""
    low = b.and_(b.trunc(wide, _I64), ir.Constant(_I64, P))
    high = b.trunc(b.lshr(wide, ir.Constant(_I128, 61)), _I64)
    total = b.add(low, high)
    less = b.sub(total, ir.Constant(_I64, P))
    return b.select(b.icmp_signed("<", less, ir.Constant(_I64, 0)), total, less)


def _product_code(typingctx: Any, a: Any, b: Any) -> Any:
    """a·b of two residues."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: list[ir.Value]) -> Any:
        return _fold(builder, builder.mul(*(_widened(builder, arg) for arg in args)))

    return types.int64(types.int64, types.int64), codegen


_product: Any = intrinsic(_product_code)


def _accumulate_code(typingctx: Any, high: Any, low: Any, a: Any, b: Any) -> Any:
    """(high, low) + a·b in 128 bits."""
    pair = types.UniTuple(types.int64, 2)  # type: ignore[no-untyped-call]

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: list[ir.Value]) -> Any:
        upper, lower, x, y = (_widened(builder, arg) for arg in args)
        total = builder.or_(builder.shl(upper, ir.Constant(_I128, 64)), lower)
        total = builder.add(total, builder.mul(x, y))
        halves = builder.lshr(total, ir.Constant(_I128, 64)), total
        words = [builder.trunc(half, _I64) for half in halves]
        return cgutils.pack_array(builder, words)  # type: ignore[no-untyped-call]

    return pair(types.int64, types.int64, types.int64, types.int64), codegen


_accumulate: Any = intrinsic(_accumulate_code)


def _residue_code(typingctx: Any, high: Any, low: Any) -> Any:
    """(high, low) below 2^127 → its residue."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: list[ir.Value]) -> Any:
        upper, lower = (_widened(builder, arg) for arg in args)
        total = builder.or_(builder.shl(upper, ir.Constant(_I128, 64)), lower)
        prime = ir.Constant(_I128, P)
        once = builder.add(builder.and_(total, prime), builder.lshr(total, ir.Constant(_I128, 61)))
        return _fold(builder, once)

    return types.int64(types.int64, types.int64), codegen


_residue: Any = intrinsic(_residue_code)
_elementwise: Any = vectorize(["int64(int64, int64)"], cache=True)  # type: ignore[no-untyped-call]


@_elementwise  # type: ignore[untyped-decorator]
def _times(a: Any, b: Any) -> Any:
    return _product(a, b)


@_elementwise  # type: ignore[untyped-decorator]
def _plus(a: Any, b: Any) -> Any:
    less = a + b - _P
    return less + (_P & (less >> 63))


@_elementwise  # type: ignore[untyped-decorator]
def _minus(a: Any, b: Any) -> Any:
    less = a - b
    return less + (_P & (less >> 63))


def _apply(function: Any, a: Tensor, b: Tensor | int) -> Tensor:
    other = b if isinstance(b, Tensor) else torch.tensor(b % P)
    if a.is_meta or other.is_meta:
        shape = np.broadcast_shapes(a.shape, other.shape)
        return torch.empty(shape, dtype=torch.int64, device="meta")
    return torch.from_numpy(np.asarray(function(a.numpy(), other.numpy())))


def add(a: Tensor, b: Tensor | int) -> Tensor:
    """a + b, with broadcasting."""
    return _apply(_plus, a, b)


def sub(a: Tensor, b: Tensor | int) -> Tensor:
    """a − b, with broadcasting."""
    return _apply(_minus, a, b)


def mul(a: Tensor, b: Tensor | int) -> Tensor:
    """a·b, with broadcasting."""
    return _apply(_times, a, b)


def neg(a: Tensor) -> Tensor:
    """−a."""
    return sub(torch.zeros_like(a), a)


def total(x: Tensor, dim: int, keepdim: bool = False) -> Tensor:
    """Σ x over one dimension of at most 2^31 entries."""
    high = (x >> _HALF_BITS).sum(dim, keepdim=keepdim)  # below 2^31 each
    low = (x & ((1 << _HALF_BITS) - 1)).sum(dim, keepdim=keepdim)
    return add(mul(high, 1 << _HALF_BITS), low)


def concatenate(parts: Sequence[Tensor], dim: int = 0) -> Tensor:
    """`torch.cat`, which is slow on tensors without data."""
    if not parts[0].is_meta:
        return torch.cat(list(parts), dim)
    shape = list(parts[0].shape)
    shape[dim] = sum(part.shape[dim] for part in parts)
    return torch.empty(shape, dtype=torch.int64, device="meta")


def from_signed(x: Tensor) -> Tensor:
    """Integers, |x| < p/2 → residues."""
    return torch.where(x < 0, x + P, x)


def to_signed(x: Tensor) -> Tensor:
    """Residues → the integers of least magnitude."""
    return torch.where(x > P // 2, x - P, x)


def uniform(stream: Stream, *shape: int) -> Tensor:
    """Residues of `shape`, within 2^-61 of uniform: 61 bits, of which all ones is 0."""
    drawn = stream.int64(*shape).bitwise_and_(P)
    return drawn.masked_fill_(drawn == P, 0)


@njit(cache=True, nogil=True)
def _four(w: Words, x: Words, y: Words, i: int) -> None:
    """y[:, i … i + 3]: four rows of w times all rows of x."""
    w0, w1, w2, w3 = w[i], w[i + 1], w[i + 2], w[i + 3]
    for c in range(x.shape[0]):
        s0 = s1 = s2 = s3 = np.int64(0)
        for lo in range(0, x.shape[1], _LAZY):
            h0 = h1 = h2 = h3 = np.int64(0)
            for j in range(lo, min(lo + _LAZY, x.shape[1])):
                v = x[c, j]
                h0, s0 = _accumulate(h0, s0, w0[j], v)
                h1, s1 = _accumulate(h1, s1, w1[j], v)
                h2, s2 = _accumulate(h2, s2, w2[j], v)
                h3, s3 = _accumulate(h3, s3, w3[j], v)
            s0, s1 = _residue(h0, s0), _residue(h1, s1)
            s2, s3 = _residue(h2, s2), _residue(h3, s3)
        y[c, i], y[c, i + 1], y[c, i + 2], y[c, i + 3] = s0, s1, s2, s3


@njit(cache=True, nogil=True)
def _rows(w: Words, x: Words, y: Words, first: int, last: int) -> None:
    """y[:, first … last − 1] = x·wᵀ."""
    i = first
    while i + 4 <= last:
        _four(w, x, y, i)
        i += 4
    while i < last:
        for c in range(x.shape[0]):
            s = np.int64(0)
            for lo in range(0, x.shape[1], _LAZY):
                h = np.int64(0)
                for j in range(lo, min(lo + _LAZY, x.shape[1])):
                    h, s = _accumulate(h, s, w[i, j], x[c, j])
                s = _residue(h, s)
            y[c, i] = s
        i += 1


@njit(cache=True, nogil=True)
def _batched(w: Words, x: Words, y: Words) -> None:
    for b in range(w.shape[0]):
        _rows(w[b], x[b], y[b], 0, y.shape[2])


@njit(cache=True, nogil=True)
def _mixed(w: Words, x: Words, y: Words) -> None:
    """y += x·w, row by row of w."""
    for i in range(w.shape[0]):
        for c in range(x.shape[0]):
            factor = x[c, i]
            for j in range(w.shape[1]):
                less = y[c, j] + _product(factor, w[i, j]) - _P
                y[c, j] = less + (_P & (less >> 63))


def linear(weight: Tensor, x: Tensor) -> Tensor:
    """x·Wᵀ: W (m, k), x (n, k) → (n, m)."""
    shape = (x.shape[0], weight.shape[0])
    if x.is_meta or weight.is_meta:
        return torch.empty(shape, dtype=torch.int64, device="meta")
    y = torch.empty(shape, dtype=torch.int64)
    left, right, out = weight.contiguous().numpy(), x.contiguous().numpy(), y.numpy()
    ring.in_parallel(shape[1], lambda lo, hi: _rows(left, right, out, lo, hi))
    return y


def matmul_t(x: Tensor, w: Tensor) -> Tensor:
    """x·wᵀ a head: x (h, n, k), w (h, m, k) → (h, n, m)."""
    shape = (*x.shape[:2], w.shape[1])
    if x.is_meta or w.is_meta:
        return torch.empty(shape, dtype=torch.int64, device="meta")
    y = torch.empty(shape, dtype=torch.int64)
    _batched(w.contiguous().numpy(), x.contiguous().numpy(), y.numpy())
    return y


def matmul(x: Tensor, w: Tensor) -> Tensor:
    """x·w: x (n, m), w (m, k) → (n, k)."""
    shape = (x.shape[0], w.shape[1])
    if x.is_meta or w.is_meta:
        return torch.empty(shape, dtype=torch.int64, device="meta")
    y = torch.zeros(shape, dtype=torch.int64)
    _mixed(w.contiguous().numpy(), x.contiguous().numpy(), y.numpy())
    return y


@njit(cache=True, nogil=True)
def _combined(matrix: Words, x: Words, y: Words) -> None:
    for r in range(matrix.shape[0]):
        for i in range(x.shape[1]):
            s = np.int64(0)
            for lo in range(0, matrix.shape[1], _LAZY):
                h = np.int64(0)
                for j in range(lo, min(lo + _LAZY, matrix.shape[1])):
                    h, s = _accumulate(h, s, matrix[r, j], x[j, i])
                s = _residue(h, s)
            y[r, i] = s


def combine(matrix: Words, x: Tensor) -> Tensor:
    """matrix·x for a small public matrix (r, n) of residues: x (n, count) → (r, count)."""
    y = torch.empty(matrix.shape[0], x.shape[1], dtype=torch.int64)
    _combined(matrix, x.contiguous().numpy(), y.numpy())
    return y


@njit(cache=True, nogil=True)
def _squared(t: Words, times: int) -> None:
    for _ in range(times):
        for j in range(t.shape[0]):
            t[j] = _product(t[j], t[j])


@njit(cache=True, nogil=True)
def _inverse_roots(u: Words, out: Words) -> None:
    """u^(2^59 − 1), by powers e_k = u^(2^k − 1): e_(a+b) = e_a^(2^b)·e_b."""
    kept = np.empty((6, _CHUNK), np.int64)  # e_1, e_2, e_4, … e_32
    t = np.empty(_CHUNK, np.int64)
    for lo in range(0, u.shape[0], _CHUNK):
        size = min(_CHUNK, u.shape[0] - lo)
        for j in range(size):
            kept[0, j] = t[j] = u[lo + j]
        for k in range(1, 6):
            _squared(t[:size], 1 << (k - 1))
            for j in range(size):
                kept[k, j] = t[j] = _product(t[j], kept[k - 1, j])
        for k in (4, 3, 1, 0):  # 59 = 32 + 16 + 8 + 2 + 1
            _squared(t[:size], 1 << k)
            for j in range(size):
                t[j] = _product(t[j], kept[k, j])
        for j in range(size):
            out[lo + j] = t[j]


def inverse_root(squares: Tensor) -> Tensor:
    """1/r for one of the two roots r of each square: u^((p − 3)/4), since (p + 1)/4 roots it. Flat; 0
    gives 0."""
    out = torch.empty_like(squares)
    _inverse_roots(squares.contiguous().numpy(), out.numpy())
    return out


def lagrange(points: Sequence[int], at: Sequence[int]) -> Words:
    """Matrix (len(at), len(points)): values of a polynomial of degree below len(points) from those at
    `points`."""
    rows = []
    for x in at:
        row = []
        for i in points:
            top = bottom = 1
            for j in points:
                if j != i:
                    top, bottom = top * (x - j) % P, bottom * (i - j) % P
            row.append(top * pow(bottom, -1, P) % P)
        rows.append(row)
    return np.array(rows, np.int64).reshape(len(at), len(points))


def vandermonde(rows: int, points: Sequence[int]) -> Words:
    """Matrix (rows, len(points)) of powers 0 … rows − 1: any `rows` of its columns are independent."""
    return np.array([[pow(x, r, P) for x in points] for r in range(rows)], np.int64)
