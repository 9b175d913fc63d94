"""One entry of a table of P0's for P1: P0 does not learn which, P1 learns no other.

The table is a permutation that P0 and the dealer know (`token_selection`). `BfvLookup` is the paper's:
P1 sends the one-hot of its position under BFV; P0 multiplies it by the table, sums and re-randomises; P1
decrypts the entry. `oblivious_transfer` is the other way.

| phase | from | to | what | name | payload | hop |
|---|---|---|---|---|---|---|
| prepare | P1 | P0 | BFV public key | | `bfv.public_key_bytes` | 2 |
| online | P1 | P0 | Enc(one-hot of j) | query | `bfv.query_bytes` | 1 |
| online | P0 | P1 | Enc(π(j)) | reply | `bfv.reply_bytes` | 2 |

P0 learns nothing; P1 learns π(j). Source: PermLLM, section 5.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from protocols.errors import PeerError
from protocols.party import P0, P1
from protocols.permllm.bfv import (
    Selector,
    Server,
    public_key_bytes,
    query_bytes,
    query_shape,
    reply_bytes,
)
from protocols.permllm.context import Context, Step


@dataclass(frozen=True)
class LookupBytes:
    """Payload of one lookup among `size` entries. key: in `prepare`, P1 → P0; dealt: offline, P2 → P1."""

    key: int
    dealt: int
    query: int
    reply: int


class Lookup(Step, ABC):
    """Once a step, P1 opens one entry of that step's table of `size` numbers below `size`."""

    def __init__(self, ctx: Context, name: str, size: int) -> None:
        super().__init__(ctx, name)
        self.size = size

    @staticmethod
    @abstractmethod
    def costs(size: int) -> LookupBytes:
        """What it sends."""

    @abstractmethod
    def prepare(self) -> None:
        """Keys that last."""

    @abstractmethod
    def offline(self, tables: Tensor | None) -> None:
        """tables, int64 (steps, size), at P0 and P2."""

    @abstractmethod
    def ask(self, position: int) -> Callable[[], int]:
        """P1 sends its query. Returns what receives the entry, which may come later."""

    @abstractmethod
    def asked(self) -> Callable[[], None]:
        """P0 receives the query. Returns what answers it, which may come later."""

    @contextmanager
    def as_peer_errors(self) -> Iterator[None]:
        """What is wrong in a message becomes a PeerError with the step's name."""
        try:
            yield
        except ValueError as error:
            raise PeerError(f"{self.name}: {error}") from None

    def checked(self, entry: int) -> int:
        """The entry. Raises PeerError for what no table holds."""
        if entry >= self.size:
            raise PeerError(f"{self.name}: reply holds {entry}, not one of 0..{self.size - 1}")
        return entry


class BfvLookup(Lookup):
    """By homomorphic encryption."""

    def __init__(self, ctx: Context, name: str, size: int) -> None:
        super().__init__(ctx, name, size)
        self._selector: Selector | None = None  # P1
        self._server: Server | None = None  # P0

    @staticmethod
    def costs(size: int) -> LookupBytes:
        """See `bfv`."""
        return LookupBytes(public_key_bytes(), 0, query_bytes(size), reply_bytes())

    def prepare(self) -> None:
        """Fresh BFV keys at P1, the public one at P0."""
        if self.role == P1:
            self._selector = Selector()
            self.party.send(P0, self._selector.public_key())
        if self.role == P0:
            (key,) = self.receive(P1, (public_key_bytes(),), dtype=torch.uint8)
            with self.as_peer_errors():
                self._server = Server(key)

    def offline(self, tables: Tensor | None) -> None:
        """P0 encodes its tables, P1 makes the encryptions of its next one-hots."""
        for place in self.ctx.each_step():
            if self._selector is not None:
                self.keep(self._selector.prepare(self.size))
            if self._server is not None and tables is not None:
                self.keep(self._server.load_table(tables[place]))

    def ask(self, position: int) -> Callable[[], int]:
        """See `Lookup`."""
        selector = self._selector
        if selector is None:
            raise RuntimeError("prepare and offline come before online")
        (blank,) = self.take()
        with self.party.step("query"):
            self.party.send(P0, selector.query(position, self.size, blank))

        def opened() -> int:
            with self.party.step("reply"), self.as_peer_errors():
                (reply,) = self.receive(P0, (reply_bytes(),), dtype=torch.uint8)
                return self.checked(selector.open(reply))

        return opened

    def asked(self) -> Callable[[], None]:
        """See `Lookup`."""
        server = self._server
        if server is None:
            raise RuntimeError("prepare and offline come before online")
        (table,) = self.take()
        with self.party.step("query"):
            (query,) = self.receive(P1, query_shape(self.size), dtype=torch.uint8)

        def answer() -> None:
            with self.party.step("reply"), self.as_peer_errors():
                self.party.send(P1, server.answer(query, table))

        return answer
