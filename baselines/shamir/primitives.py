"""Shamir shares of n parties: what `protocols.shares` needs.

P1 learns an index, the tokens (BERT: the hidden states), nobody anything else. P1 shares the token it got in
the next step. What P1 alone gets, t parties send it their shares of (`Context.reveal`).
"""

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import reduce as fold
from operator import itemgetter, or_
from typing import ClassVar, TypeVar

from torch import Tensor

from baselines.shamir.attention import Cache
from baselines.shamir.context import Context
from baselines.shamir.cost import NOTHING, Cost, message, reveal_cost
from baselines.shamir.dealing import Sharing, give, sent_by
from baselines.shamir.functions import FUNCTIONS, SILU_FUNCTION
from baselines.shamir.group import Group
from baselines.shamir.layer import ShamirLayer, layer_cost, share_layer_cost
from baselines.shamir.linear import Weights, share_linear, share_linear_cost, weights_cost
from baselines.shamir.maximum import argmax, argmax_cost
from baselines.shamir.openings import Running, drive, together
from baselines.shamir.preprocessing import preprocess
from baselines.shamir.share import FRAC, Share, concatenate, decode
from baselines.shamir.tables import (
    USER,
    Embedding,
    Head,
    embedding_cost,
    head_cost,
    share_embedding_cost,
    share_head_cost,
)
from baselines.shamir.truncate import multiply_truncate, truncate, truncate_cost
from protocols.arith.prg import KEY_BYTES
from protocols.errors import PeerError
from protocols.party import ALL_ROLES, Party
from protocols.shares.declared_cost import DeclaredCosts
from protocols.shares.primitives import Primitives, SharedEmbedding, SharedLinear, Tokens
from protocols.token_sampling import Picker
from protocols.transformer.model import ModelWeights
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import LayerWeights, Linear
from protocols.workload import Generation, NonlinearOp, StepPlan

T = TypeVar("T")


class ShamirLinear(SharedLinear[Share]):
    """One linear layer, its weights shared once and for all."""

    def __init__(
        self, ctx: Context, name: str, shape: tuple[int, int], own: Callable[[], Linear] | None
    ) -> None:
        self._ctx, self._name, self._shape, self._load = ctx, name, shape, own
        self._weights: Weights | None = None

    def prepare(self) -> None:
        """See the base class."""
        own = None if self._load is None else self._load()
        self._weights = share_linear(self._ctx, self._name, self._shape, own)

    def __call__(self, x: Share) -> Share:
        """See the base class."""
        return drive(self._ctx, self._truncated(x))

    async def _truncated(self, x: Share) -> Share:
        if self._weights is None:
            raise RuntimeError("prepare comes before online")
        return await truncate(self._ctx, await self._weights(self._ctx, x), FRAC)


class ShamirPrimitives(Primitives[Share]):
    """Shares at FRAC; without data in the offline pass."""

    deals: ClassVar[bool] = True

    def __init__(self, party: Party, key_seed: int | None, group: Group) -> None:
        super().__init__(party)
        self.ctx = Context(party, group, key_seed)

    @property
    def without_data(self) -> bool:
        """See the base class."""
        return self.ctx.offline_pass

    def step(self, name: str) -> AbstractContextManager[None]:
        """See the base class; errors name it."""
        return self.ctx.step(name)

    def _run(self, protocol: Running[T]) -> T:
        return drive(self.ctx, protocol)

    def establish(self) -> None:
        """See the base class."""
        self.ctx.establish()

    def begin_offline(self, step: int) -> None:
        """See the base class."""
        self.ctx.begin_offline(step)

    def preprocess(self) -> None:
        """Offline, after the step was walked: make what it needs."""
        preprocess(self.ctx)

    def begin_online(self) -> None:
        """See the base class."""
        self.ctx.begin_online()

    def end_online(self) -> None:
        """Raises RuntimeError if the two passes have not run the same way."""
        self.ctx.end_online()

    def given(self, own: Tensor | None, shape: tuple[int, ...]) -> Share:
        """See the base class."""
        if self.ctx.offline_pass:
            return Share(self.ctx.without_data(*shape))
        return Share(give(self.ctx, "input", USER, own, shape, FRAC))

    def part(self, x: Share) -> tuple[Tensor, ...]:
        """This party's share; the dealer has none."""
        return () if self.ctx.deals else (x.value,)

    def each(self, x: Share, change: Callable[[Tensor], Tensor]) -> Share:
        """See the base class."""
        return x.each(change)

    def argmax(self, x: Share) -> Tensor | None:
        """See the base class."""
        with self.step("argmax"):
            index = self._run(argmax(self.ctx, x))
        with self.step("answer"):
            found = self._indices(index, x.count)
        return None if found is None else found[0]

    def _indices(self, found: Share, count: int) -> Tensor | None:
        """At P1, None elsewhere. Raises PeerError for one that is not below `count`."""
        seen = self.ctx.reveal(found.value)
        if seen is not None and seen.numel() and int(seen.max()) >= count:
            raise PeerError(self.ctx.named("index out of range"))
        return seen

    def function(self, op: NonlinearOp, x: Share) -> Share:
        """See the base class."""
        return self._run(FUNCTIONS[op].run(self.ctx, x))

    def product(self, x: Share, y: Share) -> Share:
        """See the base class."""
        return self._run(multiply_truncate(self.ctx, x, y, FRAC))

    def softmax(self, scores: Share, visible: Tensor | None) -> Share:
        """What is not visible is low already (`attention.Cache`)."""
        return self._run(FUNCTIONS["softmax"].run(self.ctx, scores))

    def activation(self, spec: TransformerSpec, x: Share) -> Share:
        """See the base class."""
        function = SILU_FUNCTION if spec.gated else FUNCTIONS["gelu"]
        return self._run(function.run(self.ctx, x))

    def linear(
        self, name: str, shape: tuple[int, int], own: Callable[[], Linear] | None
    ) -> ShamirLinear:
        """See the base class."""
        return ShamirLinear(self.ctx, name, shape, own)

    def layer(
        self, name: str, spec: TransformerSpec, own: Callable[[], LayerWeights] | None
    ) -> ShamirLayer:
        """See the base class."""
        return ShamirLayer(self.ctx, name, spec, own)

    def cache(self, spec: TransformerSpec) -> Cache:
        """See the base class."""
        return Cache(self.ctx, spec)

    def embedding(self, spec: TransformerSpec, own: ModelWeights | None) -> Embedding:
        """See the base class."""
        return Embedding(self.ctx, spec, own)

    def head(
        self, spec: TransformerSpec, own: ModelWeights | None, embedding: SharedEmbedding[Share]
    ) -> Head:
        """See the base class."""
        if not isinstance(embedding, Embedding):
            raise TypeError("the head goes with the embedding of the same primitives")
        return Head(self.ctx, spec, own, embedding)

    def chosen(self, logits: Share, pick: Picker) -> tuple[Tokens, tuple[Tensor, ...]]:
        """The likeliest, whatever `pick` says; all tournaments go in lockstep. P1: tokens (picks, 1); every
        party: its shares of their logits, at 2·FRAC."""
        rows = [logits.each(itemgetter(row)) for row in range(logits.shape[0])]
        with self.step("argmax"):
            found = concatenate(self._run(together(*(argmax(self.ctx, row) for row in rows))))
        with self.step("answer"):
            tokens = self._indices(found, logits.shape[-1])
        if tokens is None:
            return None, self.part(logits)
        return tokens.tolist(), (tokens[:, None], logits.value)

    def reveal(self, x: Share) -> Tensor | None:
        """See the base class."""
        seen = self.ctx.reveal(x.value)
        return None if seen is None else decode(seen)


