"""The next token's one-hot from the slot that P1 picks: choice and embedding in one hop.

After P1 has picked slot j of the permuted logits, the paper's P1 asks for the token, waits for it, and
then sends the token's one-hot to the embedding: three hops. But the token is π(j), and P0 knows π. With
variant=fused P1 sends the one-hot of the *slot* at once, beside its query for the token, and P0 puts it
in order itself:

    D = π⁻¹(onehot(j) − μ) + c = onehot(π(j)) − λ',    c = π⁻¹(μ) − λ'

which is what the next step's embedding works on. The token comes one hop into that step, while nobody
waits for it (`generation`). Two hops less a token.

| phase | from | to | what | name | payload | hop |
|---|---|---|---|---|---|---|
| offline | P2 | P0 | c | | 4·V (8·V) | 1 |
| online | P1 | P0 | onehot(j) − μ | choice | 4·V (8·V) | 1, with the query |

P0 learns nothing: μ and λ' are fresh for every token. P1 learns nothing new, and needs no token to go
on. It sends a one-hot after every token, the last one too: were it left out where the text ends, P0
could tell an answer that ended from one that was cut off. An end-of-text token is known one hop late,
and that hop is wasted.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from protocols.party import P0, P1, P2
from protocols.permllm.context import Context, Step, named
from protocols.permllm.masked_value import Masked
from protocols.permllm.token_selection import Selection


class ChosenToken(Step):
    """One-hots of `size` words, 8 bytes each where `wide`, else 4, at scale 0."""

    def __init__(self, ctx: Context, name: str, size: int, wide: bool) -> None:
        super().__init__(ctx, name)
        self._size, self._wide = size, wide
        self._mu = self._next = torch.empty(0)  # P1, P2: of the steps that are being dealt

    def masks(self) -> Masked:
        """Draw μ and λ' for the steps under way. Returns λ', (steps, size): the masks of the inputs that
        the steps after them begin with."""
        shape = (len(self.ctx.steps), self._size)
        if self.role == P0:
            return Masked(shape, 0, None)
        stream = self.ctx.p1p2(self.name)
        draw = self.domain.mask if self._wide else self.domain.narrow_mask
        self._mu, self._next = draw(stream, *shape), draw(stream, *shape)
        return Masked(shape, 0, self._next)

    def offline(self, index: Tensor | None) -> None:
        """index: π of each step, int64 (steps, size), at P0 and P2."""
        if self.role == P0:
            shape = (len(self.ctx.steps), self._size)
            (correction,) = self.receive(P2, shape, dtype=self._dtype)  # c
            self.keep_each(correction)
        elif self.role == P1:
            self.keep_each(self._mu)
        elif index is not None:
            restored = torch.empty_like(self._mu).scatter_(1, index, self._mu)  # π⁻¹(μ)
            self.party.send(P0, restored - self._next)  # c = π⁻¹(μ) − λ'   (steps, size)

    @named
    def send(self, slot: int) -> Masked:
        """P1: onehot(j) − μ."""
        (mu,) = self.take()
        onehot = torch.zeros(1, self._size, dtype=self._dtype)
        onehot[0, slot] = 1
        self.party.send(P0, onehot - mu)
        return Masked((1, self._size), 0, None)

    @named
    def receive_next(self, index: Tensor) -> Masked:
        """P0: D, for π = index (size,)."""
        (delta,) = self.take()
        (sent,) = self.receive(P1, (1, self._size), dtype=self._dtype)
        delta[:, index] += sent  # D = π⁻¹(onehot(j) − μ) + c
        return Masked((1, self._size), 0, delta)

    @property
    def _dtype(self) -> torch.dtype:
        return self.domain.dtype if self._wide else self.domain.window_dtype


class Overlap:
    """One role's part in steps that overlap: the next one-hot, and the token that is still to come."""

    def __init__(self, ctx: Context, chosen: ChosenToken) -> None:
        self._ctx, self._chosen = ctx, chosen
        self._mask: Masked | None = None  # offline: of the first input of the next batch
        self._given: Masked | None = None  # online: the next step's input
        self._rest: Callable[[], int | None] = lambda: None
        self._picked = torch.empty(0)  # P1: the slot; P0: the permutation
        self.paid: tuple[
            Tensor, ...
        ] = ()  # of the step before: P1's token and slot; P0's permutation

    def masks(self, prompt: Masked | None) -> Masked:
        """The inputs of the steps under way: the prompt's, or those that the steps before choose."""
        fresh, steps = self._chosen.masks(), len(self._ctx.steps)
        before, self._mask = self._mask, fresh.narrow(0, steps - 1, 1)
        if prompt is not None:
            return prompt
        if before is None:
            raise RuntimeError("the prompt comes first")
        return Masked.cat([before, fresh.narrow(0, 0, steps - 1)], dim=0)

    def offline(self, index: Tensor | None) -> None:
        """See `ChosenToken.offline`."""
        self._chosen.offline(index)

    def begin(self) -> Masked:
        """The input of a step. The token before it comes when this role would wait anyway: P0 has sent
        its first message; P1 has replied to it."""
        if self._given is None:
            raise RuntimeError("the prompt comes first")
        self._ctx.owe(self._pay, messages=1 if self._ctx.role == P1 else 0)
        return self._given

    def _pay(self) -> None:
        token = self._rest()
        self.paid = (self._picked,) if token is None else (torch.tensor(token), self._picked)

    def end(self, selection: Selection, last: bool) -> int | None:
        """Choice, one-hot and query; P1's token where the step is the last."""
        if self._ctx.role == P1:
            self._given = self._chosen.send(selection.slot)
            self._picked = torch.tensor(selection.slot)
        else:
            self._given = self._chosen.receive_next(selection.index)
            self._picked = selection.index
        self._rest = selection.look_up()
        return self._rest() if last else None
