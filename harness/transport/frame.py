"""Binary framing of messages: a fixed header, one descriptor per tensor, then their raw bytes.

    header      magic 4s, version u8, phase u8, tensors u16, occurrence u32, depth u32,
                descriptor bytes u32, message id u64, frame bytes u64
    descriptor  dtype u8, dimensions u8, then each dimension u64
    data        each tensor's elements in row-major order, nothing between tensors

All numbers are little-endian. What a header and its descriptors announce is checked as a whole
before any memory is taken for it.
"""

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from harness.errors import FrameError
from protocols.events import Stamp
from protocols.metered_party import MESSAGE_DTYPES, Message
from protocols.party import Phase

MAGIC = b"PBFR"
VERSION = 2
HEADER = struct.Struct("<4sBBHIIIQQ")
MAX_TENSORS = 1024
MAX_DIMENSIONS = 8
MAX_MESSAGE_BYTES = 16 << 30

_PHASES: tuple[Phase, ...] = get_args(Phase)
_CODES = {dtype: code for code, dtype in enumerate(MESSAGE_DTYPES)}
_NUMPY = [torch.empty(0, dtype=dtype).numpy().dtype for dtype in MESSAGE_DTYPES]
_DESCRIPTORS = [struct.Struct(f"<BB{ndim}Q") for ndim in range(MAX_DIMENSIONS + 1)]

_Shape = tuple[tuple[int, ...], np.dtype[Any], int]  # dimensions, dtype, bytes

ReadInto = Callable[[memoryview], None]  # fills the buffer, or raises
OnHeader = Callable[[Stamp, int], None]  # of a stamp and the bytes of the frame


@dataclass(frozen=True)
class Frame:
    """A message ready to be written. The views share memory with the tensors that were sent.

    wire_bytes: without TLS, whose records come on top.
    """

    views: list[memoryview]
    payload_bytes: int
    wire_bytes: int


def encode(stamp: Stamp, tensors: Sequence[Tensor], max_bytes: int = MAX_MESSAGE_BYTES) -> Frame:
    """Frame a message without copying any contiguous tensor. Raises FrameError."""
    if len(tensors) > MAX_TENSORS:
        raise FrameError(f"a message has at most {MAX_TENSORS} tensors, got {len(tensors)}")
    descriptors = b"".join([_descriptor(tensor) for tensor in tensors])
    payload = sum([tensor.nbytes for tensor in tensors])
    total = HEADER.size + len(descriptors) + payload
    if total > max_bytes:
        raise FrameError(f"a message has at most {max_bytes} bytes, got {total}")
    head = HEADER.pack(
        MAGIC,
        VERSION,
        _PHASES.index(stamp.phase),
        len(tensors),
        stamp.occurrence,
        stamp.depth,
        len(descriptors),
        stamp.message_id,
        total,
    )
    views = [memoryview(head + descriptors)]
    views += [_view(tensor) for tensor in tensors if tensor.numel()]
    return Frame(views, payload, total)


def nobody(stamp: Stamp, size: int) -> None:
    """Nobody wants to know of a header."""


def decode(
    read_into: ReadInto,
    max_bytes: int = MAX_MESSAGE_BYTES,
    on_header: OnHeader = nobody,
    max_first_bytes: int | None = None,
) -> Message:
    """Read one frame from a stream, each tensor into fresh memory. Raises FrameError.

    on_header: called when the header is there and the data may still be under way.
    max_first_bytes: of its first tensor; None: as `max_bytes`.
    """
    head = bytearray(HEADER.size)
    read_into(memoryview(head))
    magic, version, phase, count, occurrence, depth, described, message_id, total = HEADER.unpack(
        head
    )
    if magic != MAGIC or version != VERSION:
        raise FrameError(f"not a frame of version {VERSION}: {bytes(head[:5])!r}")
    if phase >= len(_PHASES) or count > MAX_TENSORS:
        raise FrameError(f"frame announces phase {phase} and {count} tensors")
    if described > count * (2 + 8 * MAX_DIMENSIONS) or not HEADER.size <= total <= max_bytes:
        raise FrameError(f"frame announces {described} descriptor bytes of {total}")
    descriptors = bytearray(described)
    read_into(memoryview(descriptors))
    shapes = _shapes(descriptors, count, max_bytes)
    payload = sum([size for _, _, size in shapes])
    if HEADER.size + described + payload != total:
        raise FrameError(f"frame announces {total} bytes, but its tensors have {payload}")
    if max_first_bytes is not None and shapes and shapes[0][2] > max_first_bytes:
        raise FrameError(f"frame begins with {shapes[0][2]} bytes, allowed {max_first_bytes}")
    stamp = Stamp(_PHASES[phase], occurrence, depth, message_id)
    on_header(stamp, total)
    tensors = tuple([_read(shape, read_into) for shape in shapes])
    return Message(stamp, tensors, payload, total)


def _descriptor(tensor: Tensor) -> bytes:
    code, ndim = _CODES.get(tensor.dtype), tensor.dim()
    if code is None or not tensor.is_cpu:
        raise FrameError(f"cannot send a {tensor.dtype} tensor on {tensor.device}")
    if ndim > MAX_DIMENSIONS:
        raise FrameError(f"a tensor has at most {MAX_DIMENSIONS} dimensions, got {ndim}")
    return _DESCRIPTORS[ndim].pack(code, ndim, *tensor.shape)


def _view(tensor: Tensor) -> memoryview:
    return tensor.detach().contiguous().numpy().data.cast("B")


def _shapes(descriptors: bytearray, count: int, max_bytes: int) -> list[_Shape]:
    shapes: list[_Shape] = []
    at = 0
    for _ in range(count):
        if at + 2 > len(descriptors):
            raise FrameError(f"frame has {count} tensors, but descriptors of {len(shapes)}")
        code, ndim = descriptors[at], descriptors[at + 1]
        end = at + 2 + 8 * ndim
        if code >= len(MESSAGE_DTYPES) or ndim > MAX_DIMENSIONS or end > len(descriptors):
            raise FrameError(f"frame has a tensor of dtype {code} and {ndim} dimensions")
        dims = _DESCRIPTORS[ndim].unpack_from(descriptors, at)[2:]
        dtype = _NUMPY[code]
        # A zero must not hide dimensions that cannot be multiplied.
        if math.prod([max(dim, 1) for dim in dims]) * dtype.itemsize > max_bytes:
            raise FrameError(f"frame has a tensor of shape {dims}, over {max_bytes} bytes")
        shapes.append((dims, dtype, math.prod(dims) * dtype.itemsize))
        at = end
    if at != len(descriptors):
        raise FrameError(f"frame has {len(descriptors) - at} bytes after its descriptors")
    return shapes


def _read(shape: _Shape, read_into: ReadInto) -> Tensor:
    dims, dtype, size = shape
    # numpy asks for huge pages, torch.empty does not: 64 MB arrive in a third of the time.
    array = np.empty(dims, dtype)
    if size:
        read_into(array.data.cast("B"))
    if dtype == np.bool_ and (array.view(np.uint8) > 1).any():
        raise FrameError("frame has a boolean that is neither 0 nor 1")
    return torch.from_numpy(array)