class ShamirCosts(DeclaredCosts[Cost]):
    """What the protocols declare."""

    nothing = NOTHING

    def __init__(self, group: Group) -> None:
        self._group = group

    def established(self) -> Cost:
        """`Context.establish`."""
        n = self._group.n
        pairs = [(ALL_ROLES[i], ALL_ROLES[j]) for j in range(n) for i in range(j)]
        if self._group.dealt:
            pairs += [(ALL_ROLES[n], role) for role in self._group.parties]
        return message(Counter(dict.fromkeys(pairs, KEY_BYTES)))

    def given(self, elements: int) -> Cost:
        """See the base class."""
        return message(sent_by(self._group, USER, [Sharing(elements, self._group.t)]))

    def argmax(self, n: int) -> Cost:
        """See the base class."""
        return argmax_cost(self._group, n) + reveal_cost(self._group, 1)

    def function(self, op: NonlinearOp, shape: tuple[int, ...]) -> Cost:
        """See the base class."""
        return FUNCTIONS[op].cost(self._group, shape)

    def linear(self, n: int, d_out: int, d_in: int) -> Cost:
        """See the base class."""
        return weights_cost(self._group, n, d_out, d_in) + truncate_cost(n * d_out)

    def layer(self, spec: TransformerSpec, n: int, length: int) -> Cost:
        """See the base class."""
        return layer_cost(self._group, spec, n, length)

    def embedding(self, spec: TransformerSpec, n: int) -> Cost:
        """See the base class."""
        return embedding_cost(self._group, spec, n)

    def answer(self, spec: TransformerSpec, plan: StepPlan) -> Cost:
        """See the base class."""
        if spec.family == "bert":
            return reveal_cost(self._group, plan.tokens * spec.d_model)
        picked = fold(or_, [argmax_cost(self._group, spec.vocab)] * plan.picks)
        return (
            head_cost(self._group, spec, plan.picks) + picked + reveal_cost(self._group, plan.picks)
        )

    def shared_linear(self, d_out: int, d_in: int) -> Cost:
        """See the base class."""
        return share_linear_cost(self._group, d_out, d_in)

    def shared_layer(self, spec: TransformerSpec) -> Cost:
        """See the base class."""
        return share_layer_cost(self._group, spec)

    def shared_tables(self, spec: TransformerSpec) -> Cost:
        """See the base class."""
        return share_embedding_cost(self._group, spec) + share_head_cost(self._group, spec)

    def shared_model(self, work: Generation) -> Cost:
        """In the order in which it is shared: openings of masked weights wait for one another."""
        layers = self.shared_layer(work.spec) * (1 if work.tie_layers else work.spec.n_layers)
        before = share_embedding_cost(self._group, work.spec)
        return before + layers + share_head_cost(self._group, work.spec)
