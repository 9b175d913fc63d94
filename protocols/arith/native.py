"""Instructions that numba does not reach by itself: what this processor has, and how to emit them.

Kernels build theirs from LLVM's intrinsics, each in the file of the kernel that uses them: numba keeps
compiled kernels as long as their own file is unchanged. Where the processor lacks an instruction
(one of `HAS_…` is false) there is another way to the same result; to compile it there would end the
process.
"""

import ctypes
import platform
from collections.abc import Callable, Iterator
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
HAS_VNNI = bool(_FEATURES.get("avx512f") and _FEATURES.get("avx512vnni"))
HAS_IFMA = bool(HAS_AES and HAS_VNNI and _FEATURES.get("avx512bw") and _FEATURES.get("avx512ifma"))

Emit = Callable[[ir.IRBuilder, list[ir.Value]], None]
Body = Callable[[ir.Value, list[ir.Value]], list[ir.Value]]


def call(b: ir.IRBuilder, name: str, result: ir.Type, *args: ir.Value) -> ir.Value:
    """Call one of LLVM's intrinsics."""
    found = b.module.globals.get(name)
    if found is None:
        found = ir.Function(b.module, ir.FunctionType(result, [a.type for a in args]), name)
    return b.call(found, args)


def at(b: ir.IRBuilder, address: ir.Value, offset: int) -> ir.Value:
    """A pointer to `offset` bytes after an address."""
    return b.gep(b.inttoptr(address, _POINTER), [ir.Constant(I64, offset)])


def interleave(main: Iterator[None], beside: Iterator[None], each: float) -> None:
    """Emit what two generators emit between their yields, mixed: `each` parts of `beside` for one of
    `main`, so that units of the processor that do not disturb each other work at the same time."""
    owed = 0.0
    for _ in main:
        owed += each
        while owed >= 1:
            next(beside, None)
            owed -= 1
    for _ in beside:
        pass


def loop(b: ir.IRBuilder, count: ir.Value, values: list[ir.Value], body: Body) -> list[ir.Value]:
    """Emit values = body(i, values) for i = 0 … count − 1, count > 0."""
    before, inside, after = b.block, b.append_basic_block(), b.append_basic_block()
    b.branch(inside)
    b.position_at_end(inside)
    index = b.phi(I64)
    carried = [b.phi(value.type) for value in values]
    results = body(index, carried)
    following = b.add(index, ir.Constant(I64, 1))
    for phi, start, result in zip(
        [index, *carried], [ir.Constant(I64, 0), *values], [following, *results], strict=True
    ):
        phi.add_incoming(start, before)
        phi.add_incoming(result, b.block)
    b.cbranch(b.icmp_unsigned("<", following, count), inside, after)
    b.position_at_end(after)
    return results


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
        4: lambda typingctx, a, b, c, d: (signature, codegen),
        5: lambda typingctx, a, b, c, d, e: (signature, codegen),
        7: lambda typingctx, a, b, c, d, e, f, g: (signature, codegen),
    }
    return intrinsic(typed[count])
