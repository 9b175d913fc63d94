import contextlib
import struct
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from harness.errors import FrameError
from harness.transport import frame
from harness.transport.frame import HEADER, Frame, decode, encode
from protocols.events import Stamp
from protocols.metered_party import MESSAGE_DTYPES

STAMP = Stamp("online", 3, 7, 11)

shapes = st.lists(st.integers(0, 4), max_size=5).map(tuple)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    dtype, shape = draw(st.sampled_from(MESSAGE_DTYPES)), draw(shapes)
    torch.manual_seed(draw(st.integers(0, 999)))
    raw = torch.randint(0, 256, (*shape, dtype.itemsize), dtype=torch.uint8)
    tensor = raw.gt(127).squeeze(-1) if dtype is torch.bool else raw.view(dtype).squeeze(-1)
    order = draw(st.permutations(range(len(shape))))
    return tensor.permute(order)  # rarely contiguous


def raw(parts: Frame) -> bytearray:
    return bytearray(b"".join(parts.views))


def read(data: bytes | bytearray, **options: Any) -> Any:
    at = 0

    def read_into(buffer: memoryview) -> None:
        nonlocal at
        if at + len(buffer) > len(data):
            raise EOFError
        buffer[:] = data[at : at + len(buffer)]
        at += len(buffer)

    message = decode(read_into, **options)
    assert at == len(data)
    return message


@given(st.lists(tensors(), max_size=5))
def test_round_trip(sent: list[Tensor]) -> None:
    parts = encode(STAMP, sent)
    message = read(raw(parts))
    assert message.stamp == STAMP
    assert len(message.tensors) == len(sent)
    for a, b in zip(sent, message.tensors, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert bytes(a.contiguous().numpy().tobytes()) == b.numpy().tobytes()  # NaN included
    payload = sum(tensor.numel() * tensor.dtype.itemsize for tensor in sent)
    assert (message.payload_bytes, parts.payload_bytes) == (payload, payload)
    assert message.wire_bytes == parts.wire_bytes == len(raw(parts))


def test_a_contiguous_tensor_is_sent_from_its_own_memory() -> None:
    tensor = torch.zeros(1000)
    parts = encode(STAMP, [tensor])
    tensor[0] = 1
    assert bytes(parts.views[1][:4]) == struct.pack("<f", 1)


HEAD = ["magic", "version", "phase", "tensors", "occurrence", "depth", "described", "id", "total"]


def forged(dims: tuple[int, ...] = (2, 3), **fields: Any) -> bytes:
    """A frame of one int64 tensor, with header fields replaced after it was made up."""
    described = struct.pack(f"<BB{len(dims)}Q", 4, len(dims), *dims)
    values = [b"PBFR", 2, 3, 1, 1, 0, len(described), 0, HEADER.size + len(described) + 48]
    head = dict(zip(HEAD, values, strict=True)) | fields
    return HEADER.pack(*head.values()) + described + bytes(48)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (forged(magic=b"HTTP"), "not a frame"),
        (forged(version=1), "not a frame"),
        (forged(phase=99), "phase 99"),
        (forged(tensors=1025), "phase 3 and 1025 tensors"),
        (forged(tensors=2), "descriptors of 1"),
        (forged(tensors=0, described=0), "its tensors have 0"),
        (forged(described=2**32 - 1), "descriptor bytes"),
        (forged(total=2**63), "descriptor bytes of"),
        (forged(total=0), "descriptor bytes of"),
        (forged(total=HEADER.size + 18 + 49), "its tensors have 48"),
        (forged(dims=(2**61, 8)), "shape"),
        (forged(dims=(2**32, 2**32)), "shape"),  # 2^64 elements would wrap around to none
        (forged(dims=(0, 2**63)), "shape"),
        (forged(dims=(1,) * 9, total=HEADER.size + 74 + 8), "9 dimensions|descriptor bytes"),
        (forged().replace(b"\x04\x02", b"\x63\x02"), "dtype 99"),
        (forged().replace(b"\x04\x02", b"\x04\x03"), "3 dimensions"),
        (forged(tensors=2).replace(b"\x04\x02", b"\x04\x01"), "6 bytes after its descriptors"),
        (forged().replace(b"\x04\x02", b"\x04\x01"), "8 bytes after its descriptors"),
    ],
)
def test_malformed_frames_are_refused_before_memory_is_taken(
    data: bytes, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def took_memory(*_: object) -> None:
        raise AssertionError("read a tensor of a malformed frame")

    read(forged())
    monkeypatch.setattr(frame, "_read", took_memory)
    with pytest.raises(FrameError, match=reason) as caught:
        read(data)
    assert "\n" not in str(caught.value)


@given(st.integers(0, HEADER.size + 17), st.integers(0, 255))
def test_a_changed_byte_never_breaks_the_reader(at: int, value: int) -> None:
    data = bytearray(forged())
    data[at] = value
    with contextlib.suppress(FrameError, EOFError):
        read(data)


def test_a_boolean_is_zero_or_one() -> None:
    data = raw(encode(STAMP, [torch.tensor([True, False])]))
    data[-1] = 2
    with pytest.raises(FrameError, match="boolean"):
        read(data)


def test_what_cannot_be_framed_is_refused_by_the_sender() -> None:
    unusable = [torch.zeros(1, dtype=torch.float16), torch.zeros(1, device="meta")]
    for tensor in [*unusable, torch.zeros((1,) * 9)]:
        with pytest.raises(FrameError):
            encode(STAMP, [tensor])
    with pytest.raises(FrameError, match="at most 1024 tensors"):
        encode(STAMP, [torch.zeros(1)] * 1025)
    with pytest.raises(FrameError, match="at most 1000 bytes"):
        encode(STAMP, [torch.zeros(1000)], max_bytes=1000)
