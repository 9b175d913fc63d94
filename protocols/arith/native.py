"""Two instructions that numba does not reach by itself: AES rounds, and products of 8-bit tiles.

Both are built from LLVM's intrinsics and compiled with the code that uses them. Where the processor
lacks them (`HAS_AES`, `HAS_TILES` are false) the callers have another way to the same result.

The tile unit (AMX) has eight registers of 16 rows by 64 bytes. One instruction adds, for registers
A and B, Σ_k A[r, k]·B[k, c] over 64 signed bytes to 16 × 16 counters of 32 bits, without saturation.
B[k, c] stands at row k // 4, byte 4·c + k mod 4.
"""

import ctypes
import platform
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

TILE_BYTES = 1024
_I8, _I64, _VOID = ir.IntType(8), ir.IntType(64), ir.VoidType()
_POINTER = _I8.as_pointer()
_VECTOR = ir.VectorType(_I64, 8)
_LANES = 4  # cipher blocks a vector
_VECTORS = 8  # under way at a time
AES_BYTES = 16 * _LANES * _VECTORS  # what `aes_blocks` writes

# Of arch_prctl on x86-64 Linux: a process asks once for the tile registers.
_SYS_ARCH_PRCTL, _REQUEST, _TILE_DATA = 158, 0x1023, 18


def _features() -> dict[str, bool]:
    if platform.machine() != "x86_64":
        return {}
    return dict(llvm.get_host_cpu_features())


def _has_tiles(features: dict[str, bool]) -> bool:
    if not (features.get("amx-int8") and features.get("avx512f")):
        return False
    asked = (_SYS_ARCH_PRCTL, _REQUEST, _TILE_DATA)
    return int(ctypes.CDLL(None).syscall(*asked)) == 0


_FEATURES = _features()
HAS_AES = bool(_FEATURES.get("vaes") and _FEATURES.get("avx512f"))
HAS_TILES = _has_tiles(_FEATURES)

# What `tiles_begin` loads: palette 1, every register with 16 rows of 64 bytes.
TILE_SHAPES = np.zeros(64, np.uint8)
TILE_SHAPES[0] = 1
TILE_SHAPES[16:32:2] = 64
TILE_SHAPES[48:56] = 16

Emit = Callable[[ir.IRBuilder, list[ir.Value]], None]


def _call(b: ir.IRBuilder, name: str, result: ir.Type, *args: ir.Value) -> ir.Value:
    found = b.module.globals.get(name)
    if found is None:
        found = ir.Function(b.module, ir.FunctionType(result, [a.type for a in args]), name)
    return b.call(found, args)


def _at(b: ir.IRBuilder, address: ir.Value, offset: int) -> ir.Value:
    return b.gep(b.inttoptr(address, _POINTER), [ir.Constant(_I64, offset)])


def _instruction(emit: Emit, count: int) -> Any:
    """A function of `count` addresses or numbers (intp), of no result, that numba code can call."""

    def codegen(context: Any, builder: ir.IRBuilder, _: Any, args: list[ir.Value]) -> Any:
        emit(builder, args)
        return context.get_dummy_value()

    signature = types.void(*[types.intp] * count)
    typed: dict[int, Callable[..., Any]] = {
        0: lambda typingctx: (signature, codegen),
        1: lambda typingctx, a: (signature, codegen),
        2: lambda typingctx, a, b: (signature, codegen),
        3: lambda typingctx, a, b, c: (signature, codegen),
    }
    return intrinsic(typed[count])


def _load(b: ir.IRBuilder, register: int, address: ir.Value, offset: int) -> None:
    place, stride = _at(b, address, offset), ir.Constant(_I64, 64)
    _call(b, "llvm.x86.tileloadd64", _VOID, ir.Constant(_I8, register), place, stride)


def _begin(b: ir.IRBuilder, args: list[ir.Value]) -> None:
    _call(b, "llvm.x86.ldtilecfg", _VOID, _at(b, args[0], 0))


def _end(b: ir.IRBuilder, args: list[ir.Value]) -> None:
    _call(b, "llvm.x86.tilerelease", _VOID)


tiles_begin = _instruction(_begin, 1)
tiles_end = _instruction(_end, 0)


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
            place, stride = _at(b, args[0], TILE_BYTES * (lo + t)), ir.Constant(_I64, 64)
            _call(b, "llvm.x86.tilestored64", _VOID, ir.Constant(_I8, t), place, stride)

    def step(b: ir.IRBuilder, args: list[ir.Value]) -> None:
        loaded: dict[int, int] = {}  # which B stands in which register
        for i in range(hi):
            _load(b, one_a, args[0], TILE_BYTES * i)
            for j in range(max(0, lo - i), hi - i):
                place = places[j % len(places)]  # at most three neighbours are needed at once
                if loaded.get(place) != j:
                    _load(b, place, args[1], TILE_BYTES * j)
                    loaded[place] = j
                registers = [ir.Constant(_I8, r) for r in (i + j - lo, one_a, place)]
                _call(b, "llvm.x86.tdpbssd", _VOID, *registers)

    return _instruction(load, 1), _instruction(step, 2), _instruction(store, 1)


def _vector(values: list[int]) -> ir.Constant:
    return ir.Constant(_VECTOR, values)


def _round_key(b: ir.IRBuilder, keys: ir.Value, index: int) -> ir.Value:
    """One round key in every lane."""
    pair = ir.VectorType(_I64, 2)
    place = b.bitcast(_at(b, keys, 16 * index), pair.as_pointer())
    key = b.load(place, align=8)
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), 8), [0, 1] * _LANES)
    return b.shuffle_vector(key, ir.Constant(pair, ir.Undefined), lanes)


def _aes(b: ir.IRBuilder, args: list[ir.Value]) -> None:
    """Counter mode: block i is AES of i as a big-endian number of 128 bits."""
    keys, counter, out = args
    empty = ir.Constant(_VECTOR, ir.Undefined)
    first = b.insert_element(empty, counter, ir.Constant(ir.IntType(32), 0))
    spread = b.shuffle_vector(first, empty, ir.Constant(ir.VectorType(ir.IntType(32), 8), [0] * 8))
    spread = b.and_(spread, _vector([0, -1] * _LANES))
    texts = []
    for v in range(_VECTORS):
        offsets = [x for lane in range(_LANES) for x in (0, v * _LANES + lane)]
        number = b.add(spread, _vector(offsets))
        texts.append(_call(b, "llvm.bswap.v8i64", _VECTOR, number))
    for index in range(11):
        key = _round_key(b, keys, index)
        if index == 0:
            texts = [b.xor(text, key) for text in texts]
            continue
        name = f"llvm.x86.aesni.aesenc{'last' if index == 10 else ''}.512"
        texts = [_call(b, name, _VECTOR, text, key) for text in texts]
    for v, text in enumerate(texts):
        place = b.bitcast(_at(b, out, 64 * v), _VECTOR.as_pointer())
        b.store(text, place, align=1)


# aes_blocks(round keys, number of the first block, where AES_BYTES go)
aes_blocks = _instruction(_aes, 3)
