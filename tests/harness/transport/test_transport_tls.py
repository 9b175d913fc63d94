"""TLS records: what leaves is what is counted, big tensors are not copied, and none can be changed."""

import socket

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.transport import FrameError, SocketParty
from harness.transport.stream import SCRATCH_BYTES, Connection, Reader
from harness.transport.tls import RECORD_BYTES, blocks, wire_bytes
from tests.tcp import connection_pair

sizes = st.sampled_from([0, 1, 48, 1000, RECORD_BYTES - 48, RECORD_BYTES, RECORD_BYTES + 1])
large = st.integers(0, 5 * RECORD_BYTES)


@pytest.fixture(scope="module")
def ends() -> tuple[Connection, Connection]:
    return connection_pair(tls=True)


@settings(deadline=None)
@given(st.lists(st.one_of(sizes, large), min_size=1, max_size=6), st.floats(0, 1))
def test_what_is_counted_is_what_leaves_and_comes_back(
    ends: tuple[Connection, Connection], lengths: list[int], share: float
) -> None:
    whole = bytes(range(256)) * (sum(lengths) // 256 + 1)
    views, at = [], 0
    for length in lengths:
        views.append(memoryview(whole)[at : at + length])
        at += length
    here, there = ends
    records = b"".join(view for part in here.sealed(views) for view in part)
    assert len(records) == wire_bytes(at) == here.wire_bytes(at)
    here.sock.sendall(records)  # fits into the socket's buffers
    got, reader = bytearray(at), Reader(there)
    cut = round(share * at)
    for part in (memoryview(got)[:cut], memoryview(got)[cut:]):
        reader.read_into(part)
    assert got == whole[:at]
    assert not reader.buffered


def test_no_more_of_a_tensor_is_copied_than_what_its_first_and_last_record_share() -> None:
    head, tensor = memoryview(bytes(58)), memoryview(bytearray(10_000_000))
    own = [len(block) for block in blocks([head, tensor]) if block.obj is tensor.obj]
    assert sum(own) > len(tensor) - 2 * RECORD_BYTES
    assert max(own) <= SCRATCH_BYTES  # encrypted block by block: no second tensor in memory


@pytest.mark.parametrize("at", [0, 4, 7, -1])
def test_a_changed_record_is_no_message(at: int) -> None:
    """Its type, its length, its content, its tag."""
    ours, theirs = connection_pair(tls=True)
    with SocketParty("P0", {"P1": ours}, 5.0) as party, party.phase("online"):
        (part,) = theirs.sealed([memoryview(bytes(100))])
        record = bytearray(b"".join(part))
        record[at] ^= 1
        theirs.sock.sendall(record)
        theirs.sock.shutdown(socket.SHUT_WR)
        with pytest.raises(FrameError, match="P0 cannot read what P1 sent in phase online: not a"):
            party.recv("P1")
    theirs.sock.close()


def test_a_message_in_the_clear_is_no_message() -> None:
    ours, theirs = connection_pair(tls=True)
    with (
        SocketParty("P0", {"P1": ours}, 5.0) as party,
        SocketParty("P1", {"P0": Connection(theirs.sock)}, 5.0) as peer,
        party.phase("online"),
        peer.phase("online"),
    ):
        peer.send("P0", torch.zeros(3))
        with pytest.raises(FrameError, match="P0 cannot read what P1 sent in phase online: not a"):
            party.recv("P1")
