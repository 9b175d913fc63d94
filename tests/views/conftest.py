"""What the tests of views put in the place of parts of PermLLM."""

import pytest
import torch
from torch import Tensor

from protocols.permllm import system, token_selection
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


@pytest.fixture
def affine(monkeypatch: pytest.MonkeyPatch) -> None:
    """PermLLM without shifts and without a cipher."""
    monkeypatch.setattr(system, "domain_of", lambda options: Affine())
    monkeypatch.setattr(token_selection, "Selector", IdealSelection)
    monkeypatch.setattr(token_selection, "Server", IdealSelection)
    monkeypatch.setattr(token_selection, "query_shape", lambda n: NOTHING.shape, raising=False)
    monkeypatch.setattr(token_selection, "public_key_bytes", NOTHING.numel, raising=False)
    monkeypatch.setattr(token_selection, "reply_bytes", NOTHING.numel, raising=False)


@pytest.fixture(autouse=True)
def no_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels compile when they are needed; a rehearsal would read streams of its own."""
    monkeypatch.setattr("baselines.mpcformer.system.warm_up", lambda: None)
    monkeypatch.setattr("baselines.puma.system.warm_up", lambda: None)
