"""Token selection: P1 learns one entry of a shared vector's index, P0 nothing at all.

Logits are revealed to P1 under a fresh permutation π of the whole vocabulary. P1 picks a position j
by any rule of its own and sends the one-hot of j under BFV; P0 multiplies it by its table of π, sums
and re-randomises; P1 decrypts π(j), the token.

| phase | from | to | what | payload | hop |
|---|---|---|---|---|---|
| prepare | P1 | P0 | BFV public key | `bfv.public_key_bytes` | 2 |
| offline | P2 | P1 | σ | 4·n | 1 |
| online | P0 | P1 | (π(Δ) + ρ >> s) + t | 4·n | 1 |
| online | P1 | P0 | Enc(one-hot of j) | `bfv.query_bytes` | 2 |
| online | P0 | P1 | Enc(π(j)) | `bfv.reply_bytes` | 3 |

P0 learns nothing; P1 learns the logits in random order, and the token. Source: PermLLM, section 5.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from protocols.errors import PeerError
from protocols.party import P0, P1
from protocols.permllm.bfv import (
    Selector,
    Server,
    public_key_bytes,
    query_shape,
    reply_bytes,
)
from protocols.permllm.context import Context, Step
from protocols.permllm.masked_value import Masked
from protocols.permllm.permuted_functions import Revealed

Choice = Callable[[Tensor], int]  # permuted logits, float64 (n,) → position


class Selection(Step):
    """π(j) for the position j that P1 chooses after seeing the permuted vector."""

    def __init__(self, ctx: Context, name: str) -> None:
        super().__init__(ctx, name)
        self._revealed = Revealed(ctx, name)
        self._selector: Selector | None = None  # P1
        self._server: Server | None = None  # P0
        self._seen = torch.empty(0)  # P1
        self._position = 0  # P1

    def prepare(self) -> None:
        """Fresh BFV keys at P1, the public one at P0."""
        if self.role == P1:
            self._selector = Selector()
            self.party.send(P0, self._selector.public_key())
        if self.role == P0:
            (key,) = self.receive(P1, (public_key_bytes(),), dtype=torch.uint8)
            with self._named():
                self._server = Server(key)

    def offline(self, logits: Masked) -> None:
        """Deal the permutations of logits (steps, n) or (n,); P0 encodes its tables, P1 the encryptions
        of its next one-hots."""
        index = self._revealed.offline([logits])
        for place in self.ctx.each_step():
            if self._selector is not None:
                self.keep(self._selector.prepare(logits.shape[-1]))
            if self._server is not None and index is not None:
                self.keep(self._server.load_table(index[place]))

    def shown(self, token: int | None) -> tuple[Tensor, ...]:
        """For checking: P1's token, what it saw and the position it picked; P0's permutation."""
        if token is None:
            return (self._revealed.index,)
        return torch.tensor(token), self._seen, torch.tensor(self._position)

    def online(self, logits: Masked, choose: Choice) -> int | None:
        """The chosen index at P1, None at P0."""
        seen = self._revealed.online([logits])
        if self._server is not None:
            (table,) = self.take()
            (query,) = self.receive(P1, query_shape(logits.shape[-1]), dtype=torch.uint8)
            with self._named():
                answer = self._server.answer(query, table)
            self.party.send(P1, answer)
            return None
        if self._selector is None or seen is None:
            raise RuntimeError("prepare and offline come before online")
        self._seen = seen.reshape(-1)
        self._position = choose(self._seen)
        (blank,) = self.take()
        self.party.send(P0, self._selector.query(self._position, logits.shape[-1], blank))
        (reply,) = self.receive(P0, (reply_bytes(),), dtype=torch.uint8)
        with self._named():
            return self._opened(self._selector.open(reply), logits.shape[-1])

    def _opened(self, index: int, count: int) -> int:
        if index >= count:
            raise ValueError(f"reply holds {index}, not one of 0..{count - 1}")
        return index

    @contextmanager
    def _named(self) -> Iterator[None]:
        """What BFV finds wrong in a message becomes a PeerError with the step's name."""
        try:
            yield
        except ValueError as error:
            raise PeerError(f"{self.name}: {error}") from None
