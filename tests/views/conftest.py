"""What the tests of views put in the place of parts of PermLLM."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.fss import context, points
from baselines.fss.bits import Layout, Words
from protocols.arith.prg import Stream
from protocols.permllm import private_lookup, slot_softmax, system
from tests.views.rank import Affine

NOTHING = torch.empty(0, dtype=torch.uint8)


class IdealSelection:
    """A trusted party in place of the cipher, whose messages are `test_bfv`'s subject: here they
    are empty, and position and entry pass through the class."""

    position = entry = 0

    def __init__(self, *_: Tensor) -> None: ...

    def public_key(self) -> Tensor:
        return NOTHING

    def prepare(self, n: int) -> Tensor:
        return NOTHING

    def load_table(self, table: Tensor) -> Tensor:
        return table

    def query(self, position: int, n: int, blank: Tensor | None = None) -> Tensor:
        IdealSelection.position = position
        return NOTHING

    def answer(self, query: Tensor, table: Tensor) -> Tensor:
        IdealSelection.entry = int(table[IdealSelection.position])
        return NOTHING

    def open(self, reply: Tensor) -> int:
        return IdealSelection.entry


class IdealTrees:
    """A trusted party in place of punctured trees: values are drawn, and P0 is given all but one."""

    @staticmethod
    def key_shape(trees: int, count: int, width: int) -> tuple[int, ...]:
        return (trees, count - 1, width)

    @staticmethod
    def roots(stream: Stream, trees: int, count: int, width: int) -> Tensor:
        return stream.int64(trees, count, width)

    @staticmethod
    def values(roots: Tensor, count: int, width: int) -> Tensor:
        return roots

    @staticmethod
    def puncture(roots: Tensor, count: int, at: Tensor, width: int) -> tuple[Tensor, Tensor]:
        others = roots[torch.arange(count) != at[:, None]].reshape(len(at), count - 1, width)
        return others, roots[torch.arange(len(at)), at]

    @staticmethod
    def punctured_values(keys: Tensor, count: int, at: Tensor, width: int) -> Tensor:
        values = torch.zeros(len(at), count, width, dtype=torch.int64)
        values[torch.arange(count) != at[:, None]] = keys.reshape(-1, width)
        return values


@pytest.fixture
def affine(monkeypatch: pytest.MonkeyPatch) -> None:
    """PermLLM without shifts and without a cipher."""
    monkeypatch.setattr(slot_softmax, "Trees", IdealTrees)
    monkeypatch.setattr(system, "domain_of", lambda options: Affine())
    monkeypatch.setattr(private_lookup, "Selector", IdealSelection)
    monkeypatch.setattr(private_lookup, "Server", IdealSelection)
    monkeypatch.setattr(private_lookup, "query_shape", lambda n: NOTHING.shape, raising=False)
    monkeypatch.setattr(private_lookup, "public_key_bytes", NOTHING.numel, raising=False)
    monkeypatch.setattr(private_lookup, "reply_bytes", NOTHING.numel, raising=False)


@pytest.fixture(autouse=True)
def no_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels compile when they are needed; a rehearsal would read streams of its own."""
    monkeypatch.setattr("baselines.additive.system.warm_up", lambda: None)
    monkeypatch.setattr("baselines.puma.system.warm_up", lambda: None)
    monkeypatch.setattr("baselines.fss.system.warm_up", lambda: None)


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers of FSS travel in words of 64 bits, so that the rank test finds each one's last bit."""

    def pack(layout: Layout, count: int, values: Sequence[Words]) -> Tensor:
        return torch.from_numpy(np.concatenate([v.reshape(-1) for v in values]).view(np.uint8))

    def unpack(layout: Layout, count: int, packed: Tensor) -> list[Words]:
        words, found = packed.numpy().view(np.uint64), []
        for field in layout.fields:
            found.append(words[: field.per * count].reshape(field.per, count))
            words = words[field.per * count :]
        return found

    def size(layout: Layout, count: int) -> int:
        return 8 * count * sum(field.per for field in layout.fields)

    monkeypatch.setattr(context, "pack", pack)
    monkeypatch.setattr(context, "unpack", unpack)
    monkeypatch.setattr(points, "unpack", unpack)
    monkeypatch.setattr(Layout, "size", size)
    monkeypatch.setattr(Layout, "spare", lambda layout, count: 0)
