"""Instructions that numba does not reach by itself: what this processor has, and how to emit them.

`keystream` and `tile_kernels` build theirs from LLVM's intrinsics, each in the file of the kernel that
uses them: numba keeps compiled kernels as long as their own file is unchanged. Where the processor lacks
an instruction (`HAS_AES`, `HAS_TILES` are false) there is another way to the same result.
"""

import ctypes
import platform
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

I8, I64, VOID = ir.IntType(8), ir.IntType(64), ir.VoidType()
_POINTER = I8.as_pointer()

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

Emit = Callable[[ir.IRBuilder, list[ir.Value]], None]


def call(b: ir.IRBuilder, name: str, result: ir.Type, *args: ir.Value) -> ir.Value:
    """Call one of LLVM's intrinsics."""
    found = b.module.globals.get(name)
    if found is None:
        found = ir.Function(b.module, ir.FunctionType(result, [a.type for a in args]), name)
    return b.call(found, args)


def at(b: ir.IRBuilder, address: ir.Value, offset: int) -> ir.Value:
    """A pointer to `offset` bytes after an address."""
    return b.gep(b.inttoptr(address, _POINTER), [ir.Constant(I64, offset)])


def instruction(emit: Emit, count: int) -> Any:
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
