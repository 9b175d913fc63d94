"""Lookups by oblivious transfer: the right entry, that one alone, and what a bad message does."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from protocols.arith.prg import Stream, keystream_word
from protocols.errors import PeerError
from protocols.in_process_party import MemoryParty, run_parties
from protocols.party import P0, P1, ROLES, Role
from protocols.permllm.context import Context
from protocols.permllm.domain import Ring64
from protocols.permllm.oblivious_transfer import TransferLookup, entry_bytes, levels

Altered = Callable[[Tensor], Tensor]


def test_a_word_of_a_keystream_is_the_stream_s() -> None:
    key = bytes(range(16))
    words = Stream(key).int32(1030).tolist()
    for i in (0, 1, 3, 4, 1023, 1024, 1029):
        assert keystream_word(key, i) == words[i] % (1 << 32)


@pytest.mark.parametrize(
    ("size", "bits", "width"), [(1, 1, 1), (2, 1, 1), (256, 8, 1), (257, 9, 2)]
)
def test_bits_and_bytes(size: int, bits: int, width: int) -> None:
    assert (levels(size), entry_bytes(size)) == (bits, width)


def _spoil(party: MemoryParty, alter: Altered) -> None:
    send = party.send

    def altered(to: Role, *sent: Tensor) -> None:
        send(to, *map(alter, sent))

    party.send = altered  # type: ignore[method-assign]


def looked_up(
    size: int, positions: list[int], alter: dict[Role, Altered] | None = None
) -> tuple[list[int], Tensor]:
    """What P1 opens, in steps dealt at once, and the tables. alter: what a role sends online."""
    alter = alter or {}

    def walk(party: MemoryParty) -> list[int]:
        ctx = Context(party, 5, Ring64())
        with party.phase("prepare"):
            ctx.establish()
        lookup, steps = TransferLookup(ctx, "lookup", size), range(len(positions))
        with party.phase("offline"):
            ctx.begin_offline(steps)
            lookup.offline(None if party.role == P1 else tables)
        opened = []
        if party.role in alter:
            _spoil(party, alter[party.role])
        for step in steps:
            ctx.begin_online(step)
            with party.phase("online"):
                if party.role == P0:
                    lookup.asked()()
                elif party.role == P1:
                    opened.append(lookup.ask(positions[step])())
        return opened

    seeded = torch.Generator().manual_seed(size)
    tables = torch.stack([torch.randperm(size, generator=seeded) for _ in positions])
    return run_parties(dict.fromkeys(ROLES, walk))[P1], tables


@pytest.mark.parametrize("size", [1, 2, 3, 200, 256, 257, 70_000])
def test_the_entry_at_the_position(size: int) -> None:
    positions = [0, size // 2, size - 1]
    opened, tables = looked_up(size, positions)
    assert opened == [int(table[j]) for table, j in zip(tables, positions, strict=True)]


def test_another_query_opens_nothing_else() -> None:
    """P1 holds one key of each pair: with a bit of its query turned it gets the other key of that pair
    under a pad that it lacks."""
    opened, tables = looked_up(200, [77], {P1: lambda sent: sent ^ 1})
    assert opened[0] not in (int(tables[0][77]), int(tables[0][76]))


def test_bad_messages_end_the_run_with_the_step_s_name() -> None:
    with pytest.raises(PeerError, match="lookup: P1 sent uint8"):
        looked_up(200, [3], {P1: lambda sent: sent.repeat(2)})
    with pytest.raises(PeerError, match="lookup: P0 sent int64"):
        looked_up(200, [3], {P0: lambda sent: sent[1:]})
    with pytest.raises(PeerError, match="lookup: reply holds"):
        looked_up(129, [0] * 8, {P0: lambda sent: sent + 1})  # of 256 values 127 are no entry
    with pytest.raises(ValueError, match="outside"):
        looked_up(200, [200])
