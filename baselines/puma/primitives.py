"""Replicated shares of three parties: what `protocols.shares` needs.

P1 learns an index, the tokens (BERT: the hidden states), nobody anything else. P1 shares the token it got in
the next step. Hidden states are revealed by `share_and_reveal`, 64 bits an element.
"""

from collections.abc import Callable
from functools import reduce
from operator import itemgetter, or_
from typing import TypeVar

import torch
from torch import Tensor

from baselines.puma.attention import Cache
from baselines.puma.context import Context
from baselines.puma.cost import NOTHING, Cost
from baselines.puma.embedding import USER
from baselines.puma.functions import APPROXIMATIONS, functions
from baselines.puma.layer import PumaLayer, layer_cost, share_layer_cost
from baselines.puma.linear import WeightShares, share_linear, share_linear_cost
from baselines.puma.maximum import argmax, argmax_cost
from baselines.puma.options import PumaOptions
from baselines.puma.round_scheduler import Running, drive, together
from baselines.puma.share import FRAC, Share, decode, encode
from baselines.puma.share_and_reveal import give, give_cost, reveal, reveal_cost
from baselines.puma.tables import Embedding, Head, embedding_cost, head_cost, share_tables_cost
from baselines.puma.truncate import multiply_truncate, truncate, truncate_cost
from protocols.party import Party
from protocols.shares.declared_cost import DeclaredCosts
from protocols.shares.primitives import Primitives, SharedEmbedding, SharedLinear, Tokens
from protocols.token_sampling import Picker
from protocols.transformer.model import ModelWeights
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import LayerWeights, Linear
from protocols.workload import NonlinearOp, StepPlan

T = TypeVar("T")


class PumaLinear(SharedLinear[Share]):
    """One linear layer, its weights shared once and for all."""

    def __init__(
        self,
        party: Party,
        ctx: Context,
        shape: tuple[int, int],
        own: Callable[[], Linear] | None,
    ) -> None:
        self._party, self._ctx, self._shape, self._load = party, ctx, shape, own
        self._shares: WeightShares | None = None

    def prepare(self) -> None:
        """See the base class."""
        own = None if self._load is None else self._load()
        self._shares = drive(self._party, share_linear(self._ctx, self._shape, own))

    def __call__(self, x: Share) -> Share:
        """See the base class."""
        if self._shares is None:
            raise RuntimeError("prepare comes before online")
        return drive(self._party, truncate(self._ctx, self._shares(x), FRAC))


class PumaPrimitives(Primitives[Share]):
    """Shares at FRAC. There is no offline phase."""

    def __init__(self, party: Party, key_seed: int | None, options: PumaOptions) -> None:
        super().__init__(party)
        self.ctx = Context(party.role, key_seed, party.step)
        self._approx, self._chosen = options.approx, APPROXIMATIONS[options.approx]

    def _run(self, protocol: Running[T]) -> T:
        return drive(self.party, protocol)

    def establish(self) -> None:
        """See the base class."""
        self._run(self.ctx.establish())

    def begin_offline(self, step: int) -> None:
        """Fresh streams for an evaluation; nothing is sent."""
        if step == 0:
            self.ctx.begin_evaluation()

    def given(self, own: Tensor | None, shape: tuple[int, ...]) -> Share:
        """See the base class."""
        x = None if own is None else encode(own, FRAC)
        return self._run(give(self.ctx, USER, x, shape, FRAC))

    def part(self, x: Share) -> tuple[Tensor, ...]:
        """This role's first part."""
        return (x.first,)

    def each(self, x: Share, change: Callable[[Tensor], Tensor]) -> Share:
        """See the base class."""
        return x.each(change)

    def argmax(self, x: Share) -> Tensor | None:
        """See the base class."""
        with self.party.step("argmax"):
            index = self._run(argmax(self.ctx, x))
        return None if index is None else torch.tensor(index)

    def function(self, op: NonlinearOp, x: Share) -> Share:
        """See the base class."""
        return self._run(functions(self._approx)[op].run(self.ctx, x))

    def product(self, x: Share, y: Share) -> Share:
        """See the base class."""
        return self._run(multiply_truncate(self.ctx, x, y, FRAC))

    def softmax(self, scores: Share, visible: Tensor | None) -> Share:
        """See the base class."""
        length = scores.shape[-1]
        seen = None if visible is None else visible.expand(scores.shape).reshape(-1, length)
        protocol = self._chosen.softmax.run(self.ctx, scores.reshape(-1, length), seen)
        return self._run(protocol).reshape(*scores.shape)

    def activation(self, spec: TransformerSpec, x: Share) -> Share:
        """See the base class."""
        function = self._chosen.silu if spec.gated else self._chosen.gelu
        return self._run(function.run(self.ctx, x))

    def linear(
        self, name: str, shape: tuple[int, int], own: Callable[[], Linear] | None
    ) -> PumaLinear:
        """See the base class."""
        return PumaLinear(self.party, self.ctx, shape, own)

    def layer(
        self, name: str, spec: TransformerSpec, own: Callable[[], LayerWeights] | None
    ) -> PumaLayer:
        """See the base class."""
        return PumaLayer(self.party, self.ctx, spec, own, self._chosen.norm)

    def cache(self, spec: TransformerSpec) -> Cache:
        """See the base class."""
        return Cache(self.party, self.ctx, spec, self._chosen.softmax)

    def embedding(self, spec: TransformerSpec, own: ModelWeights | None) -> Embedding:
        """See the base class."""
        return Embedding(self.party, self.ctx, spec, own, self._chosen.norm)

    def head(
        self, spec: TransformerSpec, own: ModelWeights | None, embedding: SharedEmbedding[Share]
    ) -> Head:
        """See the base class."""
        if not isinstance(embedding, Embedding):
            raise TypeError("the head goes with the embedding of the same primitives")
        return Head(self.party, self.ctx, spec, own, embedding, self._chosen.norm)

    def chosen(self, logits: Share, pick: Picker) -> tuple[Tokens, tuple[Tensor, ...]]:
        """The likeliest, whatever `pick` says; all tournaments go in lockstep. P1: tokens (picks, 1); every
        role: its first part of their logits, at 2·FRAC."""
        rows = [logits.each(itemgetter(row)) for row in range(logits.shape[0])]
        with self.party.step("argmax"):
            found = self._run(together(*(argmax(self.ctx, row) for row in rows)))
        tokens = [token for token in found if token is not None]
        if not tokens:
            return None, self.part(logits)
        return tokens, (torch.tensor(tokens)[:, None], logits.first)

    def reveal(self, x: Share) -> Tensor | None:
        """See the base class."""
        seen = self._run(reveal(self.ctx, x))
        return None if seen is None else decode(seen, FRAC)


class PumaCosts(DeclaredCosts[Cost]):
    """What the protocols declare."""

    nothing = NOTHING

    def __init__(self, options: PumaOptions) -> None:
        self._approx, self._chosen = options.approx, APPROXIMATIONS[options.approx]

    def given(self, elements: int) -> Cost:
        """See the base class."""
        return give_cost(USER, elements)

    def argmax(self, n: int) -> Cost:
        """See the base class."""
        return argmax_cost(n)

    def function(self, op: NonlinearOp, shape: tuple[int, ...]) -> Cost:
        """See the base class."""
        return functions(self._approx)[op].cost(shape)

    def linear(self, n: int, d_out: int, d_in: int) -> Cost:
        """See the base class."""
        return truncate_cost(n * d_out)

    def layer(self, spec: TransformerSpec, n: int, length: int) -> Cost:
        """See the base class."""
        return layer_cost(spec, n, length, self._chosen)

    def embedding(self, spec: TransformerSpec, n: int) -> Cost:
        """See the base class."""
        return embedding_cost(spec, n, self._chosen.norm)

    def answer(self, spec: TransformerSpec, plan: StepPlan) -> Cost:
        """See the base class."""
        if spec.family == "bert":
            return reveal_cost(plan.tokens * spec.d_model)
        picked = reduce(or_, [argmax_cost(spec.vocab)] * plan.picks)
        return head_cost(spec, plan.picks, self._chosen.norm) + picked

    def shared_linear(self, d_out: int, d_in: int) -> Cost:
        """See the base class."""
        return share_linear_cost(d_out, d_in)

    def shared_layer(self, spec: TransformerSpec) -> Cost:
        """See the base class."""
        return share_layer_cost(spec)

    def shared_tables(self, spec: TransformerSpec) -> Cost:
        """See the base class."""
        return share_tables_cost(spec)
